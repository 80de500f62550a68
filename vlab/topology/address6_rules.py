"""The rules of IPv6 subnets and addresses; ``address_rules`` has IPv4's. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network

from vlab.topology.address_rules import GATEWAY, overlaps
from vlab.topology.finding import Finding, Path, meant, show
from vlab.topology.members import gateway6
from vlab.topology.mode_rules import IPV6_LEAST_MTU
from vlab.topology.scope import Scope


def _overlapping_subnets(scope: Scope) -> Iterator[Finding]:
    networks = scope.topology.networks.items()
    yield from overlaps("subnet6", {name: network.subnet6 for name, network in networks if network.subnet6})


def _mtus(scope: Scope) -> Iterator[Finding]:
    for name, network in scope.topology.networks.items():
        if network.subnet6 and network.mtu < IPV6_LEAST_MTU:
            message = (
                f"{network.mtu} is too small for a network with subnet6: no link below {IPV6_LEAST_MTU} carries IPv6"
            )
            yield Finding(("networks", name, "mtu"), message, f"write {IPV6_LEAST_MTU} or more, or remove subnet6")


def _gateways(scope: Scope) -> Iterator[Finding]:
    for name, network in scope.topology.networks.items():
        path = ("networks", name, "gateway6")
        if network.gateway6 and network.subnet6 is None:
            yield Finding(path, "the network has no subnet6", _give_one(name))
        elif network.gateway6 and network.subnet6 and (problem := _unusable(int(network.gateway6), network.subnet6)):
            yield Finding(path, *problem)


def _pins_attached(scope: Scope) -> Iterator[Finding]:
    """An address can be pinned only on a network that the node is on, and that has IPv6."""
    for path, on, names in _pinned(scope):
        for name in names:
            if name not in on:
                yield Finding((*path, name), f"it is not on network {show(name)}", meant(name, on))
            elif name in scope.topology.networks and scope.topology.networks[name].subnet6 is None:
                yield Finding((*path, name), f"network {show(name)} has no subnet6", _give_one(name))


def _pinned(scope: Scope) -> Iterator[tuple[Path, tuple[str, ...], list[str]]]:
    topology = scope.topology
    for name, group in topology.groups.items():
        yield ("groups", name, "addresses6"), group.networks, list(group.addresses6)
        for node, override in group.nodes.items():
            yield ("groups", name, "nodes", node, "addresses6"), group.networks, list(override.addresses6)
    for name, director in topology.directors.items():
        yield ("directors", name, "addresses6"), director.networks, list(director.addresses6)
        yield ("directors", name, "inner_vip6"), director.networks, list(director.inner_vip6)


def _addresses(scope: Scope) -> Iterator[Finding]:
    """Pinned addresses and VIPs are usable and nobody else's. One finding a pin, however many nodes count up from it."""
    networks = scope.topology.networks
    owners = {(name, int(own)): GATEWAY for name, network in networks.items() if (own := gateway6(network))}
    blamed: set[Path] = set()
    for pin in scope.pins6:
        subnet = networks[pin.network].subnet6 if pin.network in networks else None
        if pin.path in blamed or subnet is None:
            continue
        key = (pin.network, pin.address)
        if problem := _unusable(pin.address, subnet) or _taken(pin.address, owners.get(key)):
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
        for network, address in director.inner_vip6.items():
            subnet, key = networks[network].subnet6 if network in networks else None, (network, int(address))
            if subnet is None:
                continue
            if problem := _unusable(int(address), subnet) or _taken(int(address), owners.get(key)):
                yield Finding(("directors", name, "inner_vip6", network), *problem)
            owners.setdefault(key, f"the inner_vip6 of director {show(name)}")


def _vips(scope: Scope, owners: dict[tuple[str, int], str]) -> Iterator[Finding]:
    for place in scope.services:
        director, vip, path = scope.topology.directors[place.director], place.service.vip, (*place.path, "vip")
        if not isinstance(vip, IPv6Address):
            continue
        network = scope.directory.vip_network(director, vip)
        if network is None:
            if all(name in scope.topology.networks for name in director.networks):
                yield Finding(path, *_outside(scope, director.networks, vip))
            continue
        subnet = scope.topology.networks[network].subnet6
        if subnet and (problem := _unusable(int(vip), subnet) or _taken(int(vip), owners.get((network, int(vip))))):
            yield Finding(path, *problem)


def _outside(scope: Scope, names: tuple[str, ...], vip: IPv6Address) -> tuple[str, str]:
    networks = scope.topology.networks
    listed = ", ".join(f"{name} {networks[name].subnet6 or 'without subnet6'}" for name in names)
    owner = next((name for name, network in networks.items() if network.holds(vip)), None)
    if owner:
        hint = f"add {owner} to the director's networks"
    elif any(networks[name].subnet6 for name in names):
        hint = "choose an address in one of them"
    else:
        hint = f"add a subnet6 that holds it to network {names[0]}"
    return f"{vip} lies in no network of the director ({listed})", hint


def _give_one(network: str) -> str:
    return f"add a subnet6 to network {network}"


def _unusable(address: int, subnet: IPv6Network) -> tuple[str, str] | None:
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    shown = str(IPv6Address(address)) if address < 2**128 else "an address beyond ffff:…:ffff"
    hint = f"use {IPv6Address(first + 1)} to {IPv6Address(last)}"
    if not first <= address <= last:
        return f"{shown} is outside {subnet}", hint
    if address == first:
        return f"{shown} is the address of all routers on {subnet}", hint
    return None


def _taken(address: int, owner: str | None) -> tuple[str, str] | None:
    hint = "choose another, or pin another gateway6" if owner == GATEWAY else "choose another"
    return (f"{IPv6Address(address)} is {owner}", hint) if owner else None


RULES = (_overlapping_subnets, _mtus, _gateways, _pins_attached, _addresses)
