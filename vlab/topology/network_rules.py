"""The rules of what a network has room for: its addresses, its packets, its interfaces' MACs. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from vlab.topology.finding import Finding, Path, meant, show
from vlab.topology.mode_rules import IPV6_LEAST_MTU
from vlab.topology.scope import Scope


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


def _mtus(scope: Scope) -> Iterator[Finding]:
    for name, network in scope.topology.networks.items():
        if network.subnet6 and network.mtu < IPV6_LEAST_MTU:
            message = (
                f"{network.mtu} is too small for a network with subnet6: no link below {IPV6_LEAST_MTU} carries IPv6"
            )
            yield Finding(("networks", name, "mtu"), message, f"write {IPV6_LEAST_MTU} or more, or remove subnet6")


def _macs_attached(scope: Scope) -> Iterator[Finding]:
    """A MAC can be pinned only on a network that the node is on."""
    for path, networks, network, _, _ in _macs(scope):
        if network not in networks:
            yield Finding(path, f"it is not on network {show(network)}", meant(network, networks))


def _macs_once(scope: Scope) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for path, _, _, node, mac in _macs(scope):
        if mac in owners:
            yield Finding(path, f"{mac} is a MAC of {show(owners[mac])} already", "every interface needs its own")
        owners.setdefault(mac, node)


def _macs(scope: Scope) -> Iterator[tuple[Path, tuple[str, ...], str, str, str]]:
    """Where a MAC is pinned, the networks of whom, the network it is on, the node, the MAC."""
    for name, group in scope.topology.groups.items():
        for node, override in group.nodes.items():
            for network, mac in override.macs.items():
                yield ("groups", name, "nodes", node, "macs", network), group.networks, network, node, mac
    for name, director in scope.topology.directors.items():
        for network, mac in director.macs.items():
            yield ("directors", name, "macs", network), director.networks, network, f"{name}1", mac


RULES = (_room, _mtus, _macs_attached, _macs_once)
