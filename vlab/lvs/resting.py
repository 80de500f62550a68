"""Draining: what keeps a real server busy, and what a director's table lacks of a declaration. Pure.

A server of weight 0 gets no new connections; those it has go on until their clients end them. Persistence templates hold nobody back:
with ``expire_quiescent_template`` (which vlab sets on every director) a client's next connection finds another server, and the
template itself stays in the table until its time is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from vlab.errors import UsageError
from vlab.lvs import listing
from vlab.lvs.ipvs import Destination, Table, Virtual
from vlab.lvs.listing import Connection
from vlab.lvs.modes import mode
from vlab.topology.edit import Change
from vlab.topology.family import is_six
from vlab.topology.finding import meant
from vlab.topology.lab import Lab, RealServer, Service

SHOWN = 8
"""Connections that are listed by name."""


@dataclass(frozen=True, slots=True)
class Rest:
    """One service of a drained server on one director: ``weight`` is the one that it will have again; ``active`` connections are waited for,
    ``inactive`` ones are closed and only remembered, ``templates`` are persistent clients that leave with their next connection."""

    service: str
    director: str
    weight: int
    active: int
    inactive: int
    templates: int = 0


def served(lab: Lab, node: str, service: str = "") -> list[Service]:
    """The services that ``node`` is a real server of, or only ``service``. Raises ``UsageError`` when there is none."""
    found = [s for s in lab.services if any(server.node == node for server in s.real_servers)]
    if not found:
        raise UsageError(f"{node} is a real server of no service of lab {lab.name}", hint=f"vlab status {lab.name}")
    chosen = [s for s in found if service in ("", s.name)]
    if not chosen:
        known = [s.name for s in found]
        raise UsageError(f"{node} is no real server of a service '{service}'", hint=meant(service, known))
    return chosen


def server_of(service: Service, node: str) -> RealServer:
    return next(server for server in service.real_servers if server.node == node)


def drained(service: Service) -> list[str]:
    """The nodes that rest in ``service``."""
    return [server.node for server in service.real_servers if server.drained is not None]


def path_of(service: Service) -> tuple[str, ...]:
    """Where the service stands in its topology."""
    return "directors", service.director, "services", service.name


def to_rest(services: Iterable[Service], node: str) -> list[Change]:
    """The changes that drain ``node`` in ``services``; none where it rests already."""
    return [
        Change((*path_of(service), "drained"), [*drained(service), node])
        for service in services
        if node not in drained(service)
    ]


def to_work(services: Iterable[Service], node: str) -> list[Change]:
    """The changes that give ``node`` its weight again in ``services``; none where it has it."""
    return [
        Change((*path_of(service), "drained"), [name for name in drained(service) if name != node] or None)
        for service in services
        if node in drained(service)
    ]


def refuse_last(lab: str, service: Service, node: str, table: Table) -> None:
    """Raise ``UsageError`` where nobody would be left to serve: the others rest, have weight 0, or are down."""
    others = [server for server in service.real_servers if server.node != node and server.weight]
    if not any(_destinations(service, server.node, table) for server in others):
        down = f" ({', '.join(server.node for server in others)} down)" if others else ""
        raise UsageError(
            f"{node} is the last real server that serves {service.name}{down}: its clients would be refused",
            hint=f"vlab lvs set {lab}/{service.name} --weight {node}=0 does it all the same",
        )


def lacks(service: Service, table: Table) -> Iterator[str]:
    """What the director has not taken over yet; a server that is down has no say."""
    for each in service.each():
        yield from _lacks(each, table.of(each))


def _lacks(service: Service, virtual: Virtual | None) -> Iterator[str]:
    """``service`` is one of the kernel's."""
    if virtual is None:
        yield f"{service.name} is not in the table"
        return
    if virtual.scheduler != service.scheduler:
        yield f"{service.name} has scheduler {virtual.scheduler}"
    if virtual.persistence != service.persistence:
        yield f"{service.name} has persistence {virtual.persistence or 'none'}"
    if virtual.scheduler_flags != frozenset(service.scheduler_flags):
        yield f"{service.name} has scheduler flags {', '.join(sorted(virtual.scheduler_flags)) or 'none'}"
    for server in service.real_servers:
        found = virtual.destination(server.address, server.port)
        if found and (found.weight, found.method) != (server.weight, mode(service.mode).ipvsadm):
            yield f"{server.node} has weight {found.weight} by {found.method} in {service.name}"


def rest(service: Service, node: str, director: str, table: Table) -> Rest:
    """How busy ``node`` still is."""
    server = server_of(service, node)
    found = _destinations(service, node, table)
    weight = server.weight if server.drained is None else server.drained
    return Rest(service.name, director, weight, sum(d.active for d in found), sum(d.inactive for d in found))


def _destinations(service: Service, node: str, table: Table) -> list[Destination]:
    """``node`` in each of the kernel's services that has it."""
    servers = ((table.of(each), server_of(each, node)) for each in service.each())
    found = (virtual.destination(server.address, server.port) for virtual, server in servers if virtual)
    return [destination for destination in found if destination is not None]


def open_connections(text: str, service: Service, node: str) -> list[str]:
    """The connections that are still open, as a person would name them."""
    found = [entry for entry in _entries(text, service, node) if entry.state in ("ESTABLISHED", "UDP")]
    shown = [f"{service.name}: {entry.source} ({entry.state}, expires in {entry.expires} s)" for entry in found[:SHOWN]]
    return [*shown, f"{service.name}: and {len(found) - SHOWN} more"] if len(found) > SHOWN else shown


def templates(text: str, service: Service, node: str) -> int:
    """How many persistent clients the table still remembers for ``node``: entries without a client's port."""
    return sum(entry.source.endswith(":0") for entry in _entries(text, service, node))


def _entries(text: str, service: Service, node: str) -> list[Connection]:
    if service.fwmark is not None:
        return _marked(text, service, node)
    servers = [(each, server_of(each, node)) for each in service.each()]
    wanted = {(key, listing.joined(str(s.address), s.port)) for each, s in servers for key in listing.keys(each)}
    return [c for c in listing.connections(text) if (f"{c.protocol} {c.virtual}", c.destination) in wanted]


def _marked(text: str, service: Service, node: str) -> list[Connection]:
    """Those of a firewall mark: under the client's own address and port, templates under the mark, written like an address
    (ip_vs_sched_persist in ip_vs_core.c)."""
    assert service.fwmark is not None
    # Of IPv6 the first of four words: «0:7::».
    mark = IPv6Address(service.fwmark << 96) if is_six(service.vip) else IPv4Address(service.fwmark)
    virtual = {str(service.vip), str(mark)}
    server = str(server_of(service, node).address)
    return [c for c in listing.connections(text) if _host(c.virtual) in virtual and _host(c.destination) == server]


def _host(endpoint: str) -> str:
    return endpoint.rpartition(":")[0].strip("[]")


def told(lab: str, services: Sequence[Service]) -> list[str]:
    """What ``status`` says of servers that rest."""
    return [
        f"{server.node} is drained in {service.name}, its weight is {server.drained} otherwise: vlab undrain {lab}/{server.node}"
        for service in services
        for server in service.real_servers
        if server.drained is not None
    ]


def woken(before: Lab, after: Lab) -> list[str]:
    """What ``up`` says when it takes back a drain that its file does not have."""
    resting = {(service.name, node) for service in after.services for node in drained(service)}
    known = {(service.name, server.node) for service in after.services for server in service.real_servers}
    return [
        f"{node} is drained no longer in {service.name}"
        for service in before.services
        for node in drained(service)
        if (service.name, node) in known - resting
    ]
