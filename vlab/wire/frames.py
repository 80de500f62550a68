"""Ethernet frames as data: as much of ARP, IPv4, IPv6, TCP, UDP, IPIP, GRE and GUE as following a packet through LVS needs. Pure.

Nothing here raises: a frame is decoded as far as it is understood and as its bytes reach. Formats: RFC 826, 791, 8200, 9293, 768,
2003 (IP in IP), 2784 and 2890 (GRE), draft-ietf-intarea-gue (GUE, variant 0).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

GUE_PORT = 6080
"""The UDP port that IANA gave to GUE; only datagrams to it are looked into."""

TYPE_IPV4, TYPE_ARP, TYPE_IPV6, TYPE_VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
ICMP, IPIP, TCP, UDP, IPV6, GRE, ICMPV6 = 1, 4, 6, 17, 41, 47, 58
EXTENSIONS = frozenset({0, 43, 60})
"""IPv6 extension headers that say their length in the second byte (hop by hop, routing, destination options)."""
FRAGMENT = 44
FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")


@dataclass(frozen=True, slots=True)
class Arp:
    """``operation`` is 1 for a question, 2 for an answer."""

    operation: int
    sender_mac: str
    sender: IPv4Address
    target: IPv4Address


@dataclass(frozen=True, slots=True)
class Header:
    """One IP header. ``protocol`` is the number of what follows it; ``tunnel`` says how the next IP header is carried in this one
    («ipip», «gre», «gue»), empty for the innermost."""

    source: Address
    destination: Address
    ttl: int
    protocol: int
    tunnel: str = ""


@dataclass(frozen=True, slots=True)
class Transport:
    """TCP or UDP. ``flags`` are TCP's, by name; ``sequence`` and ``acknowledged`` are 0 for UDP."""

    protocol: str
    source_port: int
    destination_port: int
    payload: bytes
    sequence: int = 0
    acknowledged: int = 0
    flags: frozenset[str] = frozenset()

    @property
    def identity(self) -> tuple[object, ...]:
        """What stays the same on the whole way through NAT and tunnels: neither addresses nor ports are part of it."""
        return self.protocol, self.sequence, self.acknowledged, self.flags, self.payload


@dataclass(frozen=True, slots=True)
class Frame:
    """``type`` is the EtherType behind any VLAN tag; ``headers`` are IP headers, the outermost first."""

    source_mac: str
    destination_mac: str
    type: int
    headers: tuple[Header, ...] = ()
    transport: Transport | None = None
    arp: Arp | None = None

    @property
    def inner(self) -> Header | None:
        """The IP header that the endpoints of the connection wrote."""
        return self.headers[-1] if self.headers else None

    @property
    def outer(self) -> tuple[Header, ...]:
        """The headers that were put around it."""
        return self.headers[:-1]


def decode(data: bytes) -> Frame | None:
    """The frame in ``data``, which begins with the destination's MAC; None when it is too short for an Ethernet header."""
    if len(data) < 14:
        return None
    kind, start = int.from_bytes(data[12:14]), 14
    if kind == TYPE_VLAN and len(data) >= 18:
        kind, start = int.from_bytes(data[16:18]), 18
    frame = Frame(_mac(data[6:12]), _mac(data[0:6]), kind)
    return _TYPES.get(kind, _unknown)(frame, data[start:])


def _unknown(frame: Frame, _data: bytes) -> Frame:
    return frame


def _arp(frame: Frame, data: bytes) -> Frame:
    if len(data) < 28 or data[:6] != b"\x00\x01\x08\x00\x06\x04":
        return frame
    found = Arp(int.from_bytes(data[6:8]), _mac(data[8:14]), IPv4Address(data[14:18]), IPv4Address(data[24:28]))
    return replace(frame, arp=found)


def _ipv4(frame: Frame, data: bytes) -> Frame:
    if len(data) < 20 or data[0] >> 4 != 4:
        return frame
    length, total, fragment = (data[0] & 15) * 4, int.from_bytes(data[2:4]), int.from_bytes(data[6:8])
    header = Header(IPv4Address(data[12:16]), IPv4Address(data[16:20]), data[8], data[9])
    known = replace(frame, headers=(*frame.headers, header))
    # Short frames are padded to 60 bytes; a super-packet of an offloading sender may say 0.
    payload = data[length : total or None]
    return known if fragment & 0x1FFF else _payload(known, header.protocol, payload)


def _ipv6(frame: Frame, data: bytes) -> Frame:
    if len(data) < 40 or data[0] >> 4 != 6:
        return frame
    length = int.from_bytes(data[4:6])
    protocol, payload = _behind_extensions(data[6], data[40 : 40 + length if length else None])
    header = Header(IPv6Address(data[8:24]), IPv6Address(data[24:40]), data[7], protocol)
    return _payload(replace(frame, headers=(*frame.headers, header)), protocol, payload)


def _behind_extensions(protocol: int, data: bytes) -> tuple[int, bytes]:
    """The first protocol that is no extension header, with its bytes; a later fragment's are none."""
    while protocol in EXTENSIONS and len(data) >= 8:
        protocol, data = data[0], data[(data[1] + 1) * 8 :]
    if protocol == FRAGMENT and len(data) >= 8:
        later = int.from_bytes(data[2:4]) >> 3
        return data[0], b"" if later else data[8:]
    return protocol, data


def _payload(frame: Frame, protocol: int, data: bytes) -> Frame:
    return _PROTOCOLS.get(protocol, _unknown)(frame, data)


def _tcp(frame: Frame, data: bytes) -> Frame:
    if len(data) < 20:
        return frame
    source, destination, sequence, acknowledged, offset, bits = struct.unpack("!HHIIBB", data[:14])
    flags = frozenset(name for number, name in enumerate(FLAGS) if bits >> number & 1)
    payload = data[(offset >> 4) * 4 :]
    return replace(frame, transport=Transport("tcp", source, destination, payload, sequence, acknowledged, flags))


def _udp(frame: Frame, data: bytes) -> Frame:
    if len(data) < 8:
        return frame
    source, destination = struct.unpack("!HH", data[:4])
    return _gue(frame, data[8:]) if destination == GUE_PORT else _datagram(frame, source, destination, data[8:])


def _datagram(frame: Frame, source: int, destination: int, payload: bytes) -> Frame:
    return replace(frame, transport=Transport("udp", source, destination, payload))


def _gue(frame: Frame, data: bytes) -> Frame:
    """Variant 0 has a header of 4 bytes and options; variant 1 has none, the IP header's own version follows at once."""
    if len(data) < 4:
        return frame
    if data[0] >> 6 == 1:
        return _wrapped(frame, "gue", {4: IPIP, 6: IPV6}.get(data[0] >> 4, 0), data)
    control = data[0] & 0x20
    return frame if control else _wrapped(frame, "gue", data[1], data[4 + (data[0] & 0x1F) * 4 :])


def _gre(frame: Frame, data: bytes) -> Frame:
    """Checksum, key and sequence number are four bytes each where their bit is set."""
    if len(data) < 4:
        return frame
    bits, kind = struct.unpack("!HH", data[:4])
    start = 4 + 4 * sum(bits >> bit & 1 for bit in (15, 13, 12))
    return _wrapped(frame, "gre", {TYPE_IPV4: IPIP, TYPE_IPV6: IPV6}.get(kind, 0), data[start:])


def _ipip(frame: Frame, data: bytes) -> Frame:
    return _wrapped(frame, "ipip", IPIP, data)


def _six_in_ip(frame: Frame, data: bytes) -> Frame:
    return _wrapped(frame, "ipip", IPV6, data)


def _wrapped(frame: Frame, tunnel: str, protocol: int, data: bytes) -> Frame:
    """``frame`` with what its last header carries as a tunnel; just as it is where no IP header follows."""
    inside = {IPIP: _ipv4, IPV6: _ipv6}.get(protocol)
    found = inside(frame, data) if inside else frame
    if len(found.headers) == len(frame.headers):
        return frame
    carrier = replace(frame.headers[-1], tunnel=tunnel)
    return replace(found, headers=(*frame.headers[:-1], carrier, *found.headers[len(frame.headers) :]))


def _mac(data: bytes) -> str:
    return data.hex(":")


Decoder = Callable[[Frame, bytes], Frame]
_TYPES: dict[int, Decoder] = {TYPE_IPV4: _ipv4, TYPE_ARP: _arp, TYPE_IPV6: _ipv6}
_PROTOCOLS: dict[int, Decoder] = {TCP: _tcp, UDP: _udp, IPIP: _ipip, IPV6: _six_in_ip, GRE: _gre}
