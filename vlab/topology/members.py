"""The nodes, pins and services that a topology's few lines stand for, before anything is decided. Pure.

Rules and addressing both read these. Nothing here trusts the topology: names that do not resolve are left out, since a rule
reports them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from vlab.topology import blocks6
from vlab.topology.family import Address, is_six
from vlab.topology.finding import Path
from vlab.topology.mode_rules import Forwarding
from vlab.topology.model import Director, Group, Network, NodeOverride, Service, Topology


@dataclass(frozen=True, slots=True)
class Member:
    """A node to be. ``owner`` is its group's or director's name, ``index`` its place in there from 0, ``path`` the owner's."""

    name: str
    owner: str
    index: int
    networks: tuple[str, ...]
    path: Path


@dataclass(frozen=True, slots=True)
class Pin:
    """An address the author chose. ``address`` is a number, which may lie outside the subnet or beyond its family."""

    node: str
    network: str
    address: int
    path: Path


@dataclass(frozen=True, slots=True)
class Placed:
    """A service with its director, at ``path``."""

    name: str
    director: str
    service: Service
    path: Path


def node_names(owner: str, count: int) -> list[str]:
    return [f"{owner}{number}" for number in range(1, count + 1)]


def members(topology: Topology) -> list[Member]:
    """Every node: groups in file order, then directors."""
    owners = [(("groups", name), name, group.count, group.networks) for name, group in topology.groups.items()]
    owners += [(("directors", name), name, one.count, one.networks) for name, one in topology.directors.items()]
    return [
        Member(node, name, index, networks, path)
        for path, name, count, networks in owners
        for index, node in enumerate(node_names(name, count))
    ]


def total(topology: Topology) -> int:
    """How many nodes there are, without making them."""
    return sum(group.count for group in topology.groups.values()) + sum(d.count for d in topology.directors.values())


def pins(topology: Topology) -> list[Pin]:
    """Every pinned IPv4 address; a node's own pin comes instead of its group's."""
    return _pins(topology, "addresses", lambda owner: owner.addresses)


def pins6(topology: Topology) -> list[Pin]:
    """Every pinned IPv6 address, likewise."""
    return _pins(topology, "addresses6", lambda owner: owner.addresses6)


def _pins(
    topology: Topology, key: str, pinned: Callable[[Group | NodeOverride | Director], Mapping[str, Address]]
) -> list[Pin]:
    found: list[Pin] = []
    for name, group in topology.groups.items():
        own = [
            Pin(node, network, int(address), ("groups", name, "nodes", node, key, network))
            for node, override in group.nodes.items()
            for network, address in pinned(override).items()
        ]
        taken = {(pin.node, pin.network) for pin in own}
        found += own
        found += [
            Pin(node, network, int(first) + index, ("groups", name, key, network))
            for network, first in pinned(group).items()
            for index, node in enumerate(node_names(name, group.count))
            if (node, network) not in taken
        ]
    for name, director in topology.directors.items():
        found += [
            Pin(node, network, int(first) + index, ("directors", name, key, network))
            for network, first in pinned(director).items()
            for index, node in enumerate(node_names(name, director.count))
        ]
    return found


def placed(topology: Topology) -> list[Placed]:
    """Every service in file order."""
    return [
        Placed(name, director, service, ("directors", director, "services", name))
        for director, one in topology.directors.items()
        for name, service in one.services.items()
    ]


def gateway(subnet: IPv4Network, pinned: IPv4Address | None) -> IPv4Address:
    """The lab's own address on a network: the pinned one, or the last that a host can have."""
    return pinned or subnet.broadcast_address - 1


def gateway6(network: Network) -> IPv6Address | None:
    """The lab's own IPv6 address on a network: the pinned one, or that with the digits of its IPv4 one; None without IPv6."""
    if network.subnet6 is None:
        return None
    four = gateway(network.subnet, network.gateway)
    return network.gateway6 or blocks6.twin(four, network.subnet, network.subnet6)


class Directory:
    """The nodes of a topology by name and by group, for rules that look many of them up."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.all = members(topology)
        self.by_name = {member.name: member for member in reversed(self.all)}
        self.by_owner: dict[str, list[Member]] = {}
        for member in self.all:
            self.by_owner.setdefault(member.owner, []).append(member)

    def real_servers(self, service: Service) -> list[Member]:
        """The nodes that ``real_servers`` names, each once, in its order. Directors and unknown names are left out."""
        found: dict[str, Member] = {}
        for name in service.real_servers:
            for member in self.named(name):
                found.setdefault(member.name, member)
        return list(found.values())

    def sorry_server(self, service: Service) -> Member | None:
        """The node that answers when the real servers cannot; None where none is named, or none of a group."""
        member = self.by_name.get(service.sorry_server or "")
        return member if member and member.owner in self.topology.groups else None

    def backends(self, service: Service) -> list[Member]:
        """Everyone whom the director may forward to: the real servers, then the sorry server."""
        sorry = self.sorry_server(service)
        return [*self.real_servers(service), *([sorry] if sorry else [])]

    def named(self, name: str) -> list[Member]:
        """The group members, or the one node, that ``name`` in ``real_servers`` means; a group's name wins."""
        if name in self.topology.groups:
            return self.by_owner[name]
        member = self.by_name.get(name)
        return [member] if member and member.owner in self.topology.groups else []

    def vip_network(self, director: Director, vip: Address) -> str | None:
        """The director's network that ``vip`` lies in."""
        networks = self.topology.networks
        return next((name for name in director.networks if name in networks and networks[name].holds(vip)), None)

    def clients(self, network: str, servers: Iterable[Member]) -> Iterator[Member]:
        """Nodes on ``network`` that are neither directors nor among ``servers``."""
        excluded = {server.name for server in servers}
        for member in self.all:
            if network in member.networks and member.name not in excluded and member.owner in self.topology.groups:
                yield member

    def forwarding(self, place: Placed) -> Forwarding | None:
        """What the mode's rules look at; None while a network, the VIP's place or the real
        servers are not known, or subnets overlap there."""
        director = self.topology.directors[place.director]
        servers = self.backends(place.service)
        vip_network = self.vip_network(director, place.service.vip)
        on = {network for server in servers for network in server.networks} | set(director.networks)
        if vip_network is None or not self.real_servers(place.service) or not on <= set(self.topology.networks):
            return None
        if sum(network.holds(place.service.vip) for network in self.topology.networks.values()) > 1:
            return None
        return Forwarding(
            service=place.service,
            path=place.path,
            director_networks=director.networks,
            vip_network=vip_network,
            servers={server.owner: server.networks for server in servers},
            mtus={name: network.mtu for name, network in self.topology.networks.items()},
            routed=frozenset(
                name
                for name, network in self.topology.networks.items()
                if network.routed and (network.subnet6 or not is_six(place.service.vip))
            ),
            lacking=frozenset(
                name
                for name, network in self.topology.networks.items()
                if is_six(place.service.vip) and network.subnet6 is None
            ),
        )
