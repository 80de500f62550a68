"""The IPVS table as data, read from what ``ipvsadm -Ln`` and ``ipvsadm -Ln --stats --exact`` print. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

from vlab.topology.family import Address, endpoint, is_six
from vlab.topology.lab import Service

READ = ("sh", "-c", "ipvsadm -Ln --nosort && exec ipvsadm -Ln --stats --exact")
"""One command for a whole table; ``parse`` takes its output. Unsorted: servers in the order of the kernel's list, which decides among
equals. (/proc/net/ip_vs would need no process, but gives persistence in
ticks of the kernel's clock and no counters.)"""

READ_THRESHOLDS = ("sh", "-c", "ipvsadm -Ln --nosort && ipvsadm -Ln --thresholds && exec ipvsadm -Ln --stats --exact")
"""As ``READ``, with the thresholds, which no other listing shows."""

READ_ENTRIES = ("ipvsadm", "-Ln", "--nosort")
"""The table without counters, at less than half the price."""

READ_COUNTERS = ("ipvsadm", "-Ln", "--stats", "--exact")
"""The counters alone, at less than half the price; ``counted`` takes the output."""

TOTAL = "/proc/net/ip_vs_stats"
"""What all services counted together; ``total`` takes its text. To read it takes no process in the guest."""

FWMARK = "fwm"
NO_ADDRESS, NO_ADDRESS6 = IPv4Address(0), IPv6Address(0)
_IPV6 = "IPv6"

UPDATE = 2.0
"""Seconds between two updates of the counters in the kernel (ip_vs_est.c)."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What ip_vs counted since the entry was made. The kernel brings them up to date every ``UPDATE`` seconds only."""

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

    address: Address
    port: int
    method: str
    weight: int
    active: int
    inactive: int
    counters: Counters = Counters()
    upper: int = 0
    lower: int = 0
    """Thresholds, 0 for none; 0 too where the listing did not tell (``READ_THRESHOLDS``)."""


@dataclass(frozen=True, slots=True)
class Virtual:
    """A virtual service in the table. ``persistence`` is in seconds, None for none; ``netmask`` the prefix length of its clients;
    ``flags`` are the other words behind the scheduler («ops», «(sh-port)»). Of a firewall mark the protocol is ``FWMARK``, the
    address 0.0.0.0, or :: of one that groups IPv6, the port the mark."""

    protocol: str
    address: Address
    port: int
    scheduler: str
    persistence: int | None = None
    flags: tuple[str, ...] = ()
    counters: Counters = Counters()
    destinations: tuple[Destination, ...] = ()
    netmask: int = 32

    @property
    def scheduler_flags(self) -> frozenset[str]:
        """«sh-port» and its like, which stand in one pair of brackets."""
        bracketed = (word.strip("()") for word in self.flags if word.startswith("("))
        return frozenset(flag for words in bracketed for flag in words.split(","))

    @property
    def one_packet(self) -> bool:
        return "ops" in self.flags

    def destination(self, address: Address, port: int) -> Destination | None:
        return next((d for d in self.destinations if (d.address, d.port) == (address, port)), None)


@dataclass(frozen=True, slots=True)
class Table:
    services: tuple[Virtual, ...] = ()

    def service(self, protocol: str, address: Address, port: int) -> Virtual | None:
        wanted = (protocol, address, port)
        return next((s for s in self.services if (s.protocol, s.address, s.port) == wanted), None)

    def of(self, service: Service) -> Virtual | None:
        """The entry of ``service``, which is one of the kernel's (``Service.each``)."""
        if service.fwmark is not None:
            return self.service(FWMARK, NO_ADDRESS6 if is_six(service.vip) else NO_ADDRESS, service.fwmark)
        return self.service(service.protocol, service.vip, service.port)


@dataclass(slots=True)
class _Reading:
    """Services in order of appearance, their destinations, the counters of both, by (service, destination or None), and the
    thresholds of destinations."""

    services: dict[str, Virtual] = field(default_factory=dict)
    destinations: dict[str, list[Destination]] = field(default_factory=dict)
    counters: dict[tuple[str, str], Counters] = field(default_factory=dict)
    thresholds: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


def total(text: str) -> int:
    """Connections that ``TOTAL`` tells, in hexadecimal digits below two lines of head (ip_vs_stats_show in ip_vs_ctl.c). Raises
    ``ValueError``."""
    lines = text.splitlines()
    if len(lines) < 3 or not lines[2].split():
        raise ValueError("no statistics of ip_vs")
    return int(lines[2].split()[0], 16)


def parse(text: str) -> Table:
    """Any of the listings, or several one after the other; what is no table is passed over."""
    return Table(tuple(_assembled(_read(text))))


def counted(table: Table, text: str) -> Table:
    """``table`` with the counters that ``text`` shows, and only with the services that are in it."""
    counters = _read(text).counters
    return Table(tuple(_recounted(service, counters) for service in table.services if (_key(service), "") in counters))


def renewed(table: Table, live: Table) -> Table:
    """``live`` as a file tells it, with what only ``ipvsadm`` tells of services that were in ``table`` before: persistence, flags, counters,
    thresholds. A server that came since has counters of zero in the kernel too."""
    return Table(tuple(_renewed(table.service(it.protocol, it.address, it.port), it) for it in live.services))


def _renewed(before: Virtual | None, now: Virtual) -> Virtual:
    if before is None:
        return now
    had = {(each.address, each.port): each for each in before.destinations}
    known = ((each, had.get((each.address, each.port), each)) for each in now.destinations)
    destinations = (replace(d, counters=it.counters, upper=it.upper, lower=it.lower) for d, it in known)
    return replace(before, scheduler=now.scheduler, destinations=tuple(destinations))


def _read(text: str) -> _Reading:
    """A listing is known by its head: «… Conns …» are counters, «-> … Uthreshold …» thresholds."""
    reading = _Reading()
    service, shows = "", "table"
    for line in text.splitlines():
        words = line.split()
        if words[:2] == ["Prot", "LocalAddress:Port"]:
            shows = "counters" if "Conns" in words else "thresholds" if "Uthreshold" in words else "table"
        elif words[:2] == ["->", "RemoteAddress:Port"]:
            shows = "thresholds" if "Uthreshold" in words else shows
        elif words[:1] == ["->"]:
            _destination(reading, service, words[1:], shows)
        elif words and words[0] in {"TCP", "UDP", "SCTP", "FWM"}:
            service = _service(reading, words, shows)
    return reading


def _service(reading: _Reading, words: list[str], shows: str) -> str:
    """Take a service line; return its key. A firewall mark that groups IPv6 has a word more: «FWM 1 IPv6»."""
    length = 3 if words[0] == "FWM" and words[2:3] == [_IPV6] else 2
    key, rest = " ".join(words[:length]), words[length:]
    if shows == "counters":
        reading.counters[key, ""] = _counters(rest)
    else:
        address, port = _endpoint(words[1]) if length == 2 else (NO_ADDRESS6, int(words[1]))
        persistence, netmask, flags = _flags(rest[1:], address.max_prefixlen)
        found = Virtual(words[0].lower(), address, port, rest[0] if rest else "", persistence, flags, netmask=netmask)
        reading.services.setdefault(key, found)
    return key


def _destination(reading: _Reading, service: str, words: list[str], shows: str) -> None:
    if not service:
        return
    if shows == "counters":
        reading.counters[service, words[0]] = _counters(words[1:])
    elif shows == "thresholds":
        reading.thresholds[service, words[0]] = (int(words[1]), int(words[2]))
    else:
        address, port = _endpoint(words[0])
        weight, active, inactive = (int(word) for word in words[2:5])
        made = Destination(address, port, words[1], weight, active, inactive)
        reading.destinations.setdefault(service, []).append(made)


def _assembled(reading: _Reading) -> Iterator[Virtual]:
    for key, service in reading.services.items():
        destinations = (
            _limited(d, reading.thresholds.get((key, endpoint(d.address, d.port))))
            for d in reading.destinations.get(key, [])
        )
        yield _recounted(replace(service, destinations=tuple(destinations)), reading.counters)


def _limited(destination: Destination, thresholds: tuple[int, int] | None) -> Destination:
    return replace(destination, upper=thresholds[0], lower=thresholds[1]) if thresholds else destination


def _recounted(service: Virtual, counters: Mapping[tuple[str, str], Counters]) -> Virtual:
    key, nothing = _key(service), Counters()
    found = ((d, counters.get((key, endpoint(d.address, d.port)), nothing)) for d in service.destinations)
    destinations = tuple(replace(destination, counters=its) for destination, its in found)
    return replace(service, counters=counters.get((key, ""), nothing), destinations=destinations)


def _key(service: Virtual) -> str:
    if service.protocol == FWMARK:
        return f"FWM {service.port}" + (f" {_IPV6}" if is_six(service.address) else "")
    return f"{service.protocol.upper()} {endpoint(service.address, service.port)}"


def _endpoint(text: str) -> tuple[Address, int]:
    """Address and port; of a bare number, which is a mark, no address."""
    address, _, port = text.rpartition(":")
    return ip_address(address.strip("[]")) if address else NO_ADDRESS, int(port)


def _flags(words: list[str], longest: int) -> tuple[int | None, int, tuple[str, ...]]:
    """Persistence, its netmask's length, and the other words."""
    if "persistent" not in words:
        return None, longest, tuple(words)
    at = words.index("persistent")
    rest = (*words[:at], *words[at + 2 :])
    if "mask" not in rest:
        return int(words[at + 1]), longest, rest
    mask = rest.index("mask")
    said = rest[mask + 1]  # dotted in IPv4, a length in IPv6
    length = IPv4Network(f"0.0.0.0/{said}").prefixlen if "." in said else int(said)
    return int(words[at + 1]), length, (*rest[:mask], *rest[mask + 2 :])


def _counters(words: list[str]) -> Counters:
    return Counters(*(int(word) for word in words[:5]))
