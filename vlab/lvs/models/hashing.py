"""The kernel's two hash functions as ip_vs uses them, for both address families. Pure.

Neither has a secret: which server a client gets can be computed on another machine.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from vlab.lvs.models.server import Address

GOLDEN_RATIO_32 = 0x61C88647
"""include/linux/hash.h."""

_SIPHASH_START = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
_WORD = 0xFFFFFFFF
_LONG = 0xFFFFFFFFFFFFFFFF


def fold(address: Address) -> int:
    """An address as 32 bits: IPv4 as it is, IPv6 as its four words XORed."""
    if isinstance(address, IPv6Address):
        value = int(address)
        return (value >> 96 ^ value >> 64 ^ value >> 32 ^ value) & _WORD
    return int(address)


def hash_32(value: int, bits: int) -> int:
    """``hash_32`` of include/linux/hash.h: the upper ``bits`` of a product. sh, dh, lblc and lblcr took the lower bits of another
    product in older kernels."""
    return (value * GOLDEN_RATIO_32 & _WORD) >> (32 - bits)


def hsiphash(value: int, key: tuple[int, int]) -> int:
    """``hsiphash_1u32`` of lib/siphash.c on a 64-bit kernel: SipHash-1-3 of four bytes, its lower half. (32-bit kernels have
    HalfSipHash there, and other results.)"""
    state = tuple(start ^ key[at % 2] for at, start in enumerate(_SIPHASH_START))
    block = 4 << 56 | value & _WORD
    a, b, c, d = state
    a, b, c, d = _round(a, b, c, d ^ block)
    a, c = a ^ block, c ^ 0xFF
    for _ in range(3):
        a, b, c, d = _round(a, b, c, d)
    return (a ^ b ^ c ^ d) & _WORD


def _round(a: int, b: int, c: int, d: int) -> tuple[int, int, int, int]:
    """One SipRound, as published by its authors."""
    a, c = (a + b) & _LONG, (c + d) & _LONG
    b, d = _rotated(b, 13) ^ a, _rotated(d, 16) ^ c
    a, c = (_rotated(a, 32) + d) & _LONG, (c + b) & _LONG
    return a, _rotated(b, 17) ^ c, _rotated(c, 32), _rotated(d, 21) ^ a


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & _LONG
