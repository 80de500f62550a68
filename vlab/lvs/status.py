"""How each service's real servers are doing right now, read from the director's table in one round trip.

Needs no topology: a director's mark carries its services.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from vlab.guests.base import Channel
from vlab.lvs import ipvs
from vlab.topology.lab import RealServer, Service

TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class ServerState:
    """``state``: «up», «quiesced» (weight 0), «down» (its health check fails) or «unknown» (the director does not answer).
    ``weight`` is the one in force; of a server that is not in the table, the declared one."""

    node: str
    address: IPv4Address
    weight: int
    state: str
    active: int
    inactive: int


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A service as ``status`` shows it. ``director`` is the director's name in the topology."""

    name: str
    director: str
    vip: IPv4Address
    port: int
    mode: str
    scheduler: str
    real_servers: tuple[ServerState, ...]


def service_states(services: Sequence[Service], channel: Channel | None) -> tuple[ServiceState, ...]:
    """The state of ``services``, all of one director; ``channel`` leads into it. Without a channel every server is «unknown».
    Raises as ``Channel.run`` does."""
    table = read_table(channel) if channel is not None else None
    return tuple(_service(service, table) for service in services)


def read_table(channel: Channel) -> ipvs.Table:
    """The director's whole table. Raises as ``Channel.run`` does; a director without ip_vs has an empty table."""
    return ipvs.parse(channel.run(ipvs.READ, timeout=TIMEOUT).text)


def _service(service: Service, table: ipvs.Table | None) -> ServiceState:
    virtual = table.service(service.protocol, service.vip, service.port) if table else None
    absent = "down" if table else "unknown"
    servers = tuple(_server(server, virtual, absent) for server in service.real_servers)
    it = service
    return ServiceState(it.name, it.director, it.vip, it.port, it.mode, it.scheduler, servers)


def _server(server: RealServer, virtual: ipvs.Virtual | None, absent: str) -> ServerState:
    found = virtual.destination(server.address, server.port) if virtual else None
    if found is None:
        return ServerState(server.node, server.address, server.weight, absent, 0, 0)
    state = "up" if found.weight else "quiesced"
    return ServerState(server.node, server.address, found.weight, state, found.active, found.inactive)
