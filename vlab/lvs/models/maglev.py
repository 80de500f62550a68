"""mh, Google's Maglev hashing: few clients change their server when the list of servers changes. Pure.

Its two SipHash keys are constants of the source (``generate_hash_secret`` of ip_vs_mh.c), not random, so the whole table can be
computed; on a 32-bit kernel it is another one (see ``hsiphash``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import gcd

from vlab.lvs.models.hashing import fold, hsiphash
from vlab.lvs.models.server import Arrival, Key, Server
from vlab.lvs.models.tables import owner

FIRST = (2654435761, 2654435761)
SECOND = (2654446892, 2654446892)

_PRIMES = (251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071)


@dataclass(frozen=True, slots=True)
class Maglev:
    """``ip_vs_mh_schedule`` of ip_vs_mh.c. ``port`` and ``fallback`` are the flags mh-port and mh-fallback; ``index`` is
    CONFIG_IP_VS_MH_TAB_INDEX, 8 to 17, by default 12: 4093 buckets."""

    port: bool = False
    fallback: bool = False
    index: int = 12
    buckets: tuple[Key, ...] = ()

    @property
    def size(self) -> int:
        return _PRIMES[self.index - 8]

    def choose(self, servers: Sequence[Server], arrival: Arrival) -> tuple[Server | None, Maglev]:
        if not self.buckets:
            return None, self
        tries = islice(self._tries(arrival), None if self.fallback else 1)
        return owner(servers, self.buckets, tries), self

    def _tries(self, arrival: Arrival) -> Iterator[int]:
        """The client's own bucket, then as many others as the table has (``ip_vs_mh_get_fallback``); not each of them once."""
        client = fold(arrival.client) + (arrival.port if self.port else 0)
        own = hsiphash(client, FIRST) % self.size
        yield own
        for offset in range(self.size):
            yield hsiphash(client + (own + offset) % self.size, FIRST) % self.size

    def changed(self, _before: Sequence[Server], after: Sequence[Server]) -> Maglev:
        """A quiesced server keeps the buckets of its last weight above 0, so its clients can come back to it."""
        turns = _turns([server.standing_weight for server in after], self.index // 2)
        wishes = [self._wishes(server) for server in after]
        return replace(self, buckets=tuple(after[owner].key for owner in _filled(turns, wishes, self.size)))

    def _wishes(self, server: Server) -> Iterator[int]:
        """Every bucket in the order this server likes them (``ip_vs_mh_permutate``)."""
        identity = fold(server.address) + server.port
        offset = hsiphash(identity, FIRST) % self.size
        skip = hsiphash(identity, SECOND) % (self.size - 1) + 1
        return ((offset + skip * turn) % self.size for turn in range(self.size))


def _turns(weights: Sequence[int], bits: int) -> list[int]:
    """How many buckets each takes when it is its turn: weights without their common divisor, cut down to ``bits`` bits, at least
    1 (``ip_vs_mh_gcd_weight``, ``ip_vs_mh_shift_weight``)."""
    common = gcd(*weights) or 1
    shift = max(0, (max(weights, default=0) // common).bit_length() - bits)
    return [weight // common >> shift or min(weight, 1) for weight in weights]


def _filled(turns: Sequence[int], wishes: Sequence[Iterator[int]], size: int) -> list[int]:
    """The owner of each bucket (``ip_vs_mh_populate``): in turn, each takes what it likes best of what is free. Empty when no
    server ever had a weight."""
    if not any(turns):
        return []
    owners: dict[int, int] = {}
    while True:
        for server, turn in enumerate(turns):
            for _ in range(turn):
                owners[next(bucket for bucket in wishes[server] if bucket not in owners)] = server
                if len(owners) == size:
                    return [owners[bucket] for bucket in range(size)]
