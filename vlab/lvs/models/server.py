"""What a scheduler sees: servers in the kernel's order, and a connection that arrives.

The kernel puts each new destination at the head of a service's list (``__ip_vs_update_dest`` in ip_vs_ctl.c, list_add_rcu), so a
list is in the reverse of the order in which servers were added. «First» in a scheduler means first in that list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

Address = IPv4Address | IPv6Address
Key = tuple[Address, int]
"""A destination's identity in its service: address and port."""


@dataclass(frozen=True, slots=True)
class Server:
    """A destination with its counters. ``upper`` and ``lower`` are ipvsadm's thresholds, 0 for none; ``overloaded`` is the
    kernel's IP_VS_DEST_F_OVERLOAD, which remembers that ``upper`` was reached. ``last_weight`` is the last weight above 0
    (None: ``weight``); only mh asks for it."""

    address: Address
    port: int = 80
    weight: int = 1
    upper: int = 0
    lower: int = 0
    active: int = 0
    inactive: int = 0
    overloaded: bool = False
    last_weight: int | None = None

    @property
    def key(self) -> Key:
        return self.address, self.port

    @property
    def connections(self) -> int:
        return self.active + self.inactive

    @property
    def overhead(self) -> int:
        """``ip_vs_dest_conn_overhead`` of include/net/ip_vs.h: an active connection is worth 256 others."""
        return self.active * 256 + self.inactive

    @property
    def available(self) -> bool:
        """May it get a new connection, as nearly every scheduler sees it?"""
        return self.weight > 0 and not self.overloaded

    @property
    def standing_weight(self) -> int:
        return self.weight if self.last_weight is None else self.last_weight

    def weighed(self, weight: int) -> Server:
        """With a new weight, ``__ip_vs_update_dest`` of ip_vs_ctl.c: the last one above 0 is kept beside it."""
        return replace(self, weight=weight, last_weight=weight or self.standing_weight)

    def opened(self) -> Server:
        """One connection more, ``ip_vs_bind_dest`` of ip_vs_conn.c. It counts as active at once: with its first packet a TCP
        connection is in SYN_RECV, an active state of ip_vs_proto_tcp.c. (UDP's are inactive from the start: close them at once.)"""
        more = replace(self, active=self.active + 1)
        return replace(more, overloaded=True) if 0 < more.upper <= more.connections else more

    def closed(self) -> Server:
        """An active connection saw its first FIN. It stays in the table, inactive, so no threshold changes its mind."""
        return replace(self, active=self.active - 1, inactive=self.inactive + 1)

    def expired(self) -> Server:
        """An inactive connection left the table, ``ip_vs_unbind_dest`` of ip_vs_conn.c: below ``lower``, or without one below
        three quarters of ``upper``, the server is open again."""
        fewer = replace(self, inactive=self.inactive - 1)
        below = fewer.connections < fewer.lower if fewer.lower else fewer.connections * 4 < fewer.upper * 3
        return replace(fewer, overloaded=False) if below or not (fewer.lower or fewer.upper) else fewer


@dataclass(frozen=True, slots=True)
class Arrival:
    """The first packet of a connection. ``draws`` are the two random numbers that the kernel takes for it; only twos does."""

    client: Address
    port: int
    vip: Address
    draws: tuple[int, int] = (0, 0)


class Scheduler(Protocol):
    """An algorithm together with its memory (cursor, table, cache); a value, never changed."""

    def choose(self, servers: Sequence[Server], arrival: Arrival) -> tuple[Server | None, Scheduler]:
        """The server for ``arrival``, None when the connection is refused, and the scheduler after it."""
        ...

    def changed(self, before: Sequence[Server], after: Sequence[Server]) -> Scheduler:
        """The scheduler after servers were added, removed or given other weights."""
        ...


def place(servers: Sequence[Server], key: Key | None) -> int:
    """Where in the list ``key`` is; -1, the list's head, for None and for a server that is not there."""
    return next((at for at, server in enumerate(servers) if server.key == key), -1)


def least(servers: Iterable[Server]) -> Server | None:
    """The available server with the least overhead / weight, the first of equals: ``ip_vs_wlc_schedule`` of ip_vs_wlc.c and the
    function of the same purpose in lblc and lblcr."""
    found: Server | None = None
    for server in servers:
        if server.available and (found is None or found.overhead * server.weight > server.overhead * found.weight):
            found = server
    return found
