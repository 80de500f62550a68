"""Schedulers for caches, which remember by destination address who served it: lblc and lblcr. Pure.

Outside the models, because it is a matter of time: an entry that nobody used for a day is forgotten, earlier when the table has
more than 16,384 (``ip_vs_lblc_check_expire``), and lblcr takes the most loaded server out of a set that nothing changed for
lblcr_expiration, a day by default (``ip_vs_dest_set_max``). Entries are found by a hash, which decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlab.lvs.models.server import Address, Arrival, Key, Server, least

Sets = tuple[tuple[Address, tuple[Key, ...]], ...]
"""For each VIP the servers that served it, the newest first."""


@dataclass(frozen=True, slots=True)
class Locality:
    """``ip_vs_lblc_schedule`` of ip_vs_lblc.c: a VIP's last server while it has a weight and is not ``swamped``; else, and for a new
    VIP, the one wlc would take. The last server is taken also when it is over its upper threshold: lblc does not look."""

    cache: Sets = ()

    def choose(self, servers: Sequence[Server], arrival: Arrival) -> tuple[Server | None, Locality]:
        known = _members(servers, self.cache, arrival.vip)
        if known and known[0].weight > 0 and not swamped(known[0], servers):
            return known[0], self
        found = least(servers)
        return found, self if found is None else Locality(_with(self.cache, arrival.vip, (found.key,)))

    def changed(self, _before: Sequence[Server], _after: Sequence[Server]) -> Locality:
        return self


@dataclass(frozen=True, slots=True)
class ReplicatedLocality:
    """``ip_vs_lblcr_schedule`` of ip_vs_lblcr.c: the least loaded of a VIP's set of servers (``ip_vs_dest_set_min``), unless that is
    ``swamped`` or nobody of the set is available; then the one wlc would take, and it joins the set."""

    cache: Sets = ()

    def choose(self, servers: Sequence[Server], arrival: Arrival) -> tuple[Server | None, ReplicatedLocality]:
        known = least(_members(servers, self.cache, arrival.vip))
        if known is not None and not swamped(known, servers):
            return known, self
        found = least(servers)
        return found, self if found is None else self._joined(arrival.vip, found.key)

    def _joined(self, vip: Address, key: Key) -> ReplicatedLocality:
        members = _keys(self.cache, vip)
        return self if key in members else ReplicatedLocality(_with(self.cache, vip, (key, *members)))

    def changed(self, _before: Sequence[Server], _after: Sequence[Server]) -> ReplicatedLocality:
        return self


def swamped(server: Server, servers: Sequence[Server]) -> bool:
    """``is_overloaded`` of both files: more active connections than its weight, while another has less than half of its own."""
    return server.active > server.weight and any(other.active * 2 < other.weight for other in servers)


def _keys(cache: Sets, vip: Address) -> tuple[Key, ...]:
    return next((keys for known, keys in cache if known == vip), ())


def _members(servers: Sequence[Server], cache: Sets, vip: Address) -> list[Server]:
    """Those that are in the service (again): the kernel keeps references to servers that were removed, and ignores them."""
    by_key = {server.key: server for server in servers}
    return [by_key[key] for key in _keys(cache, vip) if key in by_key]


def _with(cache: Sets, vip: Address, keys: tuple[Key, ...]) -> Sets:
    return *((known, others) for known, others in cache if known != vip), (vip, keys)
