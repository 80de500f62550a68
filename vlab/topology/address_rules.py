"""The rules of subnets, addresses and MACs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from vlab.topology.finding import Finding, Path, meant, show
from vlab.topology.members import gateway
from vlab.topology.scope import Scope

Family = TypeVar("Family", IPv4Network, IPv6Network)

GATEWAY = "the lab's own address on the network, its gateway"


def _overlapping_subnets(scope: Scope) -> Iterator[Finding]:
    """Sorted by first address, a subnet overlaps an earlier one exactly when it starts before that one's end."""
    yield from overlaps("subnet", {name: network.subnet for name, network in scope.topology.networks.items()})


def overlaps(key: str, subnets: Mapping[str, Family]) -> Iterator[Finding]:
    """Findings at ``key`` of networks; all ``subnets``, by network, are of one family."""
    ordered = sorted(subnets.items(), key=lambda item: (item[1], item[0]))
    widest: tuple[str, Family] | None = None
    for name, subnet in ordered:
        if widest and int(subnet.network_address) <= int(widest[1].broadcast_address):
            message = f"{subnet} overlaps {widest[1]} of network {show(widest[0])}"
            yield Finding(("networks", name, key), message, "give each network a subnet of its own")
        if widest is None or int(subnet.broadcast_address) > int(widest[1].broadcast_address):
            widest = (name, subnet)


def _gateways(scope: Scope) -> Iterator[Finding]:
    for name, network in scope.topology.networks.items():
        if network.gateway and (problem := _unusable(int(network.gateway), network.subnet)):
            yield Finding(("networks", name, "gateway"), *problem)


def _room(scope: Scope) -> Iterator[Finding]:
    """Every node, VIP and the gateway must find an address."""
    needed: dict[str, int] = {}
    for member in scope.directory.all:
        for name in member.networks:
            needed[name] = needed.get(name, 0) + 1
    for name, network in scope.topology.networks.items():
        vips = len({place.service.vip for place in scope.services if place.service.vip in network.subnet})
        vips += sum(name in it.inner_vip for it in scope.topology.directors.values())
        vips += sum(it.network == name for it in scope.pairs.derived())
        wanted, usable = needed.get(name, 0) + vips + 1, network.subnet.num_addresses - 2
        if wanted > usable:
            message = f"{network.subnet} has {usable} addresses; nodes, VIPs and the gateway need {wanted}"
            prefix = 32 - (wanted + 1).bit_length()
            yield Finding(
                ("networks", name, "subnet"), message, f"use a /{prefix}" if prefix >= 8 else "lower the counts"
            )


def _pins_attached(scope: Scope) -> Iterator[Finding]:
    """An address or MAC can be pinned only on a network that the node is on."""
    for path, networks, pinned in _pinned(scope):
        for name in pinned:
            if name not in networks:
                yield Finding((*path, name), f"it is not on network {show(name)}", meant(name, networks))


def _pinned(scope: Scope) -> Iterator[tuple[Path, tuple[str, ...], list[str]]]:
    topology = scope.topology
    for name, group in topology.groups.items():
        yield ("groups", name, "addresses"), group.networks, list(group.addresses)
        for node, override in group.nodes.items():
            yield ("groups", name, "nodes", node, "addresses"), group.networks, list(override.addresses)
            yield ("groups", name, "nodes", node, "macs"), group.networks, list(override.macs)
    for name, director in topology.directors.items():
        yield ("directors", name, "addresses"), director.networks, list(director.addresses)
        yield ("directors", name, "macs"), director.networks, list(director.macs)
        yield ("directors", name, "inner_vip"), director.networks, list(director.inner_vip)


def _addresses(scope: Scope) -> Iterator[Finding]:
    """Pinned addresses and VIPs are usable and nobody else's. One finding a pin, however many nodes count up from it."""
    networks = scope.topology.networks
    owners = {(name, int(gateway(n.subnet, n.gateway))): GATEWAY for name, n in networks.items()}
    blamed: set[Path] = set()
    for pin in scope.pins:
        if pin.path in blamed or pin.network not in networks:
            continue
        subnet, key = networks[pin.network].subnet, (pin.network, pin.address)
        problem = _unusable(pin.address, subnet) or _taken(pin.address, owners.get(key))
        if problem:
            blamed.add(pin.path)
            subject = "" if pin.node in pin.path else f"{pin.node} would get it, but "
            yield Finding(pin.path, f"{subject}{problem[0]}", problem[1])
        owners.setdefault(key, f"the pinned address of {show(pin.node)}")
    yield from _inner_vips(scope, owners)
    yield from _vips(scope, owners)


def _inner_vips(scope: Scope, owners: dict[tuple[str, int], str]) -> Iterator[Finding]:
    """Floating addresses are usable and nobody else's; adds them to ``owners``."""
    networks = scope.topology.networks
    for name, director in scope.topology.directors.items():
        for network, address in director.inner_vip.items():
            if network not in networks:
                continue
            key = (network, int(address))
            if problem := _unusable(int(address), networks[network].subnet) or _taken(int(address), owners.get(key)):
                yield Finding(("directors", name, "inner_vip", network), *problem)
            owners.setdefault(key, f"the inner_vip of director {show(name)}")


def _vips(scope: Scope, owners: dict[tuple[str, int], str]) -> Iterator[Finding]:
    for place in scope.services:
        director, vip = scope.topology.directors[place.director], place.service.vip
        if isinstance(vip, IPv6Address):
            continue
        network = scope.directory.vip_network(director, vip)
        path = (*place.path, "vip")
        if network is None:
            if all(name in scope.topology.networks for name in director.networks):
                yield Finding(path, *_outside(scope, director.networks, vip))
            continue
        subnet = scope.topology.networks[network].subnet
        if problem := _unusable(int(vip), subnet) or _taken(int(vip), owners.get((network, int(vip)))):
            yield Finding(path, *problem)


def _outside(scope: Scope, networks: tuple[str, ...], vip: IPv4Address) -> tuple[str, str]:
    listed = ", ".join(f"{name} {scope.topology.networks[name].subnet}" for name in networks)
    owner = next((name for name, network in scope.topology.networks.items() if vip in network.subnet), None)
    hint = f"add {owner} to the director's networks" if owner else "choose an address in one of them"
    return f"{vip} lies in no network of the director ({listed})", hint


def _unusable(address: int, subnet: IPv4Network) -> tuple[str, str] | None:
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    shown = str(IPv4Address(address)) if address < 2**32 else "an address beyond 255.255.255.255"
    hint = f"use {IPv4Address(first + 1)} to {IPv4Address(last - 1)}"
    if not first <= address <= last:
        return f"{shown} is outside {subnet}", hint
    if address == first:
        return f"{shown} is the network address of {subnet}", hint
    if address == last:
        return f"{shown} is the broadcast address of {subnet}", hint
    return None


def _taken(address: int, owner: str | None) -> tuple[str, str] | None:
    hint = "choose another, or pin another gateway" if owner == GATEWAY else "choose another"
    return (f"{IPv4Address(address)} is {owner}", hint) if owner else None


def _macs(scope: Scope) -> Iterator[Finding]:
    topology, owners = scope.topology, dict[str, str]()
    pinned: list[tuple[Path, str, str]] = [
        (("groups", name, "nodes", node, "macs", network), node, mac)
        for name, group in topology.groups.items()
        for node, override in group.nodes.items()
        for network, mac in override.macs.items()
    ]
    pinned += [
        (("directors", name, "macs", network), f"{name}1", mac)
        for name, director in topology.directors.items()
        for network, mac in director.macs.items()
    ]
    for path, node, mac in pinned:
        if mac in owners:
            yield Finding(path, f"{mac} is a MAC of {show(owners[mac])} already", "every interface needs its own")
        owners.setdefault(mac, node)


RULES = (_overlapping_subnets, _gateways, _room, _pins_attached, _addresses, _macs)
