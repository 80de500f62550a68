"""The lab and what was read of it, as rules look at them: who plays which part, and only where the facts could be read. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from vlab.diagnosis.facts import Facts, Guest
from vlab.hypervisors.kind import kind
from vlab.lvs.index import Role, index
from vlab.lvs.ipvs import Virtual
from vlab.lvs.modes import Needs, mode
from vlab.topology.family import Address, is_six
from vlab.topology.lab import Lab, Node, Service

T = TypeVar("T")

MOST_CLIENTS = 3
"""To how many clients the way from a real server is asked."""


def of_each_family(items: Iterable[T], address: Callable[[T], Address]) -> list[T]:
    """The first of IPv4 and the first of IPv6: what a fault breaks, so that it tells of both."""
    found: dict[bool, T] = {}
    for item in items:
        found.setdefault(is_six(address(item)), item)
    return [found[six] for six in sorted(found)]


def directors(lab: Lab, service: Service) -> list[Node]:
    """The nodes that direct a service: one, or a pair."""
    return [node for node in lab.nodes if node.group == service.director] or [lab.node(service.director)]


def directing(lab: Lab) -> list[Node]:
    """Every node that directs some service."""
    found = {node.name: node for service in lab.services for node in directors(lab, service)}
    return list(found.values())


def serving(lab: Lab) -> list[Role]:
    """Every real server's part in every service."""
    return [role for roles in index(lab).serving.values() for role in roles]


def needs(role: Role) -> Needs:
    """What the mode asks of a real server."""
    return mode(role.service.mode).real_server(role)


def clients(lab: Lab, service: Service) -> list[Node]:
    """Nodes on the virtual address's network with no part in the service, containers first: those start processes quickly."""
    parts = {server.node for server in service.servers} | {node.name for node in directing(lab)}
    able = [n for n in lab.nodes if n.name not in parts and _reaches(n, service)]
    known = index(lab).serving
    return sorted(able, key=lambda node: (node.name in known, not kind(node.virt).shares_host_kernel))


def _reaches(node: Node, service: Service) -> bool:
    """On the virtual address's network, with an address of its family."""
    return any(nic.network == service.network and (nic.address6 or not is_six(service.vip)) for nic in node.nics)


def client_addresses(lab: Lab, service: Service) -> list[Address]:
    """Where the service's replies go: some clients, and the host's end of the network, from which ``vlab forward`` calls."""
    chosen = [node.address_like(service.vip, service.network) for node in clients(lab, service)[:MOST_CLIENTS]]
    network = lab.network(service.network)
    end = network.gateway6 if is_six(service.vip) else network.gateway
    return [*chosen, *([end] if end else [])]


def owners(lab: Lab) -> dict[str, str]:
    """«web1» (on network back: «web1.back») by MAC."""
    return {nic.mac.lower(): f"{node.name}.{nic.network}" for node in lab.nodes for nic in node.nics}


@dataclass(frozen=True, slots=True)
class Scene:
    lab: Lab
    facts: Facts

    def guest(self, node: str) -> Guest | None:
        """None where the guest could not be read."""
        return self.facts.guests.get(node)

    def guests(self) -> Iterator[tuple[Node, Guest]]:
        for node in self.lab.nodes:
            if (guest := self.guest(node.name)) is not None:
                yield node, guest

    def serving(self) -> Iterator[tuple[Role, Guest]]:
        for role in serving(self.lab):
            if (guest := self.guest(role.node.name)) is not None:
                yield role, guest

    def directing(self) -> Iterator[tuple[Node, Guest]]:
        for node in directing(self.lab):
            if (guest := self.guest(node.name)) is not None:
                yield node, guest

    def tables(self) -> Iterator[tuple[Service, Node, Guest, Virtual | None]]:
        """Each service, as the kernel has it, at each of its directors: None where the director's table does not have it."""
        for service in self.lab.services:
            for node in directors(self.lab, service):
                guest = self.guest(node.name)
                if guest is not None and guest.table is not None:
                    yield from ((each, node, guest, guest.table.of(each)) for each in service.each())

    def server(self, address: Address | None) -> str:
        """The node that has an address, or the address."""
        for node in self.lab.nodes:
            if any(own.ip == address for nic in node.nics for own in nic.addresses):
                return node.name
        return str(address)

    def owner(self, mac: str) -> str:
        return owners(self.lab).get(mac.lower(), "nobody the lab knows")

    def run(self, node: str, command: str) -> str:
        """A line to type that runs a command in a node."""
        return f"vlab exec {self.lab.name}/{node} -- {command}"
