"""ARP's questions and answers as frames (RFC 826). Pure.

A question has 0.0.0.0 as its sender (an ARP probe, RFC 5227), so nobody's ARP table learns anything from it.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

ETHERTYPE = 0x0806
_HEADER = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_REQUEST, _REPLY = 1, 2
_BROADCAST = b"\xff" * 6


def request(mac: bytes, address: IPv4Address) -> bytes:
    """The Ethernet frame of a question for ``address`` from ``mac``, sender address 0.0.0.0."""
    return _HEADER.pack(_BROADCAST, mac, ETHERTYPE, 1, 0x0800, 6, 4, _REQUEST, mac, bytes(4), bytes(6), address.packed)


def reply(frame: bytes) -> tuple[IPv4Address, str] | None:
    """(address, MAC) that an ARP answer tells, None for any other frame."""
    if len(frame) < _HEADER.size:
        return None
    _, _, kind, *_, operation, mac, sender, _, _ = _HEADER.unpack(frame[: _HEADER.size])
    return (IPv4Address(sender), mac.hex(":")) if (kind, operation) == (ETHERTYPE, _REPLY) else None
