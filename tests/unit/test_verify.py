"""verify's judgements, fed with what real tools print, and inspection of a real network namespace."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface

import pytest

from tests.conftest import need_namespaces
from tests.unit import lvs_labs
from vlab.errors import GuestError
from vlab.guests import network_script
from vlab.guests.base import Result
from vlab.guests.settings import Settings
from vlab.guests.transition import NOTHING
from vlab.lvs import inspect
from vlab.lvs.checks import Check
from vlab.lvs.keepalived import render
from vlab.lvs.modes import ON_LINK, mode
from vlab.lvs.settings import for_node
from vlab.lvs.status import service_states
from vlab.lvs.verify import verify
from vlab.run import run
from vlab.topology.lab import Lab, Service

SERVES: Mapping[str, Mapping[int, str]] = {"web": {80: "http"}, "db": {3306: "mysql"}}


@dataclass
class World:
    """A lab as the tools inside its guests show it: every answer goes to the servers in turn and is counted by ip_vs."""

    lab: Lab
    dead: set[str] = field(default_factory=set)
    down: set[str] = field(default_factory=set)
    without: dict[str, set[str]] = field(default_factory=dict)
    stuck: bool = False
    reversed_path: bool = False
    touched: dict[str, dict[str, str]] = field(default_factory=dict)
    conns: dict[tuple[str, str], int] = field(default_factory=dict)

    def channel(self, node: str) -> Inside:
        if node in self.dead:
            raise GuestError(f"{node} does not answer")
        return Inside(self, node)

    def alive(self, service: Service) -> list[str]:
        return [s.node for s in service.real_servers if s.node not in self.down]

    def ask(self, service: Service, requests: int) -> list[str]:
        servers = self.alive(service)
        order = [servers[0 if self.stuck or service.persistence else i % len(servers)] for i in range(requests)]
        for name in order:
            self.conns[service.name, name] = self.conns.get((service.name, name), 0) + 1
        return order


@dataclass
class Inside:
    """One guest's channel: answers the commands that vlab.lvs sends, in the tools' own words."""

    world: World
    node: str

    def run(self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0) -> Result:  # noqa: ARG002 - Channel's
        text = " ".join(argv)
        for word, answer in {"ipvsadm": self._table, "curl": self._curl, "mariadb": self._mariadb,
                             "address show": self._inspected, "/dev/tcp": self._connect}.items():  # fmt: skip
            if word in text:
                return answer(argv)
        raise AssertionError(f"nobody should run {text}")

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        raise AssertionError(f"verify changes nothing: {path}, {len(content)} bytes, {mode:o}")

    def get(self, path: str) -> bytes:
        assert path == "/etc/keepalived/keepalived.conf"
        lab = self.world.lab
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
        for service in self.world.lab.services:
            self._rows(service, rows, stats)
        return Result(0, "\n".join([*rows, *stats]).encode(), b"")

    def _rows(self, service: Service, rows: list[str], stats: list[str]) -> None:
        persistent = f" persistent {service.persistence}" if service.persistence else ""
        rows.append(f"TCP  {service.vip}:{service.port} {service.scheduler}{persistent}")
        total = sum(n for (name, _), n in self.world.conns.items() if name == service.name)
        passes = mode(service.mode).replies_through_director is not self.world.reversed_path
        stats.append(
            f"TCP  {service.vip}:{service.port} {total} {total * 6} 0 {total * 400} {total * 700 if passes else 0}"
        )
        for server in service.real_servers:
            if server.node in self.world.down:
                continue
            count = self.world.conns.get((service.name, server.node), 0)
            rows.append(f"  -> {server.address}:{server.port} {mode(service.mode).ipvsadm} {server.weight} 0 {count}")
            stats.append(f"  -> {server.address}:{server.port} {count} 0 0 0 0")

    def _asked(self, argv: Sequence[str], port: int) -> list[str]:
        service = next(s for s in self.world.lab.services if str(s.vip) in " ".join(argv) and s.port == port)
        requests = int(argv[-1].rstrip("]").rpartition("-")[2])
        return self.world.ask(service, requests)

    def _curl(self, argv: Sequence[str]) -> Result:
        port = int(argv[-1].split(":")[2].split("/")[0])
        return Result(0, "".join(f"{name}\n\nvlab-probe 200 \n" for name in self._asked(argv, port)).encode(), b"")

    def _mariadb(self, argv: Sequence[str]) -> Result:
        if "mariadb" in self.world.without.get(self.node, ()):
            return Result(127, b"", b"")
        return Result(0, "".join(f"ok {name}\n" for name in self._asked(argv, 3306)).encode(), b"")

    def _connect(self, argv: Sequence[str]) -> Result:
        return Result(0, b"ok\n" * len(self._asked(argv, int(argv[-2]))), b"")

    def _inspected(self, _argv: Sequence[str]) -> Result:
        settings = for_node(self.world.lab, self.world.lab.node(self.node))
        return Result(0, printed(settings, self.world.touched.get(self.node, {})).encode(), b"")


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
    units = "".join(f"{unit.name}:active\n" for unit in settings.units)
    return "=== vlab ===\n".join([f"{json.dumps(shown)}\n", f"{json.dumps(routes)}\n", sysctls, units])


def _address(address: IPv4Interface) -> dict[str, object]:
    return {"family": "inet", "local": str(address.ip), "prefixlen": address.network.prefixlen}


def checked(world: World) -> dict[str, Check]:
    made = verify(world.lab, world.channel, lambda image: SERVES.get(image, {}), settle=0.0)
    assert len({check.id for check in made}) == len(made)
    assert all(check.expected and check.found and bool(check.hint) is not check.ok for check in made)
    return {check.id: check for check in made}


def failed(world: World) -> dict[str, Check]:
    return {id: check for id, check in checked(world).items() if not check.ok}


def web_db(scheduler: str = "rr") -> Lab:
    lab = lvs_labs.web_db()
    www, sql = lab.services
    return replace(lab, services=(replace(www, scheduler=scheduler), replace(sql, scheduler="rr")))


@pytest.mark.parametrize("make", [web_db, lvs_labs.web_db, lvs_labs.tunnel], ids=["rr", "wlc", "tun"])
def test_a_lab_as_declared_passes(make: Callable[[], Lab]) -> None:
    found = checked(World(make()))
    assert [check for check in found.values() if not check.ok] == []
    service = make().services[0].name
    assert {
        f"service/{service}/{part}" for part in ("table", "reachable", "split", "connections", "replies")
    } <= found.keys()
    assert {"node/web1/settings", "node/lvs1/settings"} <= found.keys()


def test_a_second_run_passes_too_although_the_first_left_connections() -> None:
    world = World(lvs_labs.web_db())
    assert failed(world) == {} and failed(world) == {}


def test_a_server_whose_health_check_fails_is_named_and_the_rest_still_judged() -> None:
    wrong = failed(World(web_db(), down={"web2"}))
    assert list(wrong) == ["service/www/table"]
    assert wrong["service/www/table"].found == "web2 is down (not in the table)"


def test_a_lopsided_split_is_seen_in_answers_and_counters() -> None:
    wrong = failed(World(web_db(), stuck=True))
    assert set(wrong) == {"service/www/split", "service/www/connections"}
    assert wrong["service/www/split"].found == "web1 12, web2 0, web3 0"
    assert wrong["service/www/split"].expected.startswith("answers: web1 4, web2 4, web3 4")


def test_replies_on_the_wrong_way_are_seen() -> None:
    wrong = failed(World(web_db(), reversed_path=True))
    assert wrong["service/www/replies"].found == "OutBytes 0"
    assert "bypass lvs1" in wrong["service/sql/replies"].expected


def test_a_dead_director_and_a_dead_client_are_failed_checks() -> None:
    wrong = failed(World(web_db(), dead={"lvs1", "client1"}))
    assert {"service/www/table", "service/www/reachable", "service/sql/table", "node/lvs1/settings"} <= wrong.keys()
    assert wrong["service/www/table"].found == "lvs1 does not answer"


def test_a_dead_real_server_is_a_failed_check() -> None:
    wrong = failed(World(web_db(), dead={"db3"}, down={"db3"}))
    assert set(wrong) == {"service/sql/table", "node/db3/settings"}


def test_sysctls_count_by_their_effect() -> None:
    key = "net/ipv4/conf/{}/arp_ignore"
    harmless = World(web_db(), touched={"db1": {key.format("eth0"): "0"}})
    assert failed(harmless) == {}
    wrong = failed(World(web_db(), touched={"db1": {key.format("eth0"): "0", key.format("all"): "0"}}))
    assert list(wrong) == ["node/db1/settings"]
    assert "net.ipv4.conf.eth0.arp_ignore is 0, not 1: dr:" in wrong["node/db1/settings"].found


def test_a_node_without_the_protocols_client_leaves_the_asking_to_the_next() -> None:
    world = World(web_db(), without={"web1": {"mariadb"}})
    assert "from web2" in checked(world)["service/sql/reachable"].expected


def test_where_no_node_has_the_client_counters_alone_prove_the_split() -> None:
    found = checked(World(web_db(), without={f"web{i}": {"mariadb"} for i in (1, 2, 3)}))
    assert found["service/sql/connections"].ok and found["service/sql/reachable"].ok
    assert "service/sql/split" not in found


def test_a_service_that_nobody_can_ask_says_what_to_add() -> None:
    lab = web_db()
    alone = replace(lab, nodes=tuple(node for node in lab.nodes if node.name != "client1"))
    assert failed(World(alone))["service/www/reachable"].hint == "add a group with image: client and networks: [front]"


def test_service_states_for_status() -> None:
    lab = lvs_labs.direct()
    (www,) = service_states(lab.services, World(lab, down={"web2"}).channel("lvs1"))
    assert (www.director, www.vip, www.mode, www.scheduler) == ("lvs", IPv4Address("10.20.0.100"), "dr", "wrr")
    assert [(s.node, s.state, s.weight) for s in www.real_servers] == [
        ("web1", "up", 3), ("web2", "down", 1), ("web3", "quiesced", 0),
    ]  # fmt: skip
    (unknown,) = service_states(lab.services, None)
    assert {s.state for s in unknown.real_servers} == {"unknown"}


SETUP = """\
set -e
mount -t sysfs none /sys
ip link set lo up
count=0
for mac in $1; do
  ip link add "pre$count" address "$mac" type veth peer name "far$count"
  ip link set "far$count" up
  count=$((count + 1))
done
shift
"""


def inspected(wanted: Settings, *, before: str = "") -> inspect.Inside:
    """What ``inspect`` reads in a new network namespace after the guests' own network script has settled ``wanted`` there."""
    need_namespaces()
    script = f'{SETUP}{network_script.setup(NOTHING, wanted)}{before}\nexec "$@"\n'
    macs = " ".join(link.mac for link in wanted.links)
    argv = [
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        macs,
        *inspect.command(wanted),
    ]
    done = run(argv, check=False)
    assert done.code == 0, done.error_text
    return inspect.parse(done.text)


@pytest.mark.parametrize(
    ("make", "name"), [(lvs_labs.web_db, "web1"), (lvs_labs.web_db, "db1"), (lvs_labs.mixed, "web1")]
)
def test_settled_settings_show_no_difference_in_a_real_namespace(make: Callable[[], Lab], name: str) -> None:
    lab = make()
    wanted = for_node(lab, lab.node(name))
    assert inspect.differences(wanted, inspected(wanted)) == []


def test_smaller_segments_settle_beside_the_kernels_own_route() -> None:
    lab = lvs_labs.tunnel()
    wanted = for_node(lab, lab.node("web1"))
    reduced = replace(wanted, tunnels=(), sysctls=())  # this kernel may have no ipip
    assert inspect.differences(reduced, inspected(reduced)) == []


def test_each_thing_that_is_undone_in_a_real_namespace_is_named() -> None:
    lab = lvs_labs.mixed()
    wanted = for_node(lab, lab.node("web1"))
    undo = """
ip route del default
ip address del 10.30.0.200/32 dev lo
ip link set eth0 mtu 1400
echo 0 >/proc/sys/net/ipv4/conf/all/arp_announce
echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter
"""
    wrong = inspect.differences(wanted, inspected(wanted, before=undo))
    assert [text.partition(":")[0] for text in wrong] == [
        "net.ipv4.conf.all.rp_filter is 1, not 0",
        "net.ipv4.conf.all.arp_announce is 0, not 2",
        "net.ipv4.conf.eth0.rp_filter is 1, not 0",
        "lo lacks address 10.30.0.200/32",
        "no default route via 10.30.0.2 on eth0",
        "eth0 has MTU 1400, not 1500",
    ]
