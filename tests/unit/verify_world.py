"""A lab as the tools inside its guests show it, for tests of ``verify``: no guest runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.unit import lvs_labs
from vlab.errors import GuestError
from vlab.guests.base import Result
from vlab.guests.settings import Settings
from vlab.lvs import procfs
from vlab.lvs.checks import Check
from vlab.lvs.keepalived import render
from vlab.lvs.modes import ON_LINK, mode
from vlab.lvs.settings import for_node
from vlab.lvs.verify import verify
from vlab.topology.family import Interface, is_six
from vlab.topology.lab import Lab, RealServer, Service

SERVES: Mapping[str, Mapping[int, str]] = {"web": {80: "http", 81: "http"}, "db": {3306: "mysql"}}


@dataclass
class World:
    """A lab as the tools inside its guests show it: every answer goes to the servers in turn and is counted by ip_vs."""

    lab: Lab
    dead: set[str] = field(default_factory=set)
    down: set[str] = field(default_factory=set)
    without: dict[str, set[str]] = field(default_factory=dict)
    stuck: bool = False
    stuck_port: int = 0
    """The port whose requests all go to one server."""
    silent_port: int = 0
    reversed_path: bool = False
    touched: dict[str, dict[str, str]] = field(default_factory=dict)
    conns: dict[tuple[str, str], int] = field(default_factory=dict)
    strangers: int = 0
    reused: int = 0
    """How many connections of persistent clients are from ports that ip_vs remembers: it does not count them."""
    editing: int = 0
    """How many reads of the table show one of which keepalived has edited half."""
    late: int = 0
    """How many looks into /proc/net/ip_vs show services whose servers have not passed their checks yet."""
    behind: int = 0
    """How many reads of the counters after requests show one connection less at the servers than at the service."""
    flapping: str = ""
    """The first answer of this server is by a connection that was counted before it left the table and came back."""
    ran: list[str] = field(default_factory=list)
    looks: int = 0
    """How often the total was read; the first ``silent`` times it shows no request."""
    silent: int = 0
    holders: tuple[str, ...] = ("lvs1",)
    syncing: tuple[str, str] = ("master", "backup")

    def channel(self, node: str) -> Inside:
        if node in self.dead:
            raise GuestError(f"{node} does not answer")
        return Inside(self, node)

    def total(self) -> bytes:
        """As the kernel shows the total: in hexadecimal digits."""
        self.looks += 1
        conns = 0x20 + sum(self.conns.values()) * (self.looks > self.silent)
        rows = [
            "   Total Incoming Outgoing         Incoming         Outgoing",
            "   Conns  Packets  Packets            Bytes            Bytes",
        ]
        return "\n".join([*rows, f"{conns:8X}        0        0                0                0", ""]).encode()

    def alive(self, service: Service) -> list[str]:
        return [s.node for s in service.real_servers if s.node not in self.down]

    def ask(self, service: Service, requests: int) -> list[str]:
        servers = self.alive(service)
        stuck = self.stuck or service.port == self.stuck_port or service.persistence
        order = [servers[0 if stuck else i % len(servers)] for i in range(requests)]
        for name in order:
            self.conns[service.endpoint, name] = self.conns.get((service.endpoint, name), 0) + 1
        if self.flapping in order:
            order = [self.flapping, *order[1:]]
            self.conns[service.endpoint, servers[0]] -= 1
            self.flapping = ""
        if self.reused and service.persistence:
            self.reused -= 1
            self.conns[service.endpoint, servers[0]] -= 1
        if self.strangers:
            self.strangers -= 1
            self.conns[service.endpoint, servers[0]] += 1
        return order


@dataclass
class Inside:
    """One guest's channel: answers the commands that vlab.lvs sends, in the tools' own words."""

    world: World
    node: str

    def run(self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0) -> Result:  # noqa: ARG002 - Channel's
        text = " ".join(argv)
        for word, answer in {"ip -br": self._held, "ipvsadm": self._table, "perl": self._perl,
                             "mariadb": self._mariadb, "address show": self._inspected}.items():  # fmt: skip
            if word in text:
                self.world.ran.append(word)
                return answer(argv)
        raise AssertionError(f"nobody should run {text}")

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        raise AssertionError(f"verify changes nothing: {path}, {len(content)} bytes, {mode:o}")

    def feed(self, path: str, content: bytes) -> None:
        raise NotImplementedError

    def get(self, path: str) -> bytes:
        if path == "/proc/net/ip_vs_stats":
            return self.world.total()
        lab = self.world.lab
        if path.startswith("/proc/net/"):
            return _proc(path, self.world).encode()
        assert path == "/etc/keepalived/keepalived.conf"
        return render(lab, lab.node(self.node)).encode()

    def wait(self, timeout: float) -> None:
        """Always there."""

    def shell(self) -> Sequence[str] | None:
        return None

    def _table(self, _argv: Sequence[str]) -> Result:
        rows, stats = (
            ["Prot LocalAddress:Port Scheduler Flags"],
            ["Prot LocalAddress:Port Conns InPkts OutPkts InBytes OutBytes"],
        )
        for service in self.kernels():
            self._rows(service, rows, stats)
        self.world.behind -= bool(self.world.behind and self.world.conns)
        self.world.editing -= bool(self.world.editing)
        return Result(0, "\n".join([*rows, *stats]).encode(), b"")

    def kernels(self) -> list[Service]:
        return [each for service in self.world.lab.services for each in service.each()]

    def _held(self, _argv: Sequence[str]) -> Result:
        """As a node of a pair has it: every floating address or none."""
        holds = self.node in self.world.holders
        floating = [str(it.address) for pair in self.world.lab.pairs for it in pair.floating if holds]
        role = self.world.syncing[0 if holds else 1]
        daemon = f"{role} sync daemon (mcast=eth1, syncid=51)\n" if role else ""
        return Result(0, f"eth0 UP 10.20.0.2/24 {' '.join(floating)}\n=== vlab ===\n{daemon}".encode(), b"")

    def _rows(self, service: Service, rows: list[str], stats: list[str]) -> None:
        persistent = f" persistent {service.persistence}" if service.persistence else ""
        rows.append(f"TCP  {service.vip}:{service.port} {service.scheduler}{persistent}")
        total = sum(n for (endpoint, _), n in self.world.conns.items() if endpoint == service.endpoint)
        passes = mode(service.mode).replies_through_director is not self.world.reversed_path
        stats.append(
            f"TCP  {service.vip}:{service.port} {total} {total * 6} 0 {total * 400} {total * 700 if passes else 0}"
        )
        for server in service.real_servers:
            if server.node in self.world.down or self.world.late:
                continue
            count = self.world.conns.get((service.endpoint, server.node), 0)
            weight = server.weight + bool(self.world.editing)
            rows.append(f"  -> {server.address}:{server.port} {mode(service.mode).ipvsadm} {weight} 0 {count}")
            stats.append(f"  -> {server.address}:{server.port} {max(0, count - bool(self.world.behind))} 0 0 0 0")

    def _asked(self, vip: str, port: str, requests: str) -> list[str]:
        service = next(s for s in self.kernels() if (str(s.vip), str(s.port)) == (vip, port))
        return self.world.ask(service, int(requests))

    def _perl(self, argv: Sequence[str]) -> Result:
        lines = []
        for line in argv[5].splitlines():
            service, kind, _, vip, port, requests, _, source, *_ = line.split()
            if port == str(self.world.silent_port):
                lines += [f"{service} {source} 4711 failed Connection refused\n"] * int(requests)
                continue
            for name in self._asked(vip, port, requests):
                lines.append(f"{service} {source} 4711 ok {'' if kind == 'tcp' else name}\n")
        return Result(0, "".join(lines).encode(), b"")

    def _mariadb(self, argv: Sequence[str]) -> Result:
        if "mariadb" in self.world.without.get(self.node, ()):
            return Result(127, b"", b"")
        service, *asking = argv[4:]
        return Result(0, "".join(f"{service} ok {name}\n" for name in self._asked(*asking)).encode(), b"")

    def _inspected(self, _argv: Sequence[str]) -> Result:
        settings = for_node(self.world.lab, self.world.lab.node(self.node))
        return Result(0, printed(settings, self.world.touched.get(self.node, {})).encode(), b"")


def _proc(path: str, world: World) -> str:
    """The kernel's own listings on a director that holds every VIP."""
    if path == procfs.ADDRESSES:
        return "".join(f"|-- {service.vip}\n /32 host LOCAL\n" for service in world.lab.services)
    assert path == procfs.TABLE
    lines = []
    for it in (each for service in world.lab.services for each in service.each()):
        lines.append(f"TCP  {int(it.vip):08X}:{it.port:04X} {it.scheduler}  \n")
        for server in it.real_servers if not world.late else ():
            if server.node not in world.down:
                lines.append(f"  -> {_row(world, it, server)}\n")
    world.late -= bool(world.late)
    return "".join(lines)


def _row(world: World, service: Service, server: RealServer) -> str:
    count = world.conns.get((service.endpoint, server.node), 0)
    weight = server.weight + bool(world.editing)
    return f"{int(server.address):08X}:{server.port:04X}      {mode(service.mode).ipvsadm}    {weight}      0          {count}"


def printed(settings: Settings, touched: Mapping[str, str]) -> str:
    """What inspect's command prints in a guest that has ``settings``, but for the sysctls in ``touched``."""
    links = [*({"ifname": i.name, "mtu": i.mtu} for i in settings.links), {"ifname": "lo", "mtu": 65536},
             *({"ifname": t.name, "mtu": 1480, "linkinfo": {"info_kind": t.kind, "info_data": {"local": str(t.local)}}}
               for t in settings.tunnels)]  # fmt: skip
    shown = [
        {**link, "addr_info": [_address(a.address) for a in settings.addresses if a.device == link["ifname"]]}
        for link in links
    ]
    routes = [{"dst": "default" if r.destination.prefixlen == 0 else str(r.destination), "dev": r.device,
               **({} if r.via == ON_LINK else {"gateway": str(r.via)}),
               **({"metrics": [{"advmss": r.advmss}]} if r.advmss else {})} for r in settings.routes]  # fmt: skip
    sysctls = "".join(f"{s.key}:{touched.get(s.key, s.value)}\n" for s in settings.sysctls)
    units = "active\n" * len(settings.units)
    return "=== vlab ===\n".join([f"{json.dumps(shown)}\n{json.dumps(routes)}\n", sysctls, units])


def _address(address: Interface) -> dict[str, object]:
    return {
        "family": "inet6" if is_six(address) else "inet",
        "local": str(address.ip),
        "prefixlen": address.network.prefixlen,
    }


def checked(world: World, settle: float = 0.0) -> dict[str, Check]:
    made = verify(world.lab, world.channel, lambda image: SERVES.get(image, {}), settle=settle)
    assert len({check.id for check in made}) == len(made)
    assert all(check.expected and check.found and bool(check.hint) is not check.ok for check in made)
    return {check.id: check for check in made}


def failed(world: World) -> dict[str, Check]:
    return {id: check for id, check in checked(world).items() if not check.ok}


def web_db(scheduler: str = "rr") -> Lab:
    lab = lvs_labs.web_db()
    www, sql = lab.services
    return replace(lab, services=(replace(www, scheduler=scheduler), replace(sql, scheduler="rr")))
