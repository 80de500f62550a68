"""How each service's real servers are doing right now, read from the director's table without a process in it.

Needs no topology: a director's mark carries its services.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from vlab.errors import VlabError
from vlab.guests.base import Channel
from vlab.lvs import ipvs, procfs
from vlab.topology.family import Address, literal
from vlab.topology.lab import RealServer, Service

TIMEOUT = 20.0

_REST = {True: "drained", False: "quiesced"}
"""What a weight of 0 is called, by whether ``vlab drain`` (the key ``drained``) gave it."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class ServerState:
    """``state``: «up», «drained» (weight 0 for now, by the key ``drained``), «quiesced» (weight 0), «down» (its health check fails),
    «partly» (not the same on all of its ports) or «unknown» (the director does not answer); of a sorry server «spare» until it
    answers, then «up».
    ``weight`` is the one in force; of a server that is not in the table, the declared one."""

    node: str
    address: Address
    weight: int
    state: str
    active: int
    inactive: int


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A service as ``status`` shows it. ``director`` is the director's name in the topology, ``active`` its node that has the VIP: none
    while a pair changes over or no director answers, and two by commas when both claim it."""

    name: str
    director: str
    vip: Address
    port: int
    mode: str
    scheduler: str
    real_servers: tuple[ServerState, ...]
    active: str = ""
    ports: str = ""
    """Every port, as they are written: «80,443»."""
    fwmark: int | None = None
    sorry_server: ServerState | None = None

    @property
    def endpoint(self) -> str:
        """Where clients find it, with every port."""
        return f"{literal(self.vip)}:{self.ports or self.port}"


def service_states(services: Sequence[Service], channels: Mapping[str, Channel]) -> tuple[ServiceState, ...]:
    """The state of ``services``, all of one director; ``channels`` lead into its nodes, by node name. Where none of them answers every
    server is «unknown»; nothing is raised."""
    vips = [service.vip for service in services]
    held = {node: _answer(lambda it: procfs.read_addresses(it, vips), channel) for node, channel in channels.items()}
    actives = {vip: [node for node, has in held.items() if has and vip in has] for vip in vips}
    first = next(
        (names[0] for names in actives.values() if names), next((n for n, it in held.items() if it is not None), "")
    )
    table = (
        (_answer(procfs.read_table, channels[first]) or ipvs.Table()) if first else None
    )  # it answers, but has no ip_vs
    return tuple(replace(_service(service, table), active=",".join(actives[service.vip])) for service in services)


def _answer(read: Callable[[Channel], Found], channel: Channel) -> Found | None:
    try:
        return read(channel)
    except VlabError:
        return None


def read_table(channel: Channel, services: Sequence[Service] = ()) -> ipvs.Table:
    """The director's whole table, with thresholds where one of ``services`` has any. Raises as ``Channel.run`` does; a director
    without ip_vs has an empty table."""
    limited = any(server.upper for service in services for server in service.real_servers)
    return ipvs.parse(channel.run(ipvs.READ_THRESHOLDS if limited else ipvs.READ, timeout=TIMEOUT).text)


def read_entries(channel: Channel) -> ipvs.Table:
    """The director's whole table without counters and thresholds, by one process. Raises as ``Channel.run`` does."""
    return ipvs.parse(channel.run(ipvs.READ_ENTRIES, timeout=TIMEOUT).text)


def read_counters(channel: Channel, table: ipvs.Table) -> ipvs.Table:
    """``table`` with the counters as they are now. Raises as ``Channel.run`` does."""
    return ipvs.counted(table, channel.run(ipvs.READ_COUNTERS, timeout=TIMEOUT).text)


def read_total(channel: Channel) -> int | None:
    """The connections of all services together, None where the director does not tell."""
    try:
        return ipvs.total(channel.get(ipvs.TOTAL).decode())
    except (VlabError, ValueError):
        return None


def _service(service: Service, table: ipvs.Table | None) -> ServiceState:
    absent = "down" if table else "unknown"
    states = [[_server(s, virtual, absent) for s in each.real_servers] for each, virtual in _found(service, table)]
    it = service
    return ServiceState(
        it.name, it.director, it.vip, it.port, it.mode, it.scheduler,
        tuple(_together(ports) for ports in zip(*states, strict=True)),
        ports=it.shown_ports, fwmark=it.fwmark, sorry_server=_sorry(service, table),
    )  # fmt: skip


def _found(service: Service, table: ipvs.Table | None) -> list[tuple[Service, ipvs.Virtual | None]]:
    """The kernel's services that ``service`` is made of, each with its entry."""
    return [(each, table.of(each) if table else None) for each in service.each()]


def _together(ports: Sequence[ServerState]) -> ServerState:
    """One real server's state over all its ports."""
    states = {port.state for port in ports}
    state = ports[0].state if len(states) == 1 else "partly"
    return replace(
        ports[0], state=state, active=sum(p.active for p in ports), inactive=sum(p.inactive for p in ports)
    )  # fmt: skip


def _sorry(service: Service, table: ipvs.Table | None) -> ServerState | None:
    found = [
        _server(each.sorry_server, virtual, "spare" if table else "unknown")
        for each, virtual in _found(service, table)
        if each.sorry_server
    ]
    return _together(found) if found else None


def _server(server: RealServer, virtual: ipvs.Virtual | None, absent: str) -> ServerState:
    found = virtual.destination(server.address, server.port) if virtual else None
    if found is None:
        return ServerState(server.node, server.address, server.weight, absent, 0, 0)
    state = "up" if found.weight else _REST[server.drained is not None]
    return ServerState(server.node, server.address, found.weight, state, found.active, found.inactive)
