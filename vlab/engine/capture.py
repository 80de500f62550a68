"""``vlab capture``: packets of a lab's interfaces into one pcapng file.

``sources`` and ``about`` decide where to listen and what to keep; ``record`` does it. The file is valid at any moment: each block is
written whole, by one call.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import vlab
from vlab.errors import UsageError
from vlab.host.marks import Bridge
from vlab.host.sniff import LONGEST, Packet, Sniffer, Source
from vlab.topology.finding import meant
from vlab.topology.lab import Node, Service
from vlab.wire import pcapng
from vlab.wire.filters import Filter
from vlab.wire.frames import decode

POLL = 0.2
"""Seconds between two looks at the clock and at ``stop``."""

COMMENT = (
    "Taken by vlab on the host side of each interface. inbound/outbound is as the guest sees it. Offloading interfaces pass TCP "
    "segments larger than the MTU, and checksums that nobody computed: neither is a fault of the lab."
)


@dataclass(frozen=True, slots=True)
class Limits:
    """When to end: after ``seconds``, ``packets`` kept (0: any number), or once the file has ``size`` bytes."""

    seconds: float
    packets: int
    size: int


@dataclass(frozen=True, slots=True)
class Captured:
    """What one interface gave: packets and bytes kept, packets the reader was too slow for, and how many of those kept had
    a checksum that the sender left to its interface (``unsummed``)."""

    interface: str
    packets: int = 0
    bytes: int = 0
    dropped: int = 0
    unsummed: int = 0


def sources(nodes: Sequence[Node], bridges: Sequence[Bridge]) -> list[Source]:
    """Every interface of ``nodes``, then every bridge. A device that both would name comes once."""
    found = [Source(nic.altname, nic.device, "guest") for node in nodes for nic in node.nics]
    return [*found, *(Source(f"bridge {bridge.network}", bridge.device, "bridge") for bridge in bridges)]


def chosen(kind: str, words: Sequence[str], known: Mapping[str, object]) -> list[str]:
    """``words``, all of them keys of ``known``. Raises ``UsageError`` with the nearest name."""
    for word in words:
        if word not in known:
            raise UsageError(
                f"the lab has no {kind} '{word}'",
                hint=meant(word, dict.fromkeys(known)) or f"it has {', '.join(known)}",
            )
    return list(dict.fromkeys(words))


def parties(service: Service, nodes: Sequence[Node], directors: Sequence[str]) -> list[Node]:
    """The directors and real servers of ``service``."""
    names = {*directors, *(server.node for server in service.servers)}
    return [node for node in nodes if node.name in names]


def concerned(service: Service, nodes: Sequence[Node], directors: Sequence[str]) -> list[Node]:
    """The nodes that a request for ``service`` may touch: its parties, and whoever is on the VIP's network."""
    near = [node for node in nodes if any(nic.network == service.network for nic in node.nics)]
    found = {node.name for node in [*near, *parties(service, nodes, directors)]}
    return [node for node in nodes if node.name in found]


def about(service: Service) -> str:
    """The filter for the packets of ``service``, on both sides of its director, and for questions after its VIP. A filter has
    room for few words, so a service on several ports is known by its protocol."""
    several = len(service.each()) > 1 or service.fwmark is not None
    servers = {(str(server.address), server.port) for server in service.servers}
    inside = [f"host {host} and {service.protocol if several else f'port {port}'}" for host, port in sorted(servers)]
    outside = service.protocol if several else f"port {service.port}"
    return " or ".join([f"host {service.vip} and (arp or {outside})", *inside])


@dataclass
class _File:
    """A pcapng file in the making. ``os.write`` without a buffer: nothing waits in this process when it is killed."""

    descriptor: int
    size: int = 0

    def put(self, block: bytes) -> None:
        self.size += len(block)
        left = memoryview(block)
        while left:
            left = left[os.write(self.descriptor, left) :]


@dataclass
class _Count:
    packets: int = 0
    bytes: int = 0
    unsummed: int = 0
    dropped: int = 0


@dataclass
class _Recording:
    file: _File
    sources: Sequence[Source]
    keep: Filter
    limits: Limits
    counts: list[_Count] = field(default_factory=list)

    @property
    def full(self) -> bool:
        packets = sum(count.packets for count in self.counts)
        return self.file.size >= self.limits.size or 0 < self.limits.packets <= packets

    def take(self, packets: Sequence[Packet]) -> None:
        for packet in packets:
            if self.full:
                return
            frame = decode(packet.data)
            if frame is not None and self.keep(frame):
                self.write(packet)

    def write(self, packet: Packet) -> None:
        count = self.counts[packet.source]
        count.packets += 1
        count.bytes += packet.length
        count.unsummed += packet.unsummed
        direction = _direction(self.sources[packet.source], packet)
        self.file.put(pcapng.packet(packet.source, packet.time, packet.data, packet.length, direction))


def _direction(source: Source, packet: Packet) -> int:
    if source.end == "bridge":
        return 0
    return pcapng.OUTBOUND if packet.sent else pcapng.INBOUND


def record(sniffer: Sniffer, descriptor: int, keep: Filter, limits: Limits, stop: threading.Event) -> list[Captured]:
    """Write what ``sniffer`` sees and ``keep`` lets through into ``descriptor`` until a limit is reached or ``stop`` is set.
    Raises ``OSError`` when the file takes no more."""
    recording = _Recording(_File(descriptor), sniffer.sources, keep, limits, [_Count() for _ in sniffer.sources])
    for block in _head(sniffer.sources):
        recording.file.put(block)
    deadline = time.monotonic() + limits.seconds
    while not recording.full and not stop.is_set() and (left := deadline - time.monotonic()) > 0:
        recording.take(sniffer.read(min(POLL, left)))
    recording.take(sniffer.rest())
    _finish(recording, sniffer)
    return [
        Captured(source.name, count.packets, count.bytes, count.dropped, count.unsummed)
        for source, count in zip(sniffer.sources, recording.counts, strict=True)
    ]


def _head(sources: Sequence[Source]) -> Iterator[bytes]:
    yield pcapng.section(f"vlab {vlab.__version__}", COMMENT)
    yield from (pcapng.interface(source.name, source.device, LONGEST) for source in sources)


def _finish(recording: _Recording, sniffer: Sniffer) -> None:
    now = time.time_ns()
    for number, tally in enumerate(sniffer.tallies()):
        recording.counts[number].dropped = tally.dropped
        recording.file.put(pcapng.statistics(number, now, tally.received, tally.dropped))
