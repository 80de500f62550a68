"""The forwarding modes: what each asks of the director and of a real server, and how its replies travel. Pure.

A mode is one class, found by its ``name``: nothing else in vlab lists them. ``settings`` composes what the modes of all
services of a node ask for; ``keepalived`` and ``verify`` use the words; the topology rules of each mode are in
``vlab/topology/mode_rules.py``. The facts are those of the kernel's own IPVS self test
(tools/testing/selftests/net/netfilter/ipvs.sh) and of ipvsadm(8).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import ClassVar

from vlab.errors import UsageError
from vlab.guests.settings import Address, Route, Sysctl, Tunnel
from vlab.lvs.index import Role, device
from vlab.topology.lab import Node, Service

ANYWHERE = IPv4Network("0.0.0.0/0")
ON_LINK = IPv4Address("0.0.0.0")
"""A ``Route.via`` that means «no gateway, the destination is on this link», as routing tables print it."""

IPIP_HEADER = 20
IP_TCP_HEADERS = 40


@dataclass(frozen=True, slots=True)
class Needs:
    """What one service asks of one node, in the order it is applied."""

    tunnels: tuple[Tunnel, ...] = ()
    sysctls: tuple[Sysctl, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()


class ForwardingMode:
    """One way of ip_vs to hand a packet to a real server."""

    name: ClassVar[str] = ""
    title: ClassVar[str]
    keepalived: ClassVar[str]
    """The word after ``lvs_method``."""
    ipvsadm: ClassVar[str]
    """The word in the Forward column of ``ipvsadm -Ln``."""
    replies_through_director: ClassVar[bool]
    path: ClassVar[tuple[str, ...]]
    """A request's and its reply's way, step by step; {client} {vip} {director} {server} stand for names."""

    def __init_subclass__(cls) -> None:
        _MODES[cls.name] = cls()

    def director(self, role: Role) -> Needs:
        """What the director needs. All modes: it forwards, and never tells anybody of a shorter way."""
        return Needs(
            sysctls=(
                Sysctl("net/ipv4/ip_forward", "1", "0", self.why("the director passes packets on")),
                *_on_every_nic(role.node, "send_redirects", "0", "1", "an ICMP redirect would lead clients round LVS"),
            ),
            addresses=(_vip_on_director(role),),
        )

    def real_server(self, role: Role) -> Needs:
        """What a real server needs."""
        raise NotImplementedError

    def host_features(self, service: Service) -> tuple[str, ...]:  # noqa: ARG002 - a mode may depend on the service
        """Kernel features that the host must have when a real server is a container, by module name."""
        return ()

    def why(self, text: str) -> str:
        return f"{self.name}: {text}"


_MODES: dict[str, ForwardingMode] = {}


def mode(name: str) -> ForwardingMode:
    """The mode called ``name`` in the topology. Raises ``UsageError``."""
    found = _MODES.get(name)
    if found is None:
        raise UsageError(f"there is no forwarding mode «{name}»", hint=f"modes: {', '.join(names())}")
    return found


def names() -> list[str]:
    return list(_MODES)


class Nat(ForwardingMode):
    """The director rewrites the destination of requests and the source of replies, so replies must come back to it."""

    name = "nat"
    title = "network address translation"
    keepalived = "NAT"
    ipvsadm = "Masq"
    replies_through_director = True
    path = (
        "{client} sends to {vip}; {director} owns that address",
        "{director} picks a real server, rewrites the destination to {server} and forwards the packet",
        "{server} answers; its default route leads to {director}",
        "{director} rewrites the source from {server} to {vip} and forwards the reply to {client}",
    )

    def real_server(self, role: Role) -> Needs:
        inner = role.service.inner_network
        why = self.why(f"replies must pass {role.director.name}, which puts {role.service.vip} back as their source")
        return Needs(routes=(Route(ANYWHERE, role.director.address(inner), device(role.node, inner), why=why),))


class DirectRouting(ForwardingMode):
    """The director changes only the destination MAC; the real server owns the VIP too and answers the client itself."""

    name = "dr"
    title = "direct routing"
    keepalived = "DR"
    ipvsadm = "Route"
    replies_through_director = False
    path = (
        "{client} asks by ARP for {vip}; only {director} answers, the real servers keep silent (arp_ignore)",
        "{director} picks a real server and sends it the packet unchanged, under {server}'s MAC address",
        "{server} has {vip} on lo, so it takes the packet as its own",
        "{server} answers {client} straight from {vip}; {director} never sees the reply",
    )

    def real_server(self, role: Role) -> Needs:
        return Needs(
            sysctls=(*_arp_silence(self, role.node), *_no_rp_filter(self, _nics_of_path(role))),
            addresses=(_vip_on_lo(self, role),),
        )


class Tunnelling(ForwardingMode):
    """The director wraps the packet in another IP header; the real server unwraps it and answers the client itself."""

    name = "tun"
    title = "IP tunnelling"
    keepalived = "TUN"
    ipvsadm = "Tunnel"
    replies_through_director = False
    path = (
        "{client} sends to {vip}; {director} owns that address",
        "{director} picks a real server and wraps the packet in an IP header addressed to {server} (IP in IP)",
        "{server} unwraps it on its tunnel device; it has {vip} on lo, so it takes the packet as its own",
        "{server} answers {client} straight from {vip}, unwrapped; {director} never sees the reply",
    )

    def host_features(self, service: Service) -> tuple[str, ...]:  # noqa: ARG002 - every service in this mode needs it
        return ("ipip",)

    def real_server(self, role: Role) -> Needs:
        tunnel = self._tunnel(role)
        return Needs(
            tunnels=(tunnel,),
            sysctls=(*_arp_silence(self, role.node), *_no_rp_filter(self, (tunnel.name, *_nics_of_path(role)))),
            addresses=(_vip_on_lo(self, role),),
            routes=tuple(self._smaller_segments(role)),
        )

    def _tunnel(self, role: Role) -> Tunnel:
        # Not the module's own tunl0: that device exists in a new namespace only where net.core.fb_tunnels_only_for_init_net is 0.
        inner = role.service.inner_network
        why = self.why("takes the director's IP-in-IP packets out of their outer header")
        return Tunnel(f"vlab-ipip{device(role.node, inner)[3:]}", "ipip", role.node.address(inner), why)

    def _smaller_segments(self, role: Role) -> Iterator[Route]:
        """Routes to the clients that make the real server announce a segment size which fits into the tunnel.

        The two halves of the subnet are more specific than the kernel's own route to it, so they can come and go without
        ever touching that one.
        """
        room = role.node.nic(role.service.inner_network).mtu - IPIP_HEADER
        for nic in role.node.nics:
            if nic.network != role.service.network or nic.mtu <= room:
                continue
            why = self.why(
                f"clients' segments plus {IPIP_HEADER} bytes of outer header must fit an MTU of {room + IPIP_HEADER}",
            )
            for half in nic.address.network.subnets():
                yield Route(half, ON_LINK, device(role.node, nic.network), room - IP_TCP_HEADERS, why)


def _vip_on_director(role: Role) -> Address:
    service = role.service
    why = f"{service.name}: clients on {service.network} find the virtual address here"
    return Address(device(role.node, service.network), IPv4Interface(f"{service.vip}/32"), why)


def _vip_on_lo(mode: ForwardingMode, role: Role) -> Address:
    why = f"{role.service.name} ({mode.name}): requests still carry this address; /32 so that lo claims no subnet"
    return Address("lo", IPv4Interface(f"{role.service.vip}/32"), why)


def _arp_silence(mode: ForwardingMode, node: Node) -> tuple[Sysctl, ...]:
    ignore = mode.why("answer ARP only for addresses of the asked interface, so that the VIP on lo stays hidden")
    announce = mode.why("never put the VIP into our own ARP questions, others would learn it from there")
    return (
        *_everywhere(node, "arp_ignore", "1", "0", ignore),
        *_everywhere(node, "arp_announce", "2", "0", announce),
    )


def _no_rp_filter(mode: ForwardingMode, devices: tuple[str, ...]) -> tuple[Sysctl, ...]:
    why = mode.why("requests come in by another way than replies go out; the reverse path filter would drop them")
    return tuple(Sysctl(f"net/ipv4/conf/{name}/rp_filter", "0", "0", why) for name in ("all", *devices) if devices)


def _nics_of_path(role: Role) -> tuple[str, ...]:
    """The interfaces of requests and replies when they differ (or when there is no interface on the VIP's network)."""
    inner = device(role.node, role.service.inner_network)
    outer = {nic.network: device(role.node, nic.network) for nic in role.node.nics}.get(role.service.network)
    if outer == inner:
        return ()
    return (inner,) if outer is None else (inner, outer)


def _everywhere(node: Node, key: str, value: str, default: str, why: str) -> tuple[Sysctl, ...]:
    # The kernel takes the larger of «all» and the interface: «all» alone would do, but says nothing to who reads eth0's.
    return (Sysctl(f"net/ipv4/conf/all/{key}", value, default, why), *_on_nics(node, key, value, default, why))


def _on_every_nic(node: Node, key: str, value: str, default: str, why: str) -> tuple[Sysctl, ...]:
    # send_redirects is on when either «all» or the interface says so; «default» is what a later interface starts with.
    both = (Sysctl(f"net/ipv4/conf/{name}/{key}", value, default, why) for name in ("all", "default"))
    return (*both, *_on_nics(node, key, value, default, why))


def _on_nics(node: Node, key: str, value: str, default: str, why: str) -> tuple[Sysctl, ...]:
    return tuple(Sysctl(f"net/ipv4/conf/{device(node, nic.network)}/{key}", value, default, why) for nic in node.nics)
