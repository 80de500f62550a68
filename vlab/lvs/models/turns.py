"""Schedulers that go round the list: rr and wrr. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd

from vlab.lvs.models.server import Arrival, Key, Server, place


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """``ip_vs_rr_schedule`` of ip_vs_rr.c: the next available server behind the one that was chosen last (``cursor``; None is the
    list's head). Weights matter only in being 0."""

    cursor: Key | None = None

    def choose(self, servers: Sequence[Server], _arrival: Arrival) -> tuple[Server | None, RoundRobin]:
        behind = place(servers, self.cursor) + 1
        found = next((server for server in (*servers[behind:], *servers[:behind]) if server.available), None)
        return found, self if found is None else RoundRobin(found.key)

    def changed(self, before: Sequence[Server], after: Sequence[Server]) -> RoundRobin:
        """``ip_vs_rr_del_dest``: when the chosen server goes, the cursor steps back, so nobody is passed over."""
        if place(after, self.cursor) >= 0:
            return self
        at = place(before, self.cursor)
        return RoundRobin(before[at - 1].key if at > 0 else None)


@dataclass(frozen=True, slots=True)
class WeightedRoundRobin:
    """``ip_vs_wrr_schedule`` of ip_vs_wrr.c. It goes round as often as the heaviest weight has steps; in each round those servers
    get a connection whose weight reaches ``level``, which falls from ``top`` by ``step``, the weights' common divisor, and then
    begins anew."""

    cursor: Key | None = None
    level: int = 0
    top: int = 0
    step: int = 1

    def choose(self, servers: Sequence[Server], _arrival: Arrival) -> tuple[Server | None, WeightedRoundRobin]:
        if self.top == 0:
            return None, self
        at, level = place(servers, self.cursor), self.level
        for index, level in self._visits(at, len(servers)):
            if servers[index].weight >= level and not servers[index].overloaded:
                return servers[index], replace(self, cursor=servers[index].key, level=level)
        if at >= 0 and self.level <= self.step:
            return None, replace(self, level=level)  # the search ended where it began
        return None, replace(self, cursor=None, level=self.top)

    def _visits(self, at: int, servers: int) -> Iterator[tuple[int, int]]:
        """Which server is held against which level, in order, until all were held against the lowest."""
        yield from ((index, self.level) for index in range(at + 1, servers))
        if at < 0 or self.level > self.step:
            yield from _rounds(range(self.level - self.step, 0, -self.step), servers)
            return
        *higher, lowest = range(self.top, 0, -self.step)
        yield from _rounds(higher, servers)
        yield from ((index, lowest) for index in range(at + 1))

    def changed(self, _before: Sequence[Server], after: Sequence[Server]) -> WeightedRoundRobin:
        """``ip_vs_wrr_dest_changed``: back to the list's head, and to a level that the new weights have."""
        weights = [server.weight for server in after if server.weight > 0]
        step = gcd(*weights) or 1
        top = max(weights, default=0) - (step - 1)
        if self.level > top or not self.level:
            return WeightedRoundRobin(None, top, top, step)
        return WeightedRoundRobin(None, self.level // step * step + 1 if step > 1 else self.level, top, step)


def _rounds(levels: Sequence[int], servers: int) -> Iterator[tuple[int, int]]:
    return ((index, level) for level in levels for index in range(servers))
