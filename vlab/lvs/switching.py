"""A running service goes over to another mode without losing requests: first the real servers get what the new mode needs beside what
the old one does, then the director switches, then what only the old mode needed goes.

Both sets of settings live together because replies of dr and tun are told apart from those of nat by their source address.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from vlab.guests.base import Channel
from vlab.guests.settings import Route, Settings, Sysctl
from vlab.lvs import ipvsadm, procfs
from vlab.lvs.ipvs import Table
from vlab.lvs.modes import mode
from vlab.lvs.moves import moves
from vlab.lvs.status import TIMEOUT
from vlab.topology.lab import Service

LANDS_WITHIN = 5.0
"""Seconds that keepalived may take to read its file again; a director that takes longer is not waited for."""

# ip_vs keeps one route a real server, whatever mode asked for it (__ip_vs_get_out_rt in net/netfilter/ipvs/ip_vs_xmit.c), and dr cannot
# use the one that a packet of an older connection left: without FLOWI_FLAG_KNOWN_NH the director asks by ARP for the VIP on
# the real servers' network. So it is made to look up its routes again, all the time until the old connections have ended.
_FLUSH = "/proc/sys/net/ipv4/route/flush"

GRACE = 0.5
"""Seconds that requests under way may take before the old mode's settings go: connections stay in the mode they began in."""

POLL = 0.05

Item = TypeVar("Item")


def both(had: Settings, wanted: Settings) -> Settings:
    """``had`` and beside it what ``wanted`` has more in the network. Where they contradict, what is in force stays, but of a sysctl's
    values the larger, as where two services meet on a node."""
    return replace(
        had,
        tunnels=_joined(had.tunnels, wanted.tunnels),
        fou_ports=_joined(had.fou_ports, wanted.fou_ports),
        sysctls=_larger(had.sysctls, wanted.sysctls),
        addresses=_joined(had.addresses, wanted.addresses),
        routes=tuple(_routes(had, wanted)),
        rules=_joined(had.rules, wanted.rules),
    )


def _routes(had: Settings, wanted: Settings) -> Iterator[Route]:
    """Of the main table's ways through a gateway, a default route is added, and any other stays only where both have it: more specific than
    a default route, it would lead the replies of nat past the director."""
    places = {(route.destination, route.table) for route in had.routes}
    new = (route for route in wanted.routes if (route.destination, route.table) not in places)
    for route in (*had.routes, *new):
        astray = route.table is None and not route.via.is_unspecified and route.destination.prefixlen != 0
        if not astray or (route in had.routes and route in wanted.routes):
            yield route


def _joined(had: tuple[Item, ...], wanted: tuple[Item, ...]) -> tuple[Item, ...]:
    return (*had, *(item for item in wanted if item not in had))


def _larger(had: tuple[Sysctl, ...], wanted: tuple[Sysctl, ...]) -> tuple[Sysctl, ...]:
    made = {item.key: item for item in had}
    for item in wanted:
        made[item.key] = max(made.get(item.key, item), item, key=lambda each: int(each.value))
    return tuple(made.values())


def landed(services: Sequence[Service], saved: str) -> bool:
    """Does the director forward to all real servers that are up in the services' own ways? ``saved`` is what ``ipvsadm -Sn`` prints,
    which tells tunnels apart."""
    return all(_landed(service, each, saved) for service in services for each in service.each())


def _landed(service: Service, each: Service, saved: str) -> bool:
    address, tunnel = ipvsadm.address_of(each), service.tunnel
    way = {ipvsadm.FORWARDING[mode(service.mode).ipvsadm], *ipvsadm.tunnel_of(service).split()}
    way |= {tunnel.type} if tunnel else set()
    lines = [line.split() for line in saved.splitlines() if line.startswith(f"-a {address} -r ")]
    return f"-A {address} " in saved and all(way <= {*words} for words in lines)


def forwarded(services: Sequence[Service], table: Table) -> bool:
    """As ``landed``, from the table alone, which does not tell tunnels apart."""
    found = [(mode(service.mode).ipvsadm, table.of(each)) for service in services for each in service.each()]
    return all(it is not None and all(d.method == way for d in it.destinations) for way, it in found)


def alike(before: Iterable[Service], after: Iterable[Service]) -> bool:
    """Does a service change its way within one mode, as from tunnels to other tunnels? Then the table looks as before."""
    had = {service.name: service.mode for service in before}
    return any(word == f"from {had[name]} to {had[name]}" for name, word in moves(before, after).items())


def wait(channel: Channel, before: Sequence[Service], services: Sequence[Service]) -> None:
    """Until the director forwards as ``services`` say and not as ``before``, and requests that were under way have had their time. Raises as
    ``Channel.run`` does."""
    deadline, closely = time.monotonic() + LANDS_WITHIN, alike(before, services)
    while not _landed_now(channel, services, closely=closely) and time.monotonic() < deadline:
        time.sleep(POLL)
    deadline = time.monotonic() + GRACE
    while (left := deadline - time.monotonic()) > 0:
        channel.feed(_FLUSH, b"1\n")
        time.sleep(min(POLL, left))


def _landed_now(channel: Channel, services: Sequence[Service], *, closely: bool) -> bool:
    channel.feed(_FLUSH, b"1\n")
    if not forwarded(services, procfs.read_table(channel)):
        return False
    return not closely or landed(services, channel.run(("ipvsadm", "-Sn"), timeout=TIMEOUT).text)
