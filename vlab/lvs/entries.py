"""The real servers of a director as entries of ip_vs' table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vlab.guests.settings import Entry
from vlab.lvs.ipvsadm import FORWARDING, address_of, tunnel_of
from vlab.lvs.listing import joined
from vlab.lvs.modes import mode
from vlab.topology.lab import RealServer, Service


def entries(services: Iterable[Service]) -> Iterator[Entry]:
    """One for each real server, and for the sorry server, of each of the kernel's services."""
    for service in services:
        for each in service.each():
            yield from (_real_server(each, server) for server in each.real_servers)
            if each.sorry_server:
                yield _sorry_server(each, each.sorry_server)


def _real_server(service: Service, server: RealServer) -> Entry:
    why = f"{server.node} serves {service.name} while its health check passes"
    way = f"{_way(service)}{tunnel_of(service)}"
    return Entry(_place(service, server), way, server.weight, server.upper, server.lower, why=why)


def _sorry_server(service: Service, server: RealServer) -> Entry:
    """keepalived has no word for what a sorry server's packets are wrapped in: it is IP in IP."""
    why = f"{server.node} answers for {service.name} while too few real servers are up"
    return Entry(_place(service, server), _way(service), server.weight, spare=True, why=why)


def _place(service: Service, server: RealServer) -> str:
    return f"{address_of(service)} -r {joined(str(server.address), server.port)}"


def _way(service: Service) -> str:
    return FORWARDING[mode(service.mode).ipvsadm]
