"""Schedulers without memory, that look at weights and connections only: lc, wlc, sed, nq, fo, ovf. Pure.

The first in the list wins among equals, always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vlab.lvs.models.server import Arrival, Server, least


@dataclass(frozen=True, slots=True)
class ByLoad:
    """A rule that takes the servers in the list's order."""

    rule: Callable[[Sequence[Server]], Server | None]

    def choose(self, servers: Sequence[Server], _arrival: Arrival) -> tuple[Server | None, ByLoad]:
        return self.rule(servers), self

    def changed(self, _before: Sequence[Server], _after: Sequence[Server]) -> ByLoad:
        return self


def lc(servers: Sequence[Server]) -> Server | None:
    """``ip_vs_lc_schedule`` of ip_vs_lc.c: the least overhead; weights matter only in being 0."""
    return min(_available(servers), key=lambda server: server.overhead, default=None)


def wlc(servers: Sequence[Server]) -> Server | None:
    """``ip_vs_wlc_schedule`` of ip_vs_wlc.c: the least overhead / weight."""
    return least(servers)


def sed(servers: Sequence[Server]) -> Server | None:
    """``ip_vs_sed_schedule`` of ip_vs_sed.c: the least (active + 1) / weight, the delay a connection must expect."""
    found: Server | None = None
    for server in _available(servers):
        if found is None or (found.active + 1) * server.weight > (server.active + 1) * found.weight:
            found = server
    return found


def nq(servers: Sequence[Server]) -> Server | None:
    """``ip_vs_nq_schedule`` of ip_vs_nq.c: the first server without an active connection, whatever its weight; else as sed."""
    return next((server for server in _available(servers) if server.active == 0), None) or sed(servers)


def fo(servers: Sequence[Server]) -> Server | None:
    """``ip_vs_fo_schedule`` of ip_vs_fo.c: the highest weight."""
    return max(_available(servers), key=lambda server: server.weight, default=None)


def ovf(servers: Sequence[Server]) -> Server | None:
    """``ip_vs_ovf_schedule`` of ip_vs_ovf.c: the highest weight among those whose active connections do not exceed it, so a
    server gets one more than its weight. When all exceed it, the connection is refused."""
    return fo([server for server in servers if server.active <= server.weight])


def _available(servers: Sequence[Server]) -> list[Server]:
    return [server for server in servers if server.available]
