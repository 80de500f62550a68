"""The rules of subnets and addresses, the same for IPv4 and IPv6. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from vlab.topology.address_keys import FOUR, SIX, AddressKeys
from vlab.topology.family import Address, Subnet
from vlab.topology.finding import Finding, Path, meant, show
from vlab.topology.scope import Scope

GATEWAY = "the lab's own address on the network, its gateway"

Owners = dict[tuple[str, int], str]
"""Who has an address of a network."""


def _overlapping_subnets(keys: AddressKeys, scope: Scope) -> Iterator[Finding]:
    """Sorted by first address, a subnet overlaps an earlier one exactly when it starts before the widest of them ends."""
    networks = scope.topology.networks.items()
    subnets = [(subnet, name) for name, network in networks if (subnet := keys.subnet(network))]
    widest: tuple[Subnet, str] | None = None
    for subnet, name in sorted(subnets, key=lambda it: (int(it[0].network_address), it[0].prefixlen, it[1])):
        if widest and int(subnet.network_address) <= int(widest[0].broadcast_address):
            message = f"{subnet} overlaps {widest[0]} of network {show(widest[1])}"
            yield Finding(("networks", name, keys.key("subnet")), message, "give each network a subnet of its own")
        if widest is None or int(subnet.broadcast_address) > int(widest[0].broadcast_address):
            widest = (subnet, name)


def _gateways(keys: AddressKeys, scope: Scope) -> Iterator[Finding]:
    for name, network in scope.topology.networks.items():
        path, address, subnet = ("networks", name, keys.key("gateway")), keys.gateway(network), keys.subnet(network)
        if address and subnet is None:
            yield Finding(path, f"the network has no {keys.key('subnet')}", _give_one(keys, name))
        elif address and subnet and (problem := _unusable(keys, int(address), subnet)):
            yield Finding(path, *problem)


def _pins_attached(keys: AddressKeys, scope: Scope) -> Iterator[Finding]:
    """An address can be pinned only on a network that the node is on, and that has the family."""
    networks = scope.topology.networks
    for path, on, names in _pinned(keys, scope):
        for name in names:
            if name not in on:
                yield Finding((*path, name), f"it is not on network {show(name)}", meant(name, on))
            elif name in networks and keys.subnet(networks[name]) is None:
                message = f"network {show(name)} has no {keys.key('subnet')}"
                yield Finding((*path, name), message, _give_one(keys, name))


def _pinned(keys: AddressKeys, scope: Scope) -> Iterator[tuple[Path, tuple[str, ...], list[str]]]:
    """Where addresses are pinned: the networks of whom, and on which."""
    topology, key = scope.topology, keys.key("addresses")
    for name, group in topology.groups.items():
        yield ("groups", name, key), group.networks, list(keys.addresses(group))
        for node, override in group.nodes.items():
            yield ("groups", name, "nodes", node, key), group.networks, list(keys.addresses(override))
    for name, director in topology.directors.items():
        yield ("directors", name, key), director.networks, list(keys.addresses(director))
        yield ("directors", name, keys.key("inner_vip")), director.networks, list(keys.inner_vips(director))


def _addresses(keys: AddressKeys, scope: Scope) -> Iterator[Finding]:
    """Pinned addresses and VIPs are usable and nobody else's."""
    networks = scope.topology.networks
    owners = {(name, int(own)): GATEWAY for name, network in networks.items() if (own := keys.own(network))}
    yield from _pins(keys, scope, owners)
    yield from _inner_vips(keys, scope, owners)
    yield from _vips(keys, scope, owners)


def _pins(keys: AddressKeys, scope: Scope, owners: Owners) -> Iterator[Finding]:
    """One finding a pin, however many nodes count up from it. Adds the pinned to ``owners``."""
    networks, blamed = scope.topology.networks, set[Path]()
    for pin in keys.pins(scope):
        subnet = keys.subnet(networks[pin.network]) if pin.network in networks else None
        if pin.path in blamed or subnet is None:
            continue
        key = (pin.network, pin.address)
        if problem := _unusable(keys, pin.address, subnet) or _taken(keys, pin.address, owners.get(key)):
            blamed.add(pin.path)
            subject = "" if pin.node in pin.path else f"{pin.node} would get it, but "
            yield Finding(pin.path, f"{subject}{problem[0]}", problem[1])
        owners.setdefault(key, f"the pinned address of {show(pin.node)}")


def _inner_vips(keys: AddressKeys, scope: Scope, owners: Owners) -> Iterator[Finding]:
    """Adds floating addresses to ``owners``."""
    networks, word = scope.topology.networks, keys.key("inner_vip")
    for name, director in scope.topology.directors.items():
        for network, address in keys.inner_vips(director).items():
            subnet, key = keys.subnet(networks[network]) if network in networks else None, (network, int(address))
            if subnet is None:
                continue
            if problem := _unusable(keys, key[1], subnet) or _taken(keys, key[1], owners.get(key)):
                yield Finding(("directors", name, word, network), *problem)
            owners.setdefault(key, f"the {word} of director {show(name)}")


def _vips(keys: AddressKeys, scope: Scope, owners: Owners) -> Iterator[Finding]:
    networks = scope.topology.networks
    for place in scope.services:
        director, vip, path = scope.topology.directors[place.director], place.service.vip, (*place.path, "vip")
        if not isinstance(vip, keys.family):
            continue
        name = scope.directory.vip_network(director, vip)
        if name is None:
            if all(known in networks for known in director.networks):
                yield Finding(path, *_outside(keys, scope, director.networks, vip))
            continue
        subnet, key = keys.subnet(networks[name]), (name, int(vip))
        if subnet and (problem := _unusable(keys, key[1], subnet) or _taken(keys, key[1], owners.get(key))):
            yield Finding(path, *problem)


def _outside(keys: AddressKeys, scope: Scope, names: tuple[str, ...], vip: Address) -> tuple[str, str]:
    networks, word = scope.topology.networks, keys.key("subnet")
    listed = ", ".join(f"{name} {keys.subnet(networks[name]) or f'without {word}'}" for name in names)
    owner = next((name for name, network in networks.items() if network.holds(vip)), None)
    if owner:
        hint = f"add {owner} to the director's networks"
    elif any(keys.subnet(networks[name]) for name in names):
        hint = "choose an address in one of them"
    else:
        hint = f"add a {word} that holds it to network {names[0]}"
    return f"{vip} lies in no network of the director ({listed})", hint


def _give_one(keys: AddressKeys, network: str) -> str:
    return f"add a {keys.key('subnet')} to network {network}"


def _unusable(keys: AddressKeys, address: int, subnet: Subnet) -> tuple[str, str] | None:
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    highest = last - 1 if keys.last else last
    if first < address <= highest:
        return None
    shown, hint = keys.show(address), f"use {keys.show(first + 1)} to {keys.show(highest)}"
    if not first <= address <= last:
        return f"{shown} is outside {subnet}", hint
    return f"{shown} is {keys.first if address == first else keys.last} {subnet}", hint


def _taken(keys: AddressKeys, address: int, owner: str | None) -> tuple[str, str] | None:
    hint = f"choose another, or pin another {keys.key('gateway')}" if owner == GATEWAY else "choose another"
    return (f"{keys.show(address)} is {owner}", hint) if owner else None


_EACH: tuple[Callable[[AddressKeys, Scope], Iterator[Finding]], ...] = (
    _overlapping_subnets,
    _gateways,
    _pins_attached,
    _addresses,
)
RULES = tuple(partial(rule, keys) for keys in (FOUR, SIX) for rule in _EACH)
