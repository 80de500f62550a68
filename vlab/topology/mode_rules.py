"""What each forwarding mode asks of the networks: one class a mode, found by the word the file uses. Pure.

A request always comes to the VIP, on the director's network that the VIP lies in; the modes differ in the way from the director
to a real server, and in the way back. A real server reaches a client directly when both are on one network, or each is on a
``routed`` one: the lab's own gateway forwards between those. (R numbers: the rules of the LVS research notes.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlab.topology.family import is_six
from vlab.topology.finding import Finding, Path, show
from vlab.topology.lab import Tunnel
from vlab.topology.tunnels import GUE_PORT, TUNNELS, overhead

if TYPE_CHECKING:
    from vlab.topology.model import Service

_MEANT = {
    "nat": ("masq", "masquerade", "masquerading", "vs/nat"),
    "dr": ("gate", "gateway", "direct", "direct-routing", "route", "dsr", "vs/dr"),
    "tun": ("tunnel", "ipip", "tunneling", "tunnelling", "vs/tun"),
}
MODE_SYNONYMS = {word: name for name, words in _MEANT.items() for word in words}

IPV6_LEAST_MTU = 1280
"""Below it a link carries no IPv6 (RFC 8200, section 5; include/uapi/linux/ipv6.h)."""


@dataclass(frozen=True, slots=True)
class Forwarding:
    """A service with the networks around it. ``servers`` are the networks of the real servers by group; ``mtus`` of all networks;
    ``routed`` are those between which the lab's gateway forwards."""

    service: Service
    path: Path
    director_networks: tuple[str, ...]
    vip_network: str
    servers: dict[str, tuple[str, ...]]
    mtus: dict[str, int]
    routed: frozenset[str] = frozenset()
    lacking: frozenset[str] = frozenset()
    """The networks that have no addresses of the VIP's family."""

    @property
    def shared(self) -> list[str]:
        """The networks that the director and every real server have an address on of the VIP's family, in the director's order."""
        return [name for name in self.shared_by_any_family if name not in self.lacking]

    @property
    def shared_by_any_family(self) -> list[str]:
        return [name for name in self.director_networks if all(name in on for on in self.servers.values())]

    def off(self, network: str) -> list[str]:
        """The groups of real servers that are not on ``network``."""
        return [group for group, networks in self.servers.items() if network not in networks]

    @property
    def stranded(self) -> list[str]:
        """The groups of real servers from which no way leads to clients on the VIP's network but through the director."""
        away = self.off(self.vip_network)
        return [
            group for group in away if self.vip_network not in self.routed or not self.routed & {*self.servers[group]}
        ]

    @property
    def beside(self) -> str | None:
        """The first shared network that is not the VIP's."""
        return next((name for name in self.shared if name != self.vip_network), None)


class ModeRules(ABC):
    """The rules of one mode. ``known`` fills itself from the subclasses."""

    known: ClassVar[dict[str, ModeRules]] = {}
    name: ClassVar[str]
    keys: ClassVar[frozenset[str]] = frozenset()
    """The keys of a service that mean something in this mode only."""

    def __init_subclass__(cls) -> None:
        ModeRules.known[cls.name] = cls()

    @abstractmethod
    def inner_network(self, forwarding: Forwarding) -> str | None:
        """The network over which the director reaches the real servers, None where there is none."""

    @abstractmethod
    def problems(self, forwarding: Forwarding) -> Iterator[Finding]:
        """Why the service cannot work."""

    def takes_default_route(self, service: Service) -> bool:  # noqa: ARG002 - a mode may depend on the service
        """Do real servers need the director's address on the inner network as their default route, the way that replies take?"""
        return False

    def tunnel(self, service: Service) -> Tunnel | None:  # noqa: ARG002 - most modes wrap nothing
        """What packets are wrapped in."""
        return None

    def warnings(self, forwarding: Forwarding) -> Iterator[Finding]:  # noqa: ARG002 - most modes warn of nothing
        """Why the service may work less well than its author thinks."""
        yield from ()


class Nat(ModeRules):
    """Requests and replies both pass the director, which rewrites addresses and ports."""

    name = "nat"
    keys = frozenset({"snat"})

    def inner_network(self, forwarding: Forwarding) -> str | None:
        return forwarding.beside or (next(iter(forwarding.shared), None) if forwarding.service.snat else None)

    def takes_default_route(self, service: Service) -> bool:
        return not service.snat

    def problems(self, forwarding: Forwarding) -> Iterator[Finding]:
        beside = (
            []
            if forwarding.service.snat
            else [group for group, networks in forwarding.servers.items() if forwarding.vip_network in networks]
        )
        if beside:  # R1
            message = (
                f"nat needs every reply to pass the director, but {_groups(beside)} on {show(forwarding.vip_network)}, "
                "the VIP's network, and would answer its clients directly"
            )
            hint = "put the real servers on a network of their own, set snat: true, or use mode: dr"
            yield Finding((*forwarding.path, "mode"), message, hint)
        elif self.inner_network(forwarding) is None:
            yield _nothing_shared(forwarding)


class Dr(ModeRules):
    """The director readdresses frames; the real server owns the VIP, silently, and answers the client itself."""

    name = "dr"

    def inner_network(self, forwarding: Forwarding) -> str | None:
        """The VIP's own where all real servers are on it; another one that they share with the director where a router leads back."""
        if not forwarding.off(forwarding.vip_network):
            return forwarding.vip_network
        return None if forwarding.stranded else forwarding.beside

    def problems(self, forwarding: Forwarding) -> Iterator[Finding]:
        yield from _same_port(forwarding)
        away = forwarding.off(forwarding.vip_network)
        if away and forwarding.beside is None:  # R2
            message = (
                f"dr needs director, real servers and clients on one network, but {_groups(away)} not on "
                f"{show(forwarding.vip_network)}, the VIP's network"
            )
            hint = f"add {forwarding.vip_network} to the networks of {', '.join(away)}, or use mode: nat"
            yield Finding((*forwarding.path, "mode"), message, hint)
        else:
            yield from _no_way_back(forwarding)


class Tun(ModeRules):
    """The director wraps packets in IP; the real server unwraps them and answers the client itself."""

    name = "tun"
    keys = frozenset({"tunnel"})

    def tunnel(self, service: Service) -> Tunnel:
        asked = service.tunnel
        return Tunnel(asked.type, asked.port, asked.checksum) if asked else Tunnel("ipip", GUE_PORT, "none")

    def inner_network(self, forwarding: Forwarding) -> str | None:
        """Another network than the VIP's where there is one, so that requests and replies go different ways."""
        return forwarding.beside or next(iter(forwarding.shared), None)

    def problems(self, forwarding: Forwarding) -> Iterator[Finding]:
        yield from _same_port(forwarding)
        yield from self._room_for_ipv6(forwarding)
        if self.inner_network(forwarding) is None:
            yield _nothing_shared(forwarding)
        else:
            yield from _no_way_back(forwarding)

    def _room_for_ipv6(self, forwarding: Forwarding) -> Iterator[Finding]:
        """ip_vs wraps nothing where the inside would have less than IPv6's least MTU (ip_vs_tunnel_xmit_v6)."""
        inner, least = self.inner_network(forwarding), IPV6_LEAST_MTU + self._overhead(forwarding)
        if inner and is_six(forwarding.service.vip) and forwarding.mtus[inner] < least:
            title = TUNNELS[self.tunnel(forwarding.service).type].title6
            message = (
                f"packets of {IPV6_LEAST_MTU} bytes, which every IPv6 link carries, do not fit {show(inner)} once they are "
                f"wrapped ({title}): mtu {forwarding.mtus[inner]} is less than {least}"
            )
            yield Finding((*forwarding.path, "mode"), message, f"set mtu: {least} or more on {inner}")

    def _overhead(self, forwarding: Forwarding) -> int:
        tunnel = self.tunnel(forwarding.service)
        return overhead(tunnel.type, tunnel.checksum, six=is_six(forwarding.service.vip))

    def warnings(self, forwarding: Forwarding) -> Iterator[Finding]:
        inner = self.inner_network(forwarding)
        wanted = forwarding.mtus[forwarding.vip_network] + self._overhead(forwarding)
        if inner and forwarding.mtus[inner] < wanted:  # R4
            message = (
                f"a full packet of {show(forwarding.vip_network)} does not fit {show(inner)} once it is wrapped: "
                f"mtu {forwarding.mtus[inner]} is less than {wanted}"
            )
            if inner != forwarding.vip_network:
                hint = f"set mtu: {wanted} on {inner}; until then the real servers offer clients a smaller segment"
            else:
                hint = (
                    "the real servers offer clients a smaller segment; a second network with a larger mtu avoids that"
                )
            yield Finding((*forwarding.path, "mode"), message, hint)


def _same_port(forwarding: Forwarding) -> Iterator[Finding]:
    """R3: only nat can change a port; ipvsadm would replace it without a word."""
    service = forwarding.service
    if service.port is not None and service.real_port not in (None, service.port):
        message = f"{service.mode} cannot change the port from {service.port} to {service.real_port}"
        yield Finding((*forwarding.path, "real_port"), message, "remove real_port, or use mode: nat")


def _no_way_back(forwarding: Forwarding) -> Iterator[Finding]:
    """R2: in dr and tun the answer goes to the client without the director."""
    if away := forwarding.stranded:
        vip_network = forwarding.vip_network
        message = (
            f"{forwarding.service.mode} real servers answer clients directly, but {_groups(away)} not on {show(vip_network)}, "
            "the VIP's network, and no router leads there"
        )
        cut_off = [networks for group in away if not forwarding.routed & {*(networks := forwarding.servers[group])}]
        ways = [vip_network, *(forwarding.beside or networks[0] for networks in cut_off)]
        lacking = [name for name in dict.fromkeys(ways) if name not in forwarding.routed]
        six = " (with subnet6)" if forwarding.lacking.intersection(lacking) else ""
        hint = f"add {vip_network} to the networks of {', '.join(away)}, or use mode: nat"
        hint = f"set routed: true on {' and '.join(lacking)}{six}, {hint}"
        yield Finding((*forwarding.path, "mode"), message, hint)


def _nothing_shared(forwarding: Forwarding) -> Finding:
    """R8: where they share one, but in the other family only, that is what is missing."""
    if other := [name for name in forwarding.shared_by_any_family if name != forwarding.vip_network]:
        message = (
            f"{forwarding.service.vip} is IPv6, and {show(other[0])}, the network that the director shares with "
            f"{_list(list(forwarding.servers))}, has no subnet6"
        )
        return Finding((*forwarding.path, "vip"), message, f"add subnet6 to network {other[0]}")
    lonely = [
        group for group, networks in forwarding.servers.items() if not set(networks) & set(forwarding.director_networks)
    ]
    network = next((name for name in forwarding.director_networks if name != forwarding.vip_network), None)
    message = f"no network is shared by the director and {_list(lonely or list(forwarding.servers))}"
    hint = f"put them on {network}" if network else "give the director and the real servers a second network"
    return Finding((*forwarding.path, "real_servers"), message, hint)


def _groups(names: list[str]) -> str:
    return f"{_list(names)} {'is' if len(names) == 1 else 'are'}"


def _list(names: list[str]) -> str:
    return " and ".join(show(name) for name in names)
