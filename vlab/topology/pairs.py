"""Director pairs: which floating addresses a pair needs, where they are, and what the lab says of it. Pure.

A floating address is one that VRRP gives to the active node alone: the VIPs, and on networks of nat real servers the inner
address that they route to. An inner address that the file does not name has a home like a node, behind the pair's own two; its
IPv6 twin, for IPv6 services, has the same digits (``blocks6``).

VRRP speaks IPv4 whatever floats (``lvs/vrrp``), and an instance of it announces at least one address. So there is an inner address of
IPv4 also on networks where only IPv6 would float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface

from vlab.topology import identity
from vlab.topology.blocks import Seat
from vlab.topology.family import Address, Interface, is_six
from vlab.topology.lab import Floating, Pair
from vlab.topology.members import Directory, node_names, placed
from vlab.topology.mode_rules import ModeRules
from vlab.topology.model import Director


@dataclass(frozen=True, slots=True)
class Inner:
    """The floating inner address of ``director`` on ``network``. ``key`` stands for a node in tables of addresses: it can be no node's
    name."""

    director: str
    network: str

    @property
    def key(self) -> str:
        return f"{self.director} (floating)"


class Pairs:
    """The pairs of a topology, which may have mistakes: what does not resolve is left out."""

    def __init__(self, directory: Directory) -> None:
        self._topology, self._directory = directory.topology, directory
        self.directors = {name: one for name, one in directory.topology.directors.items() if one.count > 1}

    def derived(self) -> list[Inner]:
        """The inner addresses that the file does not name, each once: those that real servers need, then those that only VRRP needs."""
        needed = dict.fromkeys([*(inner for inner, _ in self._routed_to()), *self._only_six()])
        return [inner for inner in needed if inner.network not in self.directors[inner.director].inner_vip]

    def _routed_to(self) -> Iterator[tuple[Inner, bool]]:
        """Where real servers route to a pair, and whether by IPv6; once for each service."""
        for place in placed(self._topology):
            rules = ModeRules.known[place.service.mode]
            if place.director not in self.directors or not rules.takes_default_route(place.service):
                continue
            forwarding = self._directory.forwarding(place)
            if forwarding and (network := rules.inner_network(forwarding)):
                yield Inner(place.director, network), is_six(place.service.vip)

    def _only_six(self) -> Iterator[Inner]:
        """Where a pair has addresses of IPv6 and no VIP of IPv4."""
        for name, one in self.directors.items():
            vips = self._vips(one)
            four = {network for vip, network in vips.items() if not is_six(vip)}
            yield from (Inner(name, network) for network in [*vips.values(), *one.inner_vip6] if network not in four)

    def _vips(self, one: Director) -> dict[Address, str]:
        """The network of each VIP that lies in one, in the order of the file."""
        found = {service.vip: self._directory.vip_network(one, service.vip) for service in one.services.values()}
        return {vip: network for vip, network in found.items() if network}

    def seats(self, starts: Mapping[str, int]) -> Iterator[tuple[str, Seat]]:
        """(network, seat) of each derived address; ``starts`` is where each director starts in the directors' block."""
        for inner in self.derived():
            count = self.directors[inner.director].count
            yield inner.network, Seat(inner.key, 0, starts[inner.director] + count)

    def named(self) -> dict[Inner, IPv4Address]:
        """The inner addresses that the file names."""
        directors = self.directors.items()
        return {Inner(name, on): own for name, one in directors for on, own in one.inner_vip.items()}

    def named6(self) -> dict[Inner, IPv6Address]:
        """Likewise those of IPv6."""
        directors = self.directors.items()
        return {Inner(name, on): own for name, one in directors for on, own in one.inner_vip6.items()}

    def complete(
        self,
        lab: str,
        addresses: Mapping[tuple[str, str], IPv4Address],
        addresses6: Mapping[tuple[str, str], IPv6Address],
    ) -> tuple[Pair, ...]:
        """Addresses are by node, or ``Inner.key``, and network. The topology must be valid."""
        taken = {director.vrid for director in self.directors.values() if director.vrid is not None}
        routed6 = (inner for inner, six in self._routed_to() if six)
        inner = {it: addresses[it.key, it.network] for it in (*self.named(), *self.derived())}
        inner6 = {it: addresses6[it.key, it.network] for it in (*self.named6(), *routed6)}
        return tuple(
            Pair(
                director=name,
                nodes=tuple(node_names(name, one.count)),
                vrid=one.vrid or identity.vrid(taken, lab, name),
                sync=one.sync is not False,
                preempt=one.preempt is True,
                floating=(*self._clients_call(one), *self._own(name, inner), *self._own(name, inner6)),
            )
            for name, one in self.directors.items()
        )

    def _clients_call(self, one: Director) -> Iterator[Floating]:
        for vip, network in self._vips(one).items():
            yield Floating(network, self._interface(network, vip), inner=False)

    def _own(self, name: str, inner: Mapping[Inner, Address]) -> Iterator[Floating]:
        for it, address in inner.items():
            if it.director == name:
                yield Floating(it.network, self._interface(it.network, address), inner=True)

    def _interface(self, network: str, address: Address) -> Interface:
        declared = self._topology.networks[network]
        subnet = declared.subnet6 if is_six(address) else declared.subnet
        assert subnet, "a valid topology's addresses lie in subnets"
        return ip_interface(f"{address}/{subnet.prefixlen}")
