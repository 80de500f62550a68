"""Schedulers with a table of buckets, filled from the list of servers: sh and dh. Pure.

A bucket keeps its server also when that is quiesced or overloaded: its clients are refused, until servers change (or, with
sh-fallback, another bucket's server takes them). A server of weight 0 still has its bucket in each turn of the filling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

from vlab.lvs.models.hashing import fold, hash_32
from vlab.lvs.models.server import Arrival, Key, Server, place

BITS = 8
"""CONFIG_IP_VS_SH_TAB_BITS and CONFIG_IP_VS_DH_TAB_BITS, by default (ip_vs' Kconfig)."""

SIZE = 1 << BITS


def owner(servers: Sequence[Server], buckets: Sequence[Key], tries: Iterable[int]) -> Server | None:
    """Of the buckets in the order they are tried, the first whose server takes connections."""
    owners = (servers[place(servers, buckets[bucket])] for bucket in tries)
    return next((server for server in owners if server.available), None)


@dataclass(frozen=True, slots=True)
class SourceHash:
    """``ip_vs_sh_schedule`` of ip_vs_sh.c: by the client's address; ``port`` and ``fallback`` are the flags sh-port and
    sh-fallback. ``buckets`` are filled by ``ip_vs_sh_reassign``: to each server in turn as many as its weight."""

    port: bool = False
    fallback: bool = False
    buckets: tuple[Key, ...] = ()

    def choose(self, servers: Sequence[Server], arrival: Arrival) -> tuple[Server | None, SourceHash]:
        if not self.buckets:
            return None, self
        tries = islice(self._tries(arrival), None if self.fallback else 1)
        return owner(servers, self.buckets, tries), self

    def _tries(self, arrival: Arrival) -> Iterator[int]:
        """The client's own bucket; then, with fallback, all of them from twice its number on (``ip_vs_sh_get_fallback``)."""
        own = hash_32(fold(arrival.client) + (arrival.port if self.port else 0), BITS)
        yield own
        yield from ((own + own + offset) % SIZE for offset in range(SIZE))

    def changed(self, _before: Sequence[Server], after: Sequence[Server]) -> SourceHash:
        turn = [server.key for server in after for _ in range(max(1, server.weight))]
        return replace(self, buckets=tuple(islice(cycle(turn), SIZE)))


@dataclass(frozen=True, slots=True)
class DestinationHash:
    """``ip_vs_dh_schedule`` of ip_vs_dh.c: by the VIP; ``ip_vs_dh_reassign`` gives each server one bucket in turn, whatever its
    weight."""

    buckets: tuple[Key, ...] = ()

    def choose(self, servers: Sequence[Server], arrival: Arrival) -> tuple[Server | None, DestinationHash]:
        if not self.buckets:
            return None, self
        owner = servers[place(servers, self.buckets[hash_32(fold(arrival.vip), BITS)])]
        return owner if owner.available else None, self

    def changed(self, _before: Sequence[Server], after: Sequence[Server]) -> DestinationHash:
        return DestinationHash(tuple(islice(cycle(server.key for server in after), SIZE)))
