"""Blocks of a pcapng file (draft-ietf-opsawg-pcapng): several named interfaces in one file, timestamps in nanoseconds. Pure.

A file is ``section``, one ``interface`` each, then ``packet`` after packet, and ``statistics`` of each interface at the end. Every
function gives one whole block, so a file that ends after any of them is valid.
"""

from __future__ import annotations

import struct

SECTION, INTERFACE, PACKET, STATISTICS = 0x0A0D0D0A, 1, 6, 5
MAGIC = 0x1A2B3C4D
ETHERNET = 1
INBOUND, OUTBOUND = 1, 2
NANOSECONDS = 9
"""if_tsresol: the exponent of ten of a second's parts."""

COMMENT, USER_APPLICATION = 1, 4
IF_NAME, IF_DESCRIPTION, IF_TSRESOL = 2, 3, 9
EPB_FLAGS = 2
ISB_RECEIVED, ISB_DROPPED = 4, 5

Option = tuple[int, bytes]


def section(program: str, comment: str = "") -> bytes:
    """The section header. Its length is given as unknown: the file is written as packets come."""
    said = [(COMMENT, comment.encode())] if comment else []
    body = struct.pack("<IHHq", MAGIC, 1, 0, -1)
    return _block(SECTION, body, [*said, (USER_APPLICATION, program.encode())])


def interface(name: str, description: str, longest: int) -> bytes:
    """An Ethernet interface; the first one written is number 0. ``longest`` is how many bytes of a packet are kept."""
    options = [
        (IF_NAME, name.encode()),
        (IF_DESCRIPTION, description.encode()),
        (IF_TSRESOL, bytes([NANOSECONDS])),
    ]
    return _block(INTERFACE, struct.pack("<HHI", ETHERNET, 0, longest), options)


def packet(number: int, time: int, data: bytes, length: int, direction: int = 0) -> bytes:
    """A packet seen on interface ``number`` at ``time`` (nanoseconds since 1970). ``length`` is what it had on the wire,
    ``direction`` is ``INBOUND``, ``OUTBOUND`` or 0 where that means nothing."""
    head = struct.pack("<IIIII", number, time >> 32, time & 0xFFFFFFFF, len(data), length)
    return _block(PACKET, head + _padded(data), [(EPB_FLAGS, struct.pack("<I", direction))] if direction else [])


def statistics(number: int, time: int, received: int, dropped: int) -> bytes:
    """How many packets interface ``number`` saw until ``time``, and how many of them the reader was too slow for."""
    options = [(ISB_RECEIVED, struct.pack("<Q", received)), (ISB_DROPPED, struct.pack("<Q", dropped))]
    return _block(STATISTICS, struct.pack("<III", number, time >> 32, time & 0xFFFFFFFF), options)


def _block(kind: int, body: bytes, options: list[Option]) -> bytes:
    content = body + b"".join(map(_option, options)) + (bytes(4) if options else b"")
    length = struct.pack("<I", len(content) + 12)
    return struct.pack("<I", kind) + length + content + length


def _option(option: Option) -> bytes:
    code, value = option
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
