"""The keys that a topology has once for each family of addresses (``gateway`` and ``gateway6``), so that a rule can be written once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from vlab.topology import members
from vlab.topology.family import Address, Subnet
from vlab.topology.members import Pin
from vlab.topology.model import Director, Group, Network, NodeOverride
from vlab.topology.scope import Scope


@dataclass(frozen=True, slots=True)
class AddressKeys:
    """One family's keys and words. ``suffix`` ends the keys' names. ``gateway`` is the pinned one, ``own`` what the lab has in any case.
    ``first`` and ``last`` say what a subnet's first and last address are; ``last`` is empty where a host can have it."""

    suffix: str
    family: type[IPv4Address] | type[IPv6Address]
    subnet: Callable[[Network], Subnet | None]
    gateway: Callable[[Network], Address | None]
    own: Callable[[Network], Address | None]
    addresses: Callable[[Group | NodeOverride | Director], Mapping[str, Address]]
    inner_vips: Callable[[Director], Mapping[str, Address]]
    pins: Callable[[Scope], list[Pin]]
    beyond: str
    first: str
    last: str

    def key(self, name: str) -> str:
        """The key that is called ``name`` in IPv4."""
        return name + self.suffix

    def show(self, address: int) -> str:
        """Pins count up from the first node's, so a number may be no address at all."""
        try:
            return str(self.family(address))
        except ValueError:
            return f"an address beyond {self.beyond}"


FOUR = AddressKeys(
    suffix="",
    family=IPv4Address,
    subnet=lambda network: network.subnet,
    gateway=lambda network: network.gateway,
    own=lambda network: members.gateway(network.subnet, network.gateway),
    addresses=lambda owner: owner.addresses,
    inner_vips=lambda director: director.inner_vip,
    pins=lambda scope: scope.pins,
    beyond="255.255.255.255",
    first="the network address of",
    last="the broadcast address of",
)

SIX = AddressKeys(
    suffix="6",
    family=IPv6Address,
    subnet=lambda network: network.subnet6,
    gateway=lambda network: network.gateway6,
    own=members.gateway6,
    addresses=lambda owner: owner.addresses6,
    inner_vips=lambda director: director.inner_vip6,
    pins=lambda scope: scope.pins6,
    beyond="ffff:…:ffff",
    first="the address of all routers on",
    last="",
)
