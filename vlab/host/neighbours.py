"""Who answers for an address, and with how many MACs: ARP questions and neighbour solicitations from a lab's own bridges.

Bounded: ``ROUNDS`` questions an address, ``WITHIN`` seconds, all bridges and both families at once.
"""

from __future__ import annotations

import functools
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from vlab.host import arp, ndp
from vlab.host.namespace import inside

ROUNDS = 3
WITHIN = 0.9
"""Seconds: an emulated guest on a busy host needs some tenths to answer."""

Address = IPv4Address | IPv6Address
Answer = tuple[Address, str]


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked on one bridge. ``source6`` is the bridge's own IPv6 address; without one nothing is asked of ``addresses6``."""

    bridge: str
    addresses: tuple[IPv4Address, ...]
    addresses6: tuple[IPv6Address, ...] = ()
    source6: IPv6Address | None = None

    @property
    def asked(self) -> tuple[Address, ...]:
        return (*self.addresses, *(self.addresses6 if self.source6 else ()))


@dataclass(frozen=True, slots=True)
class _Asker:
    """One socket's frames, sent each round, and how its answers are read."""

    frames: tuple[bytes, ...]
    read: Callable[[bytes], Answer | None]


def who_has(namespace: str, questions: Sequence[Questions]) -> dict[Address, frozenset[str]]:
    """The MACs that answer, by address asked. Raises ``OSError`` for a bridge that is not there."""
    found: dict[Address, set[str]] = {address: set() for each in questions for address in each.asked}
    sockets: dict[socket.socket, _Asker] = {}
    try:
        for each in questions:
            for ethertype, asker in _PROTOCOLS:
                made = inside(namespace, functools.partial(_open, each.bridge, ethertype))
                sockets[made] = asker(each, made.getsockname()[4])
        _ask(sockets, found)
    finally:
        for made in sockets:
            made.close()
    return {address: frozenset(macs) for address, macs in found.items()}


def _arp(questions: Questions, mac: bytes) -> _Asker:
    return _Asker(tuple(arp.request(mac, address) for address in questions.addresses), arp.reply)


def _ndp(questions: Questions, mac: bytes) -> _Asker:
    source, asked = questions.source6, questions.addresses6
    return _Asker(tuple(ndp.request(mac, source, it) for it in asked) if source else (), ndp.reply)


_PROTOCOLS: tuple[tuple[int, Callable[[Questions, bytes], _Asker]], ...] = (
    (arp.ETHERTYPE, _arp),
    (ndp.ETHERTYPE, _ndp),
)


def _ask(sockets: Mapping[socket.socket, _Asker], found: dict[Address, set[str]]) -> None:
    began = time.monotonic()
    for number in range(ROUNDS):
        for each, asker in sockets.items():
            for frame in asker.frames:
                each.send(frame)
        _collect(sockets, found, began + (number + 1) * WITHIN / ROUNDS)


def _collect(sockets: Mapping[socket.socket, _Asker], found: dict[Address, set[str]], deadline: float) -> None:
    while (left := deadline - time.monotonic()) > 0:
        for ready in select.select(list(sockets), [], [], left)[0]:
            if (answer := sockets[ready].read(ready.recv(2048))) and answer[0] in found:
                found[answer[0]].add(answer[1])


def _open(device: str, ethertype: int) -> socket.socket:
    """Raises ``OSError`` for a device that is not there."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
    try:
        made.bind((device, ethertype))
    except OSError:
        made.close()
        raise
    return made
