"""Packets as they pass the host side of a lab's interfaces: AF_PACKET sockets opened inside the lab's namespace (packet(7)).

No program on the host is needed, and nothing in a guest: each tap, veth and bridge is on the host. What is seen there is what the guest
sent or got, with one difference: an offloading interface passes segments larger than the MTU, and TCP checksums that nobody computed yet.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from vlab.errors import HostError
from vlab.host.namespace import inside

LONGEST = 1 << 18
"""Bytes kept of one packet: more than the 64 KiB of a super-packet that an offloading interface passes."""

BUFFER = 8 << 20
"""Bytes the kernel may hold for each socket; taken only when packets come faster than they are read."""

BATCH = 256
"""Packets read from one socket before the others have their turn."""

SMALLEST = 256
"""Bytes that the kernel counts at least for a packet it holds (the socket buffer's own ones come on top)."""

LATE = 10_000_000
"""Nanoseconds by which a packet may reach its socket after its timestamp was taken."""

# linux/if_packet.h and asm-generic/socket.h, which Python 3.11's socket module does not name.
ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS, PACKET_AUXDATA = 1, 6, 8
PACKET_MR_PROMISC = 1
PACKET_OUTGOING = 4
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
TP_STATUS_CSUMNOTREADY = 8
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """Where packets are taken: ``device`` in the lab's namespace, ``name`` for people («web1.back», «bridge back»). ``end`` says whose it is:
    a «guest» is at its other end, and what the host sends there, the guest receives; a «bridge» is everybody's, and shows what passes
    between its ports; «gateway» is what the namespace itself gets and sends on a bridge."""

    name: str
    device: str
    end: Literal["guest", "bridge", "gateway"]


# By the packet's type, which is the host's view.
_SENT: dict[str, Callable[[int], bool]] = {
    "guest": lambda kind: kind != PACKET_OUTGOING,
    "bridge": lambda kind: False,  # noqa: ARG005 - nobody's
    "gateway": lambda kind: kind == PACKET_OUTGOING,
}


@dataclass(frozen=True, slots=True)
class Packet:
    """``source`` counts in the order of ``Sniffer.sources``; ``time`` is in nanoseconds since 1970, taken by the kernel; ``length`` is
    the whole packet's, of which ``data`` may be the beginning. ``sent`` says, as the source's end sees it, whether it sent the packet.
    ``unsummed``: its checksum is left to an interface that will never compute it."""

    source: int
    time: int
    sent: bool
    length: int
    data: bytes
    unsummed: bool


@dataclass(frozen=True, slots=True)
class Tally:
    """``received`` counts packets that the kernel saw, ``dropped`` those of them that were not read in time."""

    received: int
    dropped: int


class Sniffer:
    """Open sockets on ``sources``, all inside one lab namespace. Packets that pass from now on are kept by the kernel until read.

    Raises ``HostError`` without the rights, or naming the source whose device is not there; ``UsageError`` for a namespace that is not.
    """

    def __init__(self, namespace: str, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self._space = bytearray(LONGEST)
        self._held: list[Packet] = []
        self._sockets: list[socket.socket] = []
        self._numbers: dict[int, int] = {}
        self._poll = select.poll()
        try:
            inside(namespace, self._open)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for each in self._sockets:
            each.close()

    def read(self, timeout: float) -> list[Packet]:
        """Packets in the order of their time, as soon as there are any or after ``timeout`` seconds.

        Sockets are read one after another, so the newest packets are held until the next call: one still unread may be older."""
        ready = self._poll.poll(timeout * 1000)
        until = time.time_ns() - LATE
        newest = [self._drain(self._numbers[descriptor], BATCH) for descriptor, _ in ready]
        return self._released(min([until, *(time for time in newest if time is not None)]))

    def rest(self) -> list[Packet]:
        """What was seen until now and not given out yet."""
        until = time.time_ns()
        for number in range(len(self._sockets)):
            self._drain(number, BUFFER // SMALLEST)
        return self._released(until)

    def tallies(self) -> list[Tally]:
        """One a source, since it was opened or asked last."""
        found = (each.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8) for each in self._sockets)
        return [Tally(*struct.unpack("II", value)) for value in found]

    def _open(self) -> None:
        for source in self.sources:
            try:
                self._sockets.append(_opened(source))
            except OSError as error:
                raise _explained(source, error) from error
        self._numbers = {each.fileno(): number for number, each in enumerate(self._sockets)}
        for descriptor in self._numbers:
            self._poll.register(descriptor, select.POLLIN)

    def _drain(self, number: int, most: int) -> int | None:
        """Read at most ``most`` packets; the newest one's time when that many were there, None when all were read."""
        for _ in range(most):
            try:
                self._held.append(self._packet(number))
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                # The guest went, and its device with it; the other sources go on.
                if error.errno not in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO):
                    raise
                return None
        return self._held[-1].time

    def _packet(self, number: int) -> Packet:
        length, extra, _, address = self._sockets[number].recvmsg_into([self._space], 256)
        stamp, status, whole = _extra(extra)
        sent = _SENT[self.sources[number].end](address[2])
        data = bytes(memoryview(self._space)[:length])
        return Packet(number, stamp, sent, max(whole, length), data, bool(status & TP_STATUS_CSUMNOTREADY))

    def _released(self, until: int) -> list[Packet]:
        self._held.sort(key=lambda packet: packet.time)
        ready = [packet for packet in self._held if packet.time <= until]
        self._held = self._held[len(ready) :]
        return ready


def _opened(source: Source) -> socket.socket:
    # Protocol 0 until it is bound: a socket that listens to all interfaces first would have their packets in its queue.
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        index = socket.if_nametoindex(source.device)
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        # A bridge shows frames between its ports only when it is promiscuous; the kernel undoes this when the socket closes.
        if source.end == "bridge":
            made.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("IHH8x", index, PACKET_MR_PROMISC, 0))
        made.bind((source.device, ETH_P_ALL))
    except BaseException:
        made.close()
        raise
    return made


def _extra(messages: list[tuple[int, int, bytes]]) -> tuple[int, int, int]:
    """(nanoseconds since 1970, status bits, whole length) of a packet's control messages."""
    stamp, status, whole = time.time_ns(), 0, 0
    for level, kind, data in messages:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, parts = struct.unpack("ll", data[:16])
            stamp = seconds * NANOSECONDS + parts
        elif (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, whole = struct.unpack("II", data[:8])
    return stamp, status, whole


def _explained(source: Source, error: OSError) -> HostError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return HostError("capturing packets needs privileges", hint="run vlab as root")
    if error.errno == errno.ENODEV or "no interface" in str(error):
        return HostError(
            f"{source.name} has no device {source.device} in the lab", hint="does the guest still run? vlab status"
        )
    return HostError(f"cannot capture on {source.name}: {error}")
