"""Neighbour discovery's questions and answers as frames: IPv6's ARP (RFC 4861, 4.3 and 4.4). Pure.

A question has an address of its asker, unlike ARP's: one from :: is duplicate address detection, whose answer goes to everybody and
would overwrite what the lab's neighbours remember. The asked learn the asker's MAC, which is true.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

ETHERTYPE = 0x86DD
ICMPV6 = 58
SOLICITATION, ADVERTISEMENT = 135, 136

_ETHERNET = struct.Struct("!6s6sH")
_IPV6 = struct.Struct("!IHBB16s16s")
_MESSAGE = struct.Struct("!BBHI16s")
"""Type, code, checksum, flags, target; options follow."""
_SOURCE_MAC, _TARGET_MAC = 1, 2
_VERSION_6 = 6 << 28
_HOPS = 255
"""RFC 4861, 7.1: with any other hop limit it came through a router, and is not to be believed."""


def request(mac: bytes, source: IPv6Address, address: IPv6Address) -> bytes:
    """The Ethernet frame of a question for ``address``, to its solicited-node group, from ``source`` at ``mac``."""
    group = IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + address.packed[13:])
    option = struct.pack("!BB6s", _SOURCE_MAC, 1, mac)
    body = _MESSAGE.pack(SOLICITATION, 0, 0, 0, address.packed) + option
    body = body[:2] + struct.pack("!H", checksum(source, group, body)) + body[4:]
    ip = _IPV6.pack(_VERSION_6, len(body), ICMPV6, _HOPS, source.packed, group.packed)
    return _ETHERNET.pack(b"\x33\x33" + group.packed[12:], mac, ETHERTYPE) + ip + body


def reply(frame: bytes) -> tuple[IPv6Address, str] | None:
    """(address, MAC) that an advertisement tells, None for any other frame, a damaged one too. One that names no MAC is its sender's."""
    if len(frame) < _ETHERNET.size + _IPV6.size + _MESSAGE.size:
        return None
    _, sender, kind = _ETHERNET.unpack_from(frame)
    head, length, following, hops, source, to = _IPV6.unpack_from(frame, _ETHERNET.size)
    start = _ETHERNET.size + _IPV6.size
    body = frame[start : start + length]
    if (kind, head >> 28, following, hops) != (ETHERTYPE, 6, ICMPV6, _HOPS) or not _MESSAGE.size <= length == len(body):
        return None
    type, code, _, _, target = _MESSAGE.unpack_from(body)
    if (type, code) != (ADVERTISEMENT, 0) or checksum(IPv6Address(source), IPv6Address(to), body):
        return None
    return IPv6Address(target), (_target_mac(body[_MESSAGE.size :]) or sender).hex(":")


def checksum(source: IPv6Address, to: IPv6Address, body: bytes) -> int:
    """The Internet checksum of an ICMPv6 message and its pseudo-header (RFC 8200, 8.1); 0 of a message that has its own in it."""
    text = source.packed + to.packed + struct.pack("!II", len(body), ICMPV6) + body + bytes(len(body) % 2)
    total: int = sum(struct.unpack(f"!{len(text) // 2}H", text))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _target_mac(options: bytes) -> bytes | None:
    """Options are type, length in units of 8 bytes, value."""
    while len(options) >= 8 and options[1]:
        if options[0] == _TARGET_MAC:
            return options[2:8]
        options = options[8 * options[1] :]
    return None
