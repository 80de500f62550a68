"""The forwarding modes: what each asks of the director and of a real server, and how its replies travel. Pure.

A mode is one class, found by its ``name``: nothing else in vlab lists them. ``settings`` composes what the modes of all
services of a node ask for; ``keepalived`` and ``verify`` use the words; the topology rules of each mode are in
``vlab/topology/mode_rules.py``. The facts are those of the kernel's own IPVS self test
(tools/testing/selftests/net/netfilter/ipvs.sh) and of ipvsadm(8).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import ClassVar

from vlab.errors import UsageError
from vlab.guests.settings import Address, FouPort, Route, Rule, Sysctl, Tunnel
from vlab.lvs.index import Role, device
from vlab.topology import lab
from vlab.topology.family import alone, is_six
from vlab.topology.lab import Network, Node, Service
from vlab.topology.tunnels import CHECKSUMS, GUE_PORT, TUNNELS, overhead

ANYWHERE = IPv4Network("0.0.0.0/0")
ANYWHERE6 = IPv6Network("::/0")
ON_LINK = IPv4Address("0.0.0.0")
ON_LINK6 = IPv6Address("::")
"""A ``Route.via`` that means «no gateway, the destination is on this link», as routing tables print it."""

IP_TCP_HEADERS = 40
IP6IP6_HEADER = overhead("ipip", "none", six=True)
IP6_TCP_HEADERS = 60

REPLIES_TABLE = 100
"""The routing table of packets whose source is a VIP, where the way to clients leads through the lab's gateway."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one service asks of one node, in the order it is applied."""

    tunnels: tuple[Tunnel, ...] = ()
    sysctls: tuple[Sysctl, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    fou_ports: tuple[FouPort, ...] = ()


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
        if is_six(role.service.vip):
            # IPv6 has no switch for sending redirects; the guests' accept_redirects is what keeps them off.
            why = self.why("the director passes packets on")
            return Needs((), (Sysctl("net/ipv6/conf/all/forwarding", "1", "0", why),), _vip_of(role))
        return Needs(
            sysctls=(
                Sysctl("net/ipv4/ip_forward", "1", "0", self.why("the director passes packets on")),
                *_on_every_nic(role.node, "send_redirects", "0", "1", "an ICMP redirect would lead clients round LVS"),
            ),
            addresses=_vip_of(role),
        )

    def real_server(self, role: Role) -> Needs:
        """What a real server needs."""
        raise NotImplementedError

    def host_features(self, service: Service) -> tuple[str, ...]:  # noqa: ARG002 - a mode may depend on the service
        """Kernel features that the host must have when a real server is a container, by module name."""
        return ()

    def steps(self, service: Service) -> tuple[str, ...]:  # noqa: ARG002 - a mode may depend on the service
        """``path`` as it is for ``service``."""
        return self.path

    def lvs_method(self, service: Service) -> str:  # noqa: ARG002 - a mode may depend on the service
        """What keepalived.conf says behind ``lvs_method``."""
        return self.keepalived

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

    def director(self, role: Role) -> Needs:
        needs = super().director(role)
        if not role.service.snat:
            return needs
        why = self.why(
            f"{role.service.name} has snat: connection tracking must know of ip_vs' connections to rewrite their source"
        )
        return replace(needs, sysctls=(*needs.sysctls, Sysctl("net/ipv4/vs/conntrack", "1", "0", why)))

    def steps(self, service: Service) -> tuple[str, ...]:
        return (*self.path[:2], *_SNAT_STEPS) if service.snat else self.path

    def real_server(self, role: Role) -> Needs:
        if role.service.snat:
            return Needs()
        inner = role.service.inner_network
        why = self.why(f"replies must pass {role.directed_by}, which puts {role.service.vip} back as their source")
        anywhere = ANYWHERE6 if is_six(role.service.vip) else ANYWHERE
        return Needs(routes=(Route(anywhere, role.gateway, device(role.node, inner), why=why),))


_SNAT_STEPS = (
    "behind ip_vs, {director} rewrites the source from {client} to its own address: {server} does not see who asks",
    "{server} answers {director}, wherever its own routes lead",
    "{director} puts {client} back as the destination, rewrites the source from {server} to {vip} and forwards the reply",
)


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

    def steps(self, service: Service) -> tuple[str, ...]:
        if not is_six(service.vip):
            return self.path
        asks = "{client} asks by neighbour discovery for {vip}; only {director} answers, to the real servers lo is no neighbour"
        return (asks, *self.path[1:])

    def real_server(self, role: Role) -> Needs:
        if is_six(role.service.vip):
            return Needs(
                addresses=(_vip_on_lo(self, role),),
                routes=tuple(_through_router(self, role)),
                rules=tuple(_replies_apart(self, role)),
            )
        return Needs(
            sysctls=(*_arp_silence(self, role.node), *_no_rp_filter(self, _nics_of_path(role))),
            addresses=(_vip_on_lo(self, role),),
            routes=tuple(_through_router(self, role)),
            rules=tuple(_replies_apart(self, role)),
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

    def host_features(self, service: Service) -> tuple[str, ...]:
        wraps = TUNNELS[_tunnel_of(service).type]
        return wraps.modules6 if is_six(service.vip) else wraps.modules

    def lvs_method(self, service: Service) -> str:
        tunnel = _tunnel_of(service)
        port = f" port {tunnel.port} {CHECKSUMS[tunnel.checksum].keepalived}" if TUNNELS[tunnel.type].udp else ""
        # «TUN» alone is ipip, in every version of keepalived.
        return f"{self.keepalived} type {tunnel.type}{port}" if tunnel.type != DEFAULT_TUNNEL else self.keepalived

    def steps(self, service: Service) -> tuple[str, ...]:
        known = TUNNELS[_tunnel_of(service).type]
        wraps = self.path[1].replace("IP in IP", known.title)
        if is_six(service.vip):
            wraps = self.path[1].replace("IP header", "IPv6 header").replace("IP in IP", known.title6)
        return (self.path[0], wraps, *self.path[2:])

    def real_server(self, role: Role) -> Needs:
        tunnel = self._tunnel(role)
        four = not is_six(role.service.vip)
        arp = (
            (*_arp_silence(self, role.node), *_no_rp_filter(self, (tunnel.name, *_nics_of_path(role)))) if four else ()
        )
        return Needs(
            tunnels=(tunnel,),
            sysctls=arp,
            addresses=(_vip_on_lo(self, role),),
            routes=(*self._smaller_segments(role), *_through_router(self, role, self._segment(role))),
            rules=tuple(_replies_apart(self, role)),
            fou_ports=tuple(self._fou_ports(role.service)),
        )

    def _fou_ports(self, service: Service) -> Iterator[FouPort]:
        tunnel = _tunnel_of(service)
        if TUNNELS[tunnel.type].udp:
            why = self.why("takes the director's packets out of UDP; what is in them goes on to the tunnel device")
            yield FouPort(tunnel.port, why, is_six(service.vip))

    def _tunnel(self, role: Role) -> Tunnel:
        # Not the module's own tunl0: that device exists in a new namespace only where net.core.fb_tunnels_only_for_init_net is 0.
        inner, vip = role.service.inner_network, role.service.vip
        known = TUNNELS[_tunnel_of(role.service).type]
        kind = known.device6 if is_six(vip) else known.device
        why = self.why(_UNWRAPS[kind])
        return Tunnel(f"vlab-{kind}{device(role.node, inner)[3:]}", kind, role.node.address_like(vip, inner), why)

    def _segment(self, role: Role) -> int | None:
        """The segment size for clients behind the lab's gateway, in bytes; None where the kernel's own is small enough."""
        inner, router = role.node.nic(role.service.inner_network), _router(role)
        if router is None or router.mtu <= inner.mtu - _overhead(role.service):
            return None
        return inner.mtu - _overhead(role.service) - _headers(role.service)

    def _smaller_segments(self, role: Role) -> Iterator[Route]:
        """Routes to the clients that make the real server announce a segment size which fits into the tunnel.

        The two halves of the subnet are more specific than the kernel's own route to it, so they can come and go without
        ever touching that one.
        """
        six = is_six(role.service.vip)
        header, headers = _overhead(role.service), _headers(role.service)
        room = role.node.nic(role.service.inner_network).mtu - header
        for nic in role.node.nics:
            if nic.network != role.service.network or nic.mtu <= room:
                continue
            why = self.why(
                f"clients' segments plus {header} bytes of outer header must fit an MTU of {room + header}",
            )
            own = nic.address6 if six else nic.address
            for half in own.network.subnets() if own else ():
                yield Route(half, ON_LINK6 if six else ON_LINK, device(role.node, nic.network), room - headers, why)


DEFAULT_TUNNEL = "ipip"
_IPIP = lab.Tunnel(DEFAULT_TUNNEL, GUE_PORT, "none")
_UNWRAPS = {
    "ipip": "takes the director's IP-in-IP packets out of their outer header",
    "gre": "takes the director's packets out of GRE",
    "ip6tnl": "takes the director's IPv6-in-IPv6 packets out of their outer header",
    "ip6gre": "takes the director's packets out of GRE over IPv6",
}


def _tunnel_of(service: Service) -> lab.Tunnel:
    return service.tunnel or _IPIP


def _overhead(service: Service) -> int:
    """Bytes of the outer headers."""
    tunnel = _tunnel_of(service)
    return overhead(tunnel.type, tunnel.checksum, six=is_six(service.vip))


def _headers(service: Service) -> int:
    """Bytes of a segment's own IP and TCP headers."""
    return IP6_TCP_HEADERS if is_six(service.vip) else IP_TCP_HEADERS


def _vip_of(role: Role) -> tuple[Address, ...]:
    """The VIP on a director; a pair's VIPs are VRRP's."""
    if role.pair:
        return ()
    service = role.service
    why = f"{service.name}: clients on {service.network} find the virtual address here"
    return (Address(device(role.node, service.network), alone(service.vip), why),)


def _vip_on_lo(mode: ForwardingMode, role: Role) -> Address:
    vip = role.service.vip
    why = f"{role.service.name} ({mode.name}): requests still carry this address; /{vip.max_prefixlen} so that lo claims no subnet"
    if is_six(vip):
        # No sysctl as for ARP: ndisc_recv_ns (net/ipv6/ndisc.c) looks for the target on the device that was asked alone, and
        # ndisc_solicit never takes another device's address as its source.
        why = f"{why}, and lo because neighbour discovery answers for the asked interface's own addresses only"
    return Address("lo", alone(vip), why)


def _router(role: Role) -> Network | None:
    """The network on which a real server reaches the lab's gateway, None where it is on the clients' network itself."""
    on = [nic.network for nic in role.node.nics]
    if role.service.network in on:
        return None
    nearest = sorted(role.routed, key=lambda network: network.name != role.service.inner_network)
    return next((network for network in nearest if network.name in on), None)


def _through_router(mode: ForwardingMode, role: Role, advmss: int | None = None) -> Iterator[Route]:
    if router := _router(role):
        why = mode.why(
            f"answers go to clients through the lab's gateway on {router.name}, not through {role.directed_by}"
        )
        six, where = router.gateway6 if is_six(role.service.vip) else None, device(role.node, router.name)
        anywhere, gateway = (ANYWHERE6, six) if six else (ANYWHERE, router.gateway)
        yield Route(anywhere, gateway, where, advmss, why, REPLIES_TABLE)


def _replies_apart(mode: ForwardingMode, role: Role) -> Iterator[Rule]:
    # By source and not by destination: the same node may serve another service by nat, whose replies must go through the director.
    if _router(role):
        why = mode.why(
            f"what {role.node.name} sends as {role.service.vip} goes another way than what it sends as itself"
        )
        yield Rule(role.service.vip, REPLIES_TABLE, why)


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
