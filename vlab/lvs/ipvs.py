"""The IPVS table as data, read from what ``ipvsadm -Ln`` and ``ipvsadm -Ln --stats --exact`` print. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

READ = ("sh", "-c", "ipvsadm -Ln && ipvsadm -Ln --stats --exact")
"""One command for a whole table; ``parse`` takes its output."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What ip_vs counted since the entry was made. The kernel brings them up to date every 2 s only."""

    conns: int = 0
    in_packets: int = 0
    out_packets: int = 0
    in_bytes: int = 0
    out_bytes: int = 0

    def __sub__(self, earlier: Counters) -> Counters:
        return Counters(
            self.conns - earlier.conns,
            self.in_packets - earlier.in_packets,
            self.out_packets - earlier.out_packets,
            self.in_bytes - earlier.in_bytes,
            self.out_bytes - earlier.out_bytes,
        )


@dataclass(frozen=True, slots=True)
class Destination:
    """A real server in the table. ``method`` is ipvsadm's word: Masq, Route, Tunnel or Local."""

    address: IPv4Address
    port: int
    method: str
    weight: int
    active: int
    inactive: int
    counters: Counters = Counters()


@dataclass(frozen=True, slots=True)
class Virtual:
    """A virtual service in the table. ``persistence`` is in seconds, None for none; ``flags`` are the other words behind
    the scheduler («ops», «(sh-port)»)."""

    protocol: str
    address: IPv4Address
    port: int
    scheduler: str
    persistence: int | None = None
    flags: tuple[str, ...] = ()
    counters: Counters = Counters()
    destinations: tuple[Destination, ...] = ()

    def destination(self, address: IPv4Address, port: int) -> Destination | None:
        return next((d for d in self.destinations if (d.address, d.port) == (address, port)), None)


@dataclass(frozen=True, slots=True)
class Table:
    services: tuple[Virtual, ...] = ()

    def service(self, protocol: str, address: IPv4Address, port: int) -> Virtual | None:
        wanted = (protocol, address, port)
        return next((s for s in self.services if (s.protocol, s.address, s.port) == wanted), None)


@dataclass(slots=True)
class _Reading:
    """Services in order of appearance, their destinations, and the counters of both, by (service, destination or None)."""

    services: dict[str, Virtual] = field(default_factory=dict)
    destinations: dict[str, list[tuple[str, Destination]]] = field(default_factory=dict)
    counters: dict[tuple[str, str], Counters] = field(default_factory=dict)


def parse(text: str) -> Table:
    """Either listing, or both one after the other. Firewall-mark and IPv6 services are passed over; so is what is no table."""
    reading = _Reading()
    service, stats = "", False
    for line in text.splitlines():
        words = line.split()
        if words[:2] == ["Prot", "LocalAddress:Port"]:
            stats = "Conns" in words
        elif words[:1] == ["->"]:
            _destination(reading, service, words[1:], stats=stats)
        elif words and words[0] in {"TCP", "UDP", "SCTP", "FWM"}:
            service = _service(reading, words, stats=stats)
    return Table(tuple(_assembled(reading)))


def _service(reading: _Reading, words: list[str], *, stats: bool) -> str:
    """Take a service line; return its key, empty when it is passed over."""
    if words[0] == "FWM" or words[1].startswith("["):
        return ""
    key = f"{words[0]} {words[1]}"
    if stats:
        reading.counters[key, ""] = _counters(words[2:])
    else:
        address, port = _endpoint(words[1])
        persistence, flags = _flags(words[3:])
        reading.services[key] = Virtual(words[0].lower(), address, port, words[2], persistence, flags)
    return key


def _destination(reading: _Reading, service: str, words: list[str], *, stats: bool) -> None:
    if not service or words[0].startswith(("RemoteAddress", "[")):
        return
    if stats:
        reading.counters[service, words[0]] = _counters(words[1:])
        return
    address, port = _endpoint(words[0])
    weight, active, inactive = (int(word) for word in words[2:5])
    made = Destination(address, port, words[1], weight, active, inactive)
    reading.destinations.setdefault(service, []).append((words[0], made))


def _assembled(reading: _Reading) -> Iterator[Virtual]:
    for key, service in reading.services.items():
        found = reading.destinations.get(key, [])
        destinations = tuple(replace(d, counters=reading.counters.get((key, name), Counters())) for name, d in found)
        yield replace(service, counters=reading.counters.get((key, ""), Counters()), destinations=destinations)


def _endpoint(text: str) -> tuple[IPv4Address, int]:
    address, _, port = text.rpartition(":")
    return IPv4Address(address), int(port)


def _flags(words: list[str]) -> tuple[int | None, tuple[str, ...]]:
    if "persistent" not in words:
        return None, tuple(words)
    at = words.index("persistent")
    return int(words[at + 1]), (*words[:at], *words[at + 2 :])


def _counters(words: list[str]) -> Counters:
    return Counters(*(int(word) for word in words[:5]))
