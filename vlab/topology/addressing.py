"""A valid topology → a ``Lab``: every address, MAC, device name and UUID decided. Pure: same input, same output.

Which address a node gets is ``blocks``' scheme; MACs and names are ``identity``'s hashes. Linear in the number of nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface

from vlab.errors import UsageError
from vlab.topology import blocks, identity
from vlab.topology.blocks import Seat
from vlab.topology.fields import LAB_NAME
from vlab.topology.finding import show
from vlab.topology.lab import Check, Lab, Network, Nic, Node, RealServer, Service
from vlab.topology.members import Directory, Member, Placed, gateway, node_names, pins, placed
from vlab.topology.mode_rules import ModeRules
from vlab.topology.model import Group, NodeOverride, Topology
from vlab.topology.values import name_problem

Addresses = Mapping[tuple[str, str], IPv4Address]
"""By node and network."""

NO_OVERRIDE = NodeOverride()


def complete(topology: Topology, lab: str | None = None) -> Lab:
    """The lab that ``topology`` stands for, called ``lab`` or by the topology's own name. Raises ``UsageError`` when ``lab`` is
    no name. The topology must be valid (``parse``)."""
    name = topology.name if lab is None else lab
    if problem := name_problem(name, LAB_NAME):
        raise UsageError(f"lab name {show(name)} {problem[0]}", hint=problem[1])
    directory = Directory(topology)
    networks = _networks(topology, name)
    addresses = _addresses(topology, directory)
    return Lab(
        name=name,
        topology=topology.name,
        accel=topology.accel,
        networks=tuple(networks.values()),
        nodes=_nodes(topology, name, directory, networks, addresses),
        services=tuple(_service(directory, place, addresses) for place in placed(topology)),
        directors=tuple(topology.directors),
    )


def _networks(topology: Topology, lab: str) -> dict[str, Network]:
    taken: set[str] = set()
    return {
        name: Network(
            name=name,
            subnet=network.subnet,
            mtu=network.mtu,
            internet=network.internet,
            gateway=gateway(network.subnet, network.gateway),
            bridge=identity.device(taken, "b", lab, name),
        )
        for name, network in topology.networks.items()
    }


def _addresses(topology: Topology, directory: Directory) -> Addresses:
    """Pins as they are; everyone else by ``blocks``. Addresses of networks are decided one network at a time."""
    pinned = {(pin.node, pin.network): pin.address for pin in pins(topology)}
    seats: dict[str, list[Seat]] = {name: [] for name in topology.networks}
    numbers = {name: number for number, name in enumerate(topology.groups, 1)}
    starts = _director_places(topology)
    for member in directory.all:
        place = starts.get(member.owner, 0) + member.index
        for network in member.networks:
            if (member.name, network) not in pinned:
                seats[network].append(Seat(member.name, numbers.get(member.owner, 0), place))
    found = dict(pinned)
    for network, wanting in seats.items():
        reserved = _reserved(topology, network, pinned)
        given = blocks.assign(topology.networks[network].subnet, len(numbers) + 1, reserved, wanting)
        found.update({(node, network): address for node, address in given.items()})
    return {key: IPv4Address(number) for key, number in found.items()}


def _director_places(topology: Topology) -> dict[str, int]:
    """Where each director starts in block 0."""
    places, place = dict[str, int](), 0
    for name, director in topology.directors.items():
        places[name] = place
        place += director.count
    return places


def _reserved(topology: Topology, network: str, pinned: Mapping[tuple[str, str], int]) -> set[int]:
    """What no node may be given: pins, VIPs and the gateway."""
    declared = topology.networks[network]
    vips = {int(place.service.vip) for place in placed(topology) if place.service.vip in declared.subnet}
    pins_here = {address for (_, on), address in pinned.items() if on == network}
    return vips | pins_here | {int(gateway(declared.subnet, declared.gateway))}


def _nodes(
    topology: Topology, lab: str, directory: Directory, networks: Mapping[str, Network], addresses: Addresses
) -> tuple[Node, ...]:
    pinned = _pinned_macs(topology)
    macs, devices = set(pinned.values()), set[str]()

    def nic(member: Member, network: Network) -> Nic:
        words = (lab, member.name, network.name)
        address = addresses[member.name, network.name]
        return Nic(
            network=network.name,
            mac=pinned.get((member.name, network.name)) or identity.mac(macs, *words),
            address=IPv4Interface((int(address), network.subnet.prefixlen)),
            mtu=network.mtu,
            device=identity.device(devices, "v", *words),
            altname=f"{member.name}.{network.name}",
        )

    return tuple(
        _node(topology, lab, member, tuple(nic(member, networks[name]) for name in member.networks))
        for member in directory.all
    )


def _pinned_macs(topology: Topology) -> dict[tuple[str, str], str]:
    macs = {
        (node, network): mac
        for group in topology.groups.values()
        for node, override in group.nodes.items()
        for network, mac in override.macs.items()
    }
    for name, director in topology.directors.items():
        macs |= {(node, network): mac for node in node_names(name, 1) for network, mac in director.macs.items()}
    return macs


def _node(topology: Topology, lab: str, member: Member, nics: tuple[Nic, ...]) -> Node:
    owner = topology.groups.get(member.owner) or topology.directors[member.owner]
    own = owner.nodes.get(member.name, NO_OVERRIDE) if isinstance(owner, Group) else NO_OVERRIDE
    return Node(
        name=member.name,
        group=member.owner,
        virt=owner.virt,
        image=owner.image,
        memory=own.memory or owner.memory,
        cpus=own.cpus or owner.cpus,
        cpu_shares=own.cpu_shares or owner.cpu_shares,
        cpu_quota=own.cpu_quota or owner.cpu_quota,
        uuid=identity.node_uuid(lab, member.name),
        machine_id=identity.machine_id(lab, member.name),
        nics=nics,
    )


def _service(directory: Directory, place: Placed, addresses: Addresses) -> Service:
    service, forwarding = place.service, directory.forwarding(place)
    assert forwarding, "a valid topology's services have a network"
    inner = ModeRules.known[service.mode].inner_network(forwarding)
    assert inner, "a valid topology's services reach their real servers"
    port = service.port if service.real_port is None else service.real_port
    return Service(
        name=place.name,
        director=place.director,
        network=forwarding.vip_network,
        inner_network=inner,
        vip=service.vip,
        port=service.port,
        protocol=service.protocol,
        mode=service.mode,
        scheduler=service.scheduler,
        persistence=service.persistence,
        check=Check(service.check.kind, service.check.http, service.check.every, service.check.timeout),
        real_servers=tuple(
            RealServer(node.name, addresses[node.name, inner], port, service.weights.get(node.name, service.weight))
            for node in directory.real_servers(service)
        ),
    )
