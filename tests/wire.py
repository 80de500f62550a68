"""Frames and pcapng files as tests need them: frames built field by field, files read back by a reader of their own."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import ip_address

SECTION, INTERFACE, PACKET, STATISTICS = 0x0A0D0D0A, 1, 6, 5


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ethernet(source: str, destination: str, payload: bytes) -> bytes:
    """The EtherType is that of the payload's IP version."""
    return mac(destination) + mac(source) + {4: b"\x08\x00", 6: b"\x86\xdd"}[payload[0] >> 4] + payload


def ip(source: str, destination: str, protocol: int, payload: bytes, *, ttl: int = 64, fragment: int = 0) -> bytes:
    """An IPv4 or IPv6 packet, by what ``source`` is."""
    ends = ip_address(source).packed + ip_address(destination).packed
    if len(ends) == 8:
        return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, ttl, protocol, 0) + ends + payload
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl) + ends + payload


def tcp(
    source: int, destination: int, flags: int, *, sequence: int = 1, acknowledged: int = 0, data: bytes = b""
) -> bytes:
    return struct.pack("!HHIIBBHHH", source, destination, sequence, acknowledged, 5 << 4, flags, 1024, 0, 0) + data


def udp(source: int, destination: int, data: bytes) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(data), 0) + data


@dataclass(frozen=True)
class Read:
    """A packet as the file has it. ``direction`` is 1 inbound, 2 outbound, 0 not said."""

    interface: str
    time: int
    data: bytes
    length: int
    direction: int


@dataclass
class Capture:
    interfaces: list[str] = field(default_factory=list)
    packets: list[Read] = field(default_factory=list)
    statistics: dict[str, tuple[int, int]] = field(default_factory=dict)
    left_over: int = 0
    """Bytes behind the last whole block."""


def read(content: bytes) -> Capture:
    """A little-endian pcapng file with nanosecond timestamps; fails the test on anything else."""
    found, at = Capture(), 0
    while at + 12 <= len(content):
        kind, length = struct.unpack_from("<II", content, at)
        if at + length > len(content):
            break
        assert length % 4 == 0
        assert struct.unpack_from("<I", content, at + length - 4) == (length,)
        _block(found, kind, content[at + 8 : at + length - 4])
        at += length
    found.left_over = len(content) - at
    return found


def _block(found: Capture, kind: int, body: bytes) -> None:
    if kind == SECTION:
        assert struct.unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
    elif kind == INTERFACE:
        options = _options(body[8:])
        assert struct.unpack_from("<HH", body) == (1, 0)
        assert options[9] == b"\x09"
        found.interfaces.append(options[2].decode())
    elif kind == PACKET:
        number, high, low, kept, length = struct.unpack_from("<IIIII", body)
        options = _options(body[20 + kept + -kept % 4 :])
        direction = struct.unpack("<I", options[2])[0] if 2 in options else 0
        found.packets.append(
            Read(found.interfaces[number], high << 32 | low, body[20 : 20 + kept], length, direction & 3)
        )
    else:
        assert kind == STATISTICS
        options = _options(body[12:])
        counted = (struct.unpack("<Q", options[4])[0], struct.unpack("<Q", options[5])[0])
        found.statistics[found.interfaces[struct.unpack_from("<I", body)[0]]] = counted


def _options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        code, length = struct.unpack_from("<HH", data)
        if code == 0:
            assert data == bytes(4)
            break
        found[code] = data[4 : 4 + length]
        data = data[4 + length + -length % 4 :]
    return found
