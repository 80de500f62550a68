"""What each forwarding mode asks of the networks: one class a mode, found by the word the file uses. Pure.

A request always comes to the VIP, on the director's network that the VIP lies in; the modes differ in the way from the director
to a real server, and in the way back. The lab has no router but its directors, so a real server reaches a client directly
only when both are on one network. (R numbers: the rules of the LVS research notes.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vlab.topology.finding import Finding, Path, show

if TYPE_CHECKING:
    from vlab.topology.model import Service

_MEANT = {
    "nat": ("masq", "masquerade", "masquerading", "vs/nat"),
    "dr": ("gate", "gateway", "direct", "direct-routing", "route", "dsr", "vs/dr"),
    "tun": ("tunnel", "ipip", "tunneling", "tunnelling", "vs/tun"),
}
MODE_SYNONYMS = {word: name for name, words in _MEANT.items() for word in words}

IPIP_OVERHEAD = 20
"""Bytes of the outer IPv4 header."""


@dataclass(frozen=True, slots=True)
class Forwarding:
    """A service with the networks around it. ``servers`` are the networks of the real servers by group; ``mtus`` of all networks."""

    service: Service
    path: Path
    director_networks: tuple[str, ...]
    vip_network: str
    servers: dict[str, tuple[str, ...]]
    mtus: dict[str, int]

    @property
    def shared(self) -> list[str]:
        """The networks that the director and every real server are on, in the director's order."""
        return [name for name in self.director_networks if all(name in on for on in self.servers.values())]

    def off(self, network: str) -> list[str]:
        """The groups of real servers that are not on ``network``."""
        return [group for group, networks in self.servers.items() if network not in networks]


class ModeRules(ABC):
    """The rules of one mode. ``known`` fills itself from the subclasses."""

    known: ClassVar[dict[str, ModeRules]] = {}
    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        ModeRules.known[cls.name] = cls()

    @abstractmethod
    def inner_network(self, forwarding: Forwarding) -> str | None:
        """The network over which the director reaches the real servers, None where there is none."""

    @abstractmethod
    def problems(self, forwarding: Forwarding) -> Iterator[Finding]:
        """Why the service cannot work."""

    def warnings(self, forwarding: Forwarding) -> Iterator[Finding]:  # noqa: ARG002 - most modes warn of nothing
        """Why the service may work less well than its author thinks."""
        yield from ()


class Nat(ModeRules):
    """Requests and replies both pass the director, which rewrites addresses and ports."""

    name = "nat"

    def inner_network(self, forwarding: Forwarding) -> str | None:
        return next((name for name in forwarding.shared if name != forwarding.vip_network), None)

    def problems(self, forwarding: Forwarding) -> Iterator[Finding]:
        beside = [group for group, networks in forwarding.servers.items() if forwarding.vip_network in networks]
        if beside:  # R1
            message = (
                f"nat needs every reply to pass the director, but {_groups(beside)} on {show(forwarding.vip_network)}, "
                "the VIP's network, and would answer its clients directly"
            )
            yield Finding(
                (*forwarding.path, "mode"), message, "put the real servers on a network of their own, or use mode: dr"
            )
        elif self.inner_network(forwarding) is None:
            yield _nothing_shared(forwarding)


class Dr(ModeRules):
    """The director readdresses frames; the real server owns the VIP, silently, and answers the client itself."""

    name = "dr"

    def inner_network(self, forwarding: Forwarding) -> str | None:
        return None if forwarding.off(forwarding.vip_network) else forwarding.vip_network

    def problems(self, forwarding: Forwarding) -> Iterator[Finding]:
        yield from _same_port(forwarding)
        if away := forwarding.off(forwarding.vip_network):  # R2
            message = (
                f"dr needs director, real servers and clients on one network, but {_groups(away)} not on "
                f"{show(forwarding.vip_network)}, the VIP's network"
            )
            hint = f"add {forwarding.vip_network} to the networks of {', '.join(away)}, or use mode: nat"
            yield Finding((*forwarding.path, "mode"), message, hint)


class Tun(ModeRules):
    """The director wraps packets in IP; the real server unwraps them and answers the client itself."""

    name = "tun"

    def inner_network(self, forwarding: Forwarding) -> str | None:
        """Another network than the VIP's where there is one, so that requests and replies go different ways."""
        return next((name for name in forwarding.shared if name != forwarding.vip_network), self._fallback(forwarding))

    def _fallback(self, forwarding: Forwarding) -> str | None:
        return forwarding.vip_network if forwarding.vip_network in forwarding.shared else None

    def problems(self, forwarding: Forwarding) -> Iterator[Finding]:
        yield from _same_port(forwarding)
        if self.inner_network(forwarding) is None:
            yield _nothing_shared(forwarding)
        elif away := forwarding.off(forwarding.vip_network):
            message = (
                f"tun real servers answer clients directly, but {_groups(away)} not on {show(forwarding.vip_network)}, "
                "the VIP's network, and the lab has no other router"
            )
            hint = f"add {forwarding.vip_network} to the networks of {', '.join(away)}, or use mode: nat"
            yield Finding((*forwarding.path, "mode"), message, hint)

    def warnings(self, forwarding: Forwarding) -> Iterator[Finding]:
        inner = self.inner_network(forwarding)
        wanted = forwarding.mtus[forwarding.vip_network] + IPIP_OVERHEAD
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
    if service.real_port is not None and service.real_port != service.port:
        message = f"{service.mode} cannot change the port from {service.port} to {service.real_port}"
        yield Finding((*forwarding.path, "real_port"), message, "remove real_port, or use mode: nat")


def _nothing_shared(forwarding: Forwarding) -> Finding:
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
