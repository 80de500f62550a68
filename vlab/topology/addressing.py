"""A valid topology → a ``Lab``: every address, MAC, device name and UUID decided. Pure: same input, same output.

Which address a node gets is ``blocks``' scheme; MACs and names are ``identity``'s hashes. Linear in the number of nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from vlab.errors import UsageError
from vlab.topology import blocks, blocks6, identity
from vlab.topology.blocks import Seat
from vlab.topology.drained import resting
from vlab.topology.family import Address, is_six
from vlab.topology.fields import LAB_NAME
from vlab.topology.finding import show
from vlab.topology.lab import Check, Lab, Login, Network, Nic, Node, RealServer, Service
from vlab.topology.members import Directory, Member, Placed, gateway, gateway6, node_names, pins, pins6, placed
from vlab.topology.mode_rules import ModeRules
from vlab.topology.model import Group, NodeOverride, Topology
from vlab.topology.model import Service as Declared
from vlab.topology.pairs import Pairs
from vlab.topology.service_values import AUTO
from vlab.topology.values import name_problem

Addresses = Mapping[tuple[str, str], IPv4Address]
"""By node and network."""
Addresses6 = Mapping[tuple[str, str], IPv6Address]
"""Likewise, for networks with IPv6."""

NO_OVERRIDE = NodeOverride()


def complete(topology: Topology, lab: str | None = None) -> Lab:
    """The lab that ``topology`` stands for, called ``lab`` or by the topology's own name. Raises ``UsageError`` when ``lab`` is
    no name. The topology must be valid (``parse``)."""
    name = topology.name if lab is None else lab
    if problem := name_problem(name, LAB_NAME):
        raise UsageError(f"lab name {show(name)} {problem[0]}", hint=problem[1])
    directory = Directory(topology)
    networks = _networks(topology, name)
    pairs = Pairs(directory)
    addresses = _addresses(topology, directory, pairs)
    addresses6 = _addresses6(topology, addresses, pairs)
    return Lab(
        name=name,
        topology=topology.name,
        accel=topology.accel,
        networks=tuple(networks.values()),
        nodes=_nodes(topology, name, directory, networks, addresses, addresses6),
        services=tuple(_services(topology, directory, addresses, addresses6)),
        directors=tuple(topology.directors),
        pairs=pairs.complete(name, addresses, addresses6),
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
            routed=network.routed,
            subnet6=network.subnet6,
            gateway6=gateway6(network),
        )
        for name, network in topology.networks.items()
    }


def _addresses(topology: Topology, directory: Directory, pairs: Pairs) -> Addresses:
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
    for network, floating in pairs.seats(starts):
        seats[network].append(floating)
    found = dict(pinned)
    for network, wanting in seats.items():
        reserved = _reserved(topology, network, pinned)
        given = blocks.assign(topology.networks[network].subnet, len(numbers) + 1, reserved, wanting)
        found.update({(node, network): address for node, address in given.items()})
    found.update({(inner.key, inner.network): int(address) for inner, address in pairs.named().items()})
    return {key: IPv4Address(number) for key, number in found.items()}


def _addresses6(topology: Topology, addresses: Addresses, pairs: Pairs) -> Addresses6:
    """Pins as they are; everyone else by ``blocks6``, from the IPv4 address."""
    found = {(pin.node, pin.network): pin.address for pin in pins6(topology)}
    found |= {(inner.key, inner.network): int(address) for inner, address in pairs.named6().items()}
    for name, network in topology.networks.items():
        if network.subnet6 is None:
            continue
        wanting = {n: own for (n, on), own in addresses.items() if on == name and (n, name) not in found}
        reserved = _reserved6(topology, name, found)
        given = blocks6.assign(network.subnet, network.subnet6, reserved, wanting)
        found.update({(node, name): address for node, address in given.items()})
    return {key: IPv6Address(number) for key, number in found.items()}


def _reserved6(topology: Topology, network: str, pinned: Mapping[tuple[str, str], int]) -> set[int]:
    declared = topology.networks[network]
    vips = {int(place.service.vip) for place in placed(topology) if declared.holds(place.service.vip)}
    pins_here = {address for (_, on), address in pinned.items() if on == network}
    own = gateway6(declared)
    return vips | pins_here | ({int(own)} if own else set())


def _director_places(topology: Topology) -> dict[str, int]:
    """Where each director starts in block 0."""
    places, place = dict[str, int](), 0
    for name, director in topology.directors.items():
        places[name] = place
        place += director.count + (director.count > 1)  # behind a pair's nodes there is room for its floating address
    return places


def _reserved(topology: Topology, network: str, pinned: Mapping[tuple[str, str], int]) -> set[int]:
    """What no node may be given: pins, VIPs and the gateway."""
    declared = topology.networks[network]
    vips = {int(place.service.vip) for place in placed(topology) if place.service.vip in declared.subnet}
    pins_here = {address for (_, on), address in pinned.items() if on == network}
    floating = {int(d.inner_vip[network]) for d in topology.directors.values() if network in d.inner_vip}
    return vips | pins_here | floating | {int(gateway(declared.subnet, declared.gateway))}


def _nodes(
    topology: Topology,
    lab: str,
    directory: Directory,
    networks: Mapping[str, Network],
    addresses: Addresses,
    addresses6: Addresses6,
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
            address6=_interface6(addresses6.get((member.name, network.name)), network),
        )

    return tuple(
        _node(topology, lab, member, tuple(nic(member, networks[name]) for name in member.networks))
        for member in directory.all
    )


def _interface6(address: IPv6Address | None, network: Network) -> IPv6Interface | None:
    return IPv6Interface((address, network.subnet6.prefixlen)) if address and network.subnet6 else None


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
    uuid = identity.node_uuid(lab, member.name)
    return Node(
        name=member.name,
        group=member.owner,
        virt=owner.virt,
        image=owner.image,
        memory=own.memory or owner.memory,
        cpus=own.cpus or owner.cpus,
        cpu_shares=own.cpu_shares or owner.cpu_shares,
        cpu_quota=own.cpu_quota or owner.cpu_quota,
        uuid=uuid,
        machine_id=identity.machine_id(uuid),
        nics=nics,
    )


def _services(
    topology: Topology, directory: Directory, addresses: Addresses, addresses6: Addresses6
) -> Iterator[Service]:
    """In file order. Chosen firewall marks keep clear of the written ones."""
    places = placed(topology)
    marks = {place.service.fwmark for place in places if place.service.fwmark}
    for place in places:
        chosen = identity.mark(marks, place.name) if place.service.fwmark == AUTO else place.service.fwmark
        family = addresses6 if is_six(place.service.vip) else addresses
        yield resting(_service(directory, place, family, chosen), place.service.drained)


def _service(
    directory: Directory, place: Placed, addresses: Mapping[tuple[str, str], Address], fwmark: int | None
) -> Service:
    service, forwarding = place.service, directory.forwarding(place)
    assert forwarding, "a valid topology's services have a network"
    inner = ModeRules.known[service.mode].inner_network(forwarding)
    assert inner, "a valid topology's services reach their real servers"
    port = service.port_ranges[0].first
    inside = 0 if fwmark is not None else service.real_port or port
    sorry = directory.sorry_server(service)
    return Service(
        name=place.name,
        director=place.director,
        network=forwarding.vip_network,
        inner_network=inner,
        vip=service.vip,
        port=port,
        protocol=service.protocol,
        mode=service.mode,
        scheduler=service.scheduler,
        persistence=service.persistence.timeout if service.persistence else None,
        check=_check(service),
        real_servers=tuple(
            _real_server(service, node.name, addresses[node.name, inner], inside)
            for node in directory.real_servers(service)
        ),
        ports=service.ports if fwmark is None else service.port_ranges,
        fwmark=fwmark,
        netmask=_netmask(service),
        scheduler_flags=service.scheduler_flags,
        one_packet=service.one_packet,
        sorry_server=RealServer(sorry.name, addresses[sorry.name, inner], inside, 1) if sorry else None,
        quorum=service.quorum,
        snat=service.snat,
        tunnel=ModeRules.known[service.mode].tunnel(service),
    )


def _netmask(service: Declared) -> int:
    """Where nothing is said a client is one address."""
    said = service.persistence.netmask if service.persistence else None
    return said or service.vip.max_prefixlen


def _real_server(service: Declared, node: str, address: Address, port: int) -> RealServer:
    return RealServer(
        node,
        address,
        port,
        service.weights.get(node, service.weight),
        upper=service.upper_thresholds.get(node, service.upper_threshold),
        lower=service.lower_thresholds.get(node, service.lower_threshold),
    )


def _check(service: Declared) -> Check:
    it = service.check
    login = Login(it.login.user, it.login.password, it.login.database or "") if it.login else None
    return Check(service.check_kind, it.http, it.every, it.timeout, it.port, it.dns, login, it.misc)
