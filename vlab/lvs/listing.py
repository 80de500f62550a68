"""What a director's ip_vs holds and does at this moment, for people: every service and real server in its table with thresholds,
connections, totals and rates, and the connections themselves. Reads what ipvsadm 1.31 prints. Pure.

Unlike ``ipvs``, which ``verify`` measures with, nothing here depends on what kind of service it is: firewall marks, IPv6 and services
that somebody added by hand are entries like all others, known by ipvsadm's own words for them («TCP 10.20.0.100:80», «FWM 1»).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vlab.topology.family import is_six
from vlab.topology.lab import RealServer, Service

READ = (
    "sh",
    "-c",
    "ipvsadm -Ln && ipvsadm -Ln --thresholds && ipvsadm -Ln --stats --exact && exec ipvsadm -Ln --rate --exact",
)
"""One command for all four listings; ``entries`` takes its output."""

READ_CONNECTIONS = ("ipvsadm", "-Lnc")
READ_COMMANDS = ("ipvsadm", "-Sn")

NO_TABLE = "Can't initialize ipvs"
PROTOCOLS = ("TCP", "UDP", "SCTP", "FWM")


@dataclass(frozen=True, slots=True)
class Totals:
    """Since the entry was made. The kernel brings counters up to date every two seconds (ip_vs_est.c)."""

    connections: int = 0
    in_packets: int = 0
    out_packets: int = 0
    in_bytes: int = 0
    out_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """A second, as ip_vs estimates it from the last few seconds. In DR and TUN the director sees no replies, so nothing goes out."""

    connections: int = 0
    in_packets: int = 0
    out_packets: int = 0
    in_bytes: int = 0
    out_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """``node`` is empty for an address that no real server of the topology has. ``method`` is ipvsadm's word (Masq, Route, Tunnel,
    Local), empty for a declared server that is not in the table. Thresholds are in connections, 0 for none."""

    node: str
    address: str
    method: str
    weight: int
    state: str
    upper: int
    lower: int
    active: int
    inactive: int
    totals: Totals
    rates: Rates


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """``name`` is empty for a service that the topology does not know; ``flags`` are ipvsadm's words behind the scheduler."""

    name: str
    director: str
    address: str
    scheduler: str
    flags: tuple[str, ...]
    totals: Totals
    rates: Rates
    real_servers: tuple[ServerEntry, ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """An entry of the connection table. ``expires`` is in seconds."""

    protocol: str
    expires: int
    state: str
    source: str
    virtual: str
    destination: str


Key = tuple[str, str]
"""(service, real server), both as ipvsadm prints them; an empty real server for the service itself."""


def entries(text: str, director: str, declared: Sequence[Service]) -> list[ServiceEntry]:
    """All services in the table, in the kernel's order, those of ``declared`` under their names: a list of ports is a service each."""
    declared = [each for service in declared for each in service.each()]
    tables = _tables(text)
    rows = tables.get("Scheduler", {})
    services = {key[0]: words for key, words in rows.items() if not key[1]}
    known = {key: service for service in declared for key in keys(service)}
    found = [_service(key, words, director, known.get(key), tables) for key, words in services.items()]
    absent = [service for service in declared if not any(key in services for key in keys(service))]
    return [*found, *(_absent(service, director) for service in absent)]


def keys(service: Service) -> list[str]:
    """ipvsadm's words for a service of the kernel."""
    if service.fwmark is not None:
        return [f"FWM {service.fwmark}" + (" IPv6" if is_six(service.vip) else "")]
    return [f"{service.protocol.upper()} {joined(str(service.vip), service.port)}"]


def joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def connections(text: str) -> list[Connection]:
    """``ipvsadm -Lnc`` as data."""
    rows = (line.split() for line in text.splitlines())
    return [
        Connection(row[0], _seconds(row[1]), row[2], row[3], row[4], row[5])
        for row in rows
        if len(row) >= 6 and row[1].replace(":", "").isdigit()
    ]


def commands(text: str) -> list[str]:
    """``ipvsadm -Sn`` as the commands that would make the table anew."""
    return [f"ipvsadm {line.strip()}" for line in text.splitlines() if line.startswith("-")]


def _tables(text: str) -> dict[str, dict[Key, list[str]]]:
    """Each listing by a word of its head that no other has; rows are the words behind the entry's address."""
    found: dict[str, dict[Key, list[str]]] = {}
    rows: dict[Key, list[str]] = {}
    service = ""
    for line in text.splitlines():
        words = line.split()
        if words[:2] == ["Prot", "LocalAddress:Port"]:
            rows, service = {}, ""
            found[_kind(words)] = rows
        elif words[:2] == ["->", "RemoteAddress:Port"]:
            continue
        elif words[:1] == ["->"] and service and len(words) > 1:
            rows[service, words[1]] = words[2:]
        elif words and words[0] in PROTOCOLS:
            service, rest = _key(words)
            rows[service, ""] = rest
    return found


def _kind(words: Sequence[str]) -> str:
    return next((word for word in ("Scheduler", "Uthreshold", "Conns", "CPS") if word in words), "")


def _key(words: Sequence[str]) -> tuple[str, list[str]]:
    """A service line's key and what is behind it; a firewall mark says «IPv6» where it groups that."""
    length = 3 if words[0] == "FWM" and words[2:3] == ["IPv6"] else 2
    return " ".join(words[:length]), list(words[length:])


Tables = Mapping[str, Mapping[Key, Sequence[str]]]


def _service(key: str, words: Sequence[str], director: str, declared: Service | None, tables: Tables) -> ServiceEntry:
    servers = {f"{joined(str(s.address), s.port)}": s for s in declared.servers} if declared else {}
    found = [_server(row, servers.get(row[1]), tables) for row in tables["Scheduler"] if row[0] == key and row[1]]
    here = {server.address for server in found}
    missing = [absent for server in (declared.real_servers if declared else ())
               if (absent := _missing(server)).address not in here]  # fmt: skip
    scheduler, *flags = words or [""]
    return ServiceEntry(
        declared.name if declared else "", director, key, scheduler, tuple(flags),
        Totals(*_numbers(tables, "Conns", (key, ""))), Rates(*_numbers(tables, "CPS", (key, ""))), (*found, *missing),
    )  # fmt: skip


def _server(key: Key, declared: RealServer | None, tables: Tables) -> ServerEntry:
    method, weight, active, inactive = tables["Scheduler"][key][:4]
    upper, lower = [*_numbers(tables, "Uthreshold", key)[:2], 0, 0][:2]
    rest = "drained" if declared and declared.drained is not None else "quiesced"
    return ServerEntry(
        declared.node if declared else "", key[1], method, int(weight), "up" if int(weight) else rest, upper, lower, int(active), int(inactive),
        Totals(*_numbers(tables, "Conns", key)), Rates(*_numbers(tables, "CPS", key)),
    )  # fmt: skip


def _missing(server: RealServer) -> ServerEntry:
    """A declared server that is not in the table, with its declared weight."""
    address = joined(str(server.address), server.port)
    return ServerEntry(server.node, address, "", server.weight, "down", 0, 0, 0, 0, Totals(), Rates())


def _absent(service: Service, director: str) -> ServiceEntry:
    """A declared service that the director does not have: keepalived is not there, or has not begun."""
    servers = tuple(map(_missing, service.real_servers))
    return ServiceEntry(service.name, director, keys(service)[0], "", (), Totals(), Rates(), servers)


def _numbers(tables: Tables, kind: str, key: Key) -> list[int]:
    return [int(word) for word in tables.get(kind, {}).get(key, ())[:5]]


def _seconds(text: str) -> int:
    """«14:57», «120:00:00» or «57» as seconds."""
    total = 0
    for part in text.split(":"):
        total = total * 60 + int(part)
    return total


def rows(services: Sequence[ServiceEntry]) -> Iterator[tuple[ServiceEntry, ServerEntry | None]]:
    """A service's own row, then its real servers'."""
    for service in services:
        yield service, None
        yield from ((service, server) for server in service.real_servers)
