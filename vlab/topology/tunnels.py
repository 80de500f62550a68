"""What mode tun may wrap packets in: the words of ``tunnel:``. Data only.

Overheads are those by which ip_vs makes the MTU smaller (__ip_vs_get_out_rt and __ip_vs_get_out_rt_v6 in
net/netfilter/ipvs/ip_vs_xmit.c). ip_vs wraps IPv6 in the same three ways as IPv4 (ip_vs_tunnel_xmit_v6, since Linux 5.3), under an
IPv6 header.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Encapsulation:
    """``overhead`` is in bytes, under an IPv4 header; ``device`` the kind of device that unwraps; ``modules`` what the real server's
    kernel needs; ``title6``, ``device6`` and ``modules6`` are the same for IPv6.
    ``udp`` says that packets come to a UDP port; ``ipvsadm`` are its words for it (ipvsadm(8)), none for its default."""

    title: str
    overhead: int
    device: str
    modules: tuple[str, ...]
    title6: str
    device6: str
    modules6: tuple[str, ...]
    udp: bool = False
    ipvsadm: str = ""


TUNNELS = {
    "ipip": Encapsulation("IP in IP", 20, "ipip", ("ipip",), "IPv6 in IPv6", "ip6tnl", ("ip6_tunnel",)),
    "gre": Encapsulation("GRE", 24, "gre", ("ip_gre",), "GRE", "ip6gre", ("ip6_gre",), ipvsadm="--tun-type gre"),
    "gue": Encapsulation(
        "GUE, which is IP in UDP",
        32,
        "ipip",
        ("ipip", "fou"),
        "GUE, which is IPv6 in UDP",
        "ip6tnl",
        ("ip6_tunnel", "fou"),
        udp=True,
        ipvsadm="--tun-type gue --tun-port {port} --tun-{checksum}",
    ),
}
TUNNEL_SYNONYMS = {"ip-in-ip": "ipip", "ip": "ipip", "fou": "gue", "udp": "gue"}

GUE_PORT = 6080
"""IANA's number for GUE."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """keepalived's word for how GUE protects the inside, and the bytes that it adds."""

    keepalived: str
    overhead: int = 0


CHECKSUMS = {"none": Checksum("nocsum"), "full": Checksum("csum"), "remote": Checksum("remcsum", 8)}


IPV6_MORE = 20
"""Bytes by which an outer IPv6 header is longer than an IPv4 one."""


def overhead(type: str, checksum: str, *, six: bool = False) -> int:
    """Bytes that a packet grows by; ``six`` where the outer header is IPv6's."""
    return TUNNELS[type].overhead + CHECKSUMS[checksum].overhead + (IPV6_MORE if six else 0)
