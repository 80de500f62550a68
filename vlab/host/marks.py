"""What a lab's links are, as data, and the marks they carry. Pure; ``links.py`` makes and reads them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

ROUTER6 = IPv6Interface("fe80::1/64")
"""On bridges between which the namespace forwards IPv6: of its own packets it may ask for a neighbour from their source, but of others'
from a link-local address alone (net/ipv6/ndisc.c: ndisc_solicit, ndisc_send_ns). Guests make theirs of their MACs."""

WORD = "vlab"
DEVICE = re.compile(r"[bv][0-9a-f]{10}")
"""The form of every device name that ``topology.addressing`` gives."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """``device`` is the link's name, ``network`` the lab's network, ``mark`` the lab's name. ``address`` and
    ``address6`` are the namespace's own; ``routes6`` says that it has ``ROUTER6`` too."""

    device: str
    network: str
    mtu: int
    mark: str
    address: IPv4Interface | None = None
    address6: IPv6Interface | None = None
    routes6: bool = False


@dataclass(frozen=True, slots=True)
class Port:
    """A tap or veth, as wanted and as found. ``bridge`` is the bridge's device (empty for none), ``mark`` the lab's name."""

    device: str
    altname: str
    bridge: str
    mtu: int
    mark: str


@dataclass(frozen=True, slots=True)
class Links:
    """All links of a namespace that carry a lab's mark. Ports are also found when on no bridge."""

    bridges: tuple[Bridge, ...] = ()
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel has it. ``kind`` is «bridge», «veth», «tun» …; ``master`` the index of the bridge that it is
    on and carries frames to: 0 for none, and for a link that is down."""

    index: int
    device: str
    kind: str
    mtu: int
    alias: str
    master: int
    address: IPv4Interface | None = None
    address6: IPv6Interface | None = None
    routes6: bool = False


@dataclass(frozen=True, slots=True)
class Counters:
    """What a link received and sent since it was made, as the host side sees it (what a guest sent, its port received)."""

    rx_bytes: int
    rx_packets: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_dropped: int


def mark(lab: str, name: str) -> str:
    """The alias of a link: «vlab:<lab>:<network or node.network>»."""
    return f"{WORD}:{lab}:{name}"


def parse_mark(alias: str) -> tuple[str, str] | None:
    """(lab, name) of an alias of ours, None for any other."""
    match alias.split(":", 2):
        case [word, lab, name] if word == WORD:
            return lab, name
    return None


def bridge_mac(lab: str, network: str) -> str:
    """A stable address. Left alone, a bridge takes its lowest port's and changes it under the guests' ARP tables."""
    tail = hashlib.sha256(mark(lab, network).encode()).digest()[:5]
    return ":".join(f"{byte:02x}" for byte in (0x0A, *tail))


def ours(links: Sequence[Link]) -> Links:
    """The links that carry a mark."""
    names: Mapping[int, str] = {link.index: link.device for link in links}
    marked = [(link, owner) for link in links if (owner := parse_mark(link.alias))]
    bridges = [
        Bridge(k.device, name, k.mtu, lab, k.address, k.address6, k.routes6)
        for k, (lab, name) in marked
        if k.kind == "bridge"
    ]
    ports = [
        Port(k.device, name, names.get(k.master, ""), k.mtu, lab) for k, (lab, name) in marked if k.kind != "bridge"
    ]
    return Links(tuple(bridges), tuple(ports))


def parse_counters(text: str) -> dict[str, Counters]:
    """/proc/net/dev as data."""
    rows = (line.rpartition(":") for line in text.splitlines()[2:])
    return {device.strip(): _counters([int(word) for word in words.split()]) for device, _, words in rows}


def _counters(row: Sequence[int]) -> Counters:
    return Counters(row[0], row[1], row[3], row[8], row[9], row[11])
