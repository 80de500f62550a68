"""A service's own keys, from the file to the director's table and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest

from tests.unit.service_key_labs import TEXT, keys
from vlab.engine.capture import about
from vlab.guests.base import Result
from vlab.lvs import checks, ipvs, listing, marks, procfs, resting, status
from vlab.lvs.explain import explain
from vlab.lvs.index import index
from vlab.lvs.ipvsadm import typed
from vlab.lvs.settings import for_node
from vlab.plain import from_element, from_plain, to_element, to_plain
from vlab.topology.addressing import complete
from vlab.topology.lab import Lab, Service
from vlab.topology.parse import Source, parse, warnings
from vlab.topology.ports import PortRange


def service(name: str, lab: Lab | None = None) -> Service:
    return next(service for service in (lab or keys()).services if service.name == name)


def lab_with(*edits: tuple[str, str]) -> Lab:
    return complete(parse(edited(*edits)))


def edited(*edits: tuple[str, str]) -> Source:
    text = TEXT
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return Source("keys.yaml", text)


def warned(*edits: tuple[str, str]) -> list[str]:
    source = edited(*edits)
    return [str(problem) for problem in warnings(source, parse(source))]


# The language.


def test_a_list_of_ports_is_a_kernel_service_each_with_real_servers_on_that_port() -> None:
    www = service("www")
    assert www.ports == (PortRange(80, 80), PortRange(443, 443), PortRange(8000, 8001))
    assert [each.port for each in www.each()] == [80, 443, 8000, 8001]
    assert all({s.port for s in each.servers} == {each.port} and not each.ports for each in www.each())
    assert www.shown_ports == "80,443,8000-8001"


def test_a_firewall_mark_makes_one_kernel_service_that_keeps_ports() -> None:
    shop = service("shop")
    assert shop.each() == (shop,) and (shop.fwmark, shop.port) == (7, 80)
    assert {server.port for server in shop.servers} == {0}


def test_a_chosen_mark_is_stable_and_keeps_clear_of_the_others() -> None:
    chosen = service("names").fwmark
    assert chosen and chosen == service("names", lab_with(("name: keys", "name: other"))).fwmark
    taken = service("names", lab_with(("fwmark: 7", f"fwmark: {chosen}"))).fwmark
    assert taken and taken != chosen


def test_thresholds_are_a_servers_own_or_the_services() -> None:
    assert [(s.node, s.upper, s.lower) for s in service("sql").real_servers] == [("db1", 100, 80), ("db2", 50, 0)]


def test_the_sorry_server_gets_what_its_mode_needs_and_is_no_client() -> None:
    lab = keys()
    spare = for_node(lab, lab.node("spare1"))
    assert [str(route.via) for route in spare.routes] == ["10.30.0.1"], "nat, of shop"
    assert "10.30.0.200/32" in {str(a.address) for a in spare.addresses if a.device == "lo"}, "dr, of sql"
    assert [role.service.name for role in index(lab).serving["spare1"]] == ["shop", "sql"]


def test_a_mark_holds_services_whole() -> None:
    for one in keys().services:
        assert from_plain(Service, to_plain(one)) == one
        assert from_element(Service, to_element(one, "service", "urn:x", "x")) == one


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (("sorry_server: spare1, quorum: 2", "quorum: 2"), "without a sorry server keepalived only reports"),
        (("protocol: udp, mode: dr, scheduler: rr", "protocol: udp, mode: dr, check: tcp, scheduler: rr"), "connects by TCP"),
        (("ports: [7000, 7001]", "ports: [20, 21]"), "FTP opens a second connection"),
        (("ports: [80, 443, \"8000-8001\"]", "port: 21"), "the director has no ip_vs_ftp"),
    ],
)  # fmt: skip
def test_warnings(edit: tuple[str, str], expected: str) -> None:
    assert not any(expected in warning for warning in warned())
    found = warned(edit)
    assert any(expected in warning for warning in found), found


def test_one_packet_by_nat_is_warned_of() -> None:
    moved = (
        "log: {vip: 10.30.0.201, port: 514, protocol: udp, mode: dr",
        "log: {vip: 10.20.0.103, port: 514, protocol: udp, mode: nat",
    )
    assert any("nat does not know the replies" in warning for warning in warned(moved))


@pytest.mark.parametrize("ports", ["[21]", '[20, 21, "40000-40100"], fwmark: auto'])
def test_ftp_with_persistence_has_no_warning(ports: str) -> None:
    assert warned(("ports: [7000, 7001]", f"ports: {ports}, persistence: 60 s")) == warned()


def test_drained_servers_of_lists_and_marks_are_known_by_all_their_ports() -> None:
    www, shop = service("www"), service("shop")
    table = ipvs.parse(table_of(www) + table_of(shop).removeprefix(HEAD))
    assert list(resting.lacks(www, table)) == list(resting.lacks(shop, table)) == []
    assert resting.rest(www, "web1", "lvs1", table) == resting.Rest("www", "lvs1", 1, 4, 8)
    assert resting.rest(shop, "web1", "lvs1", table) == resting.Rest("shop", "lvs1", 1, 1, 2)
    seen = """\
TCP 14:58  ESTABLISHED 10.20.0.91:41234   10.20.0.100:443    10.30.0.31:443
TCP 14:58  ESTABLISHED 10.20.0.91:41235   10.20.0.101:80     10.30.0.31:80
IP  04:58  NONE        10.20.0.0:0        0.0.0.7:0          10.30.0.31:0
"""
    assert [text.split()[1] for text in resting.open_connections(seen, www, "web1")] == ["10.20.0.91:41234"]
    assert [text.split()[1] for text in resting.open_connections(seen, shop, "web1")] == ["10.20.0.91:41235"]
    assert (resting.templates(seen, shop, "web1"), resting.templates(seen, shop, "web2")) == (1, 0)


def test_a_fallback_flag_answers_the_warning_of_drained_servers() -> None:
    assert not any("goes on giving" in warning for warning in warned(("sh-fallback],", "sh-fallback], drained: web1,")))
    assert any("goes on giving" in warning for warning in warned((", sh-fallback],", "], drained: web1,")))


# The director.


def test_marks_are_loaded_by_a_unit_before_keepalived_and_gone_without_the_key() -> None:
    lab = keys()
    director = for_node(lab, lab.node("lvs1"))
    assert [unit.name for unit in director.units] == ["vlab-marks.service", "keepalived.service"]
    assert [f.mode for f in director.files if f.path == "/etc/vlab/login-sql"] == [0o600]
    unmarked = lab_with((", fwmark: 7", ""), ('443, "40000-40100"', "443"), (", fwmark: auto", ""))
    plain = for_node(unmarked, unmarked.node("lvs1"))
    assert [unit.name for unit in plain.units] == ["keepalived.service"]
    assert marks.PATH not in {file.path for file in plain.files}


def test_the_password_is_nowhere_but_in_its_file() -> None:
    lab = lab_with(('password: "l b"', "password: very-private"))
    holders = [f.path for f in for_node(lab, lab.node("lvs1")).files if "very-private" in f.content]
    assert holders == ["/etc/vlab/login-sql"]
    assert not any("very-private" in f"{row.setting}{row.why}" for row in explain(lab, "sql"))


def test_rules_mark_every_port_of_the_group() -> None:
    text = marks.render([service("shop")])
    rule = 'ip daddr 10.20.0.101 tcp dport { 80, 443, 40000-40100 } meta mark set 7 comment "shop"'
    assert [line.strip() for line in text.splitlines() if "mark set" in line] == [rule]
    assert text.index("delete table inet vlab-marks") < text.index("table inet vlab-marks {")


# The table.

HEAD = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
"""


def table_of(one: Service, *, without: tuple[tuple[str, int], ...] = ()) -> str:
    """What ipvsadm prints of ``one`` as declared, but for some (node, port)."""
    lines = []
    for each in one.each():
        where = f"FWM  {each.fwmark}" if each.fwmark is not None else f"{each.protocol.upper()}  {each.vip}:{each.port}"
        flags = f" ({','.join(each.scheduler_flags)})" if each.scheduler_flags else ""
        persistent = "" if each.persistence is None else f" persistent {each.persistence}"
        mask = " mask 255.255.255.0" if each.netmask == 24 else ""
        lines.append(f"{where} {each.scheduler}{flags}{persistent}{mask}{' ops' if each.one_packet else ''}")
        method = "Masq" if each.mode == "nat" else "Route"
        lines += [
            f"  -> {s.address}:{s.port}  {method}  {s.weight}  1  2"
            for s in each.real_servers
            if (s.node, each.port) not in without
        ]
    return HEAD + "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", ["www", "shop", "log", "names", "jobs"])
def test_a_table_as_declared_passes(name: str) -> None:
    one = service(name)
    found = checks.table(one, ipvs.parse(table_of(one)), "lvs1")
    assert found.ok, found.found


@pytest.mark.parametrize(
    ("name", "old", "new", "found"),
    [
        ("www", "443 sh (sh-fallback,sh-port)", "443 sh (sh-port)", "port 443: scheduler flags sh-port"),
        ("www", "8001 sh", "8002 sh", "port 8001: 10.20.0.100:8001/tcp is not in the table"),
        ("shop", "FWM  7", "FWM  8", "firewall mark 7 is not in the table"),
        ("shop", " mask 255.255.255.0", "", "persistence 300 s"),
        ("shop", "10.30.0.32:0", "10.30.0.91:0", "web2 is down (not in the table); sorry server spare1 answers"),
        (
            "shop",
            "10.30.0.32:0  Masq",
            "10.30.0.91:0  Route",
            "web2 is down (not in the table); sorry server spare1 answers, and is forwarded to by Route",
        ),
        ("log", " ops", "", "no one-packet scheduling"),
    ],
)
def test_a_table_that_differs_is_told(name: str, old: str, new: str, found: str) -> None:
    one = service(name)
    text = table_of(one)
    assert old in text, text
    result = checks.table(one, ipvs.parse(text.replace(old, new)), "lvs1")
    assert not result.ok and result.found == found


def test_thresholds_that_differ_are_told() -> None:
    one = service("sql")
    limits = HEAD.replace("Scheduler Flags", "Uthreshold Lthreshold") + (
        "TCP  10.30.0.200:3306 wlc\n  -> 10.30.0.61:3306 100 80 0 0\n  -> 10.30.0.62:3306 {} 0 0 0\n"
    )
    assert checks.table(one, ipvs.parse(table_of(one) + limits.format(50)), "lvs1").ok
    wrong = checks.table(one, ipvs.parse(table_of(one) + limits.format(60)), "lvs1")
    assert wrong.found == "db2 has thresholds 60 and 0, not 50 and 0"
    left = service(
        "sql",
        lab_with(
            (", lower_thresholds: {db2: 0}", ""),
            (
                "upper_threshold: 100, lower_threshold: 80,\n            upper_thresholds: {db2: 50}",
                "upper_thresholds: {db1: 90}",
            ),
        ),
    )
    assert checks.table(left, ipvs.parse(table_of(left) + limits.format(50)), "lvs1").found == (
        "db1 has thresholds 100 and 80, not 90 and 0; db2 has thresholds 50 and 0, not 0 and 0"
    )


def as_the_kernel_lists(text: str) -> str:
    """What ipvsadm printed, as /proc/net/ip_vs has it."""
    text = re.sub(r"([0-9.]{7,}):([0-9]+)", lambda it: f"{int(IPv4Address(it[1])):08X}:{int(it[2]):04X}", text)
    return re.sub(r"FWM  ([0-9]+)", lambda it: f"FWM  {int(it[1]):08X}", text)


@dataclass
class Told:
    """A director that prints one table, and remembers what it was asked."""

    text: str
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0) -> Result:  # noqa: ARG002 - Channel's
        self.asked.append(tuple(argv))
        return Result(0, self.text.encode(), b"")

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        raise AssertionError(f"status changes nothing: {path}, {len(content)} bytes, {mode:o}")

    def feed(self, path: str, content: bytes) -> None:
        raise AssertionError(f"status changes nothing: {path}, {len(content)} bytes")

    def get(self, path: str) -> bytes:
        return {procfs.ADDRESSES: "", procfs.TABLE: as_the_kernel_lists(self.text)}[path].encode()

    def wait(self, timeout: float) -> None:
        """Always there."""

    def shell(self) -> Sequence[str] | None:
        return None


def test_a_server_that_is_down_on_one_port_is_partly_up() -> None:
    one = service("www")
    (state,) = status.service_states([one], {"lvs1": Told(table_of(one, without=(("web1", 443),)))})
    assert [(s.node, s.state, s.active, s.inactive) for s in state.real_servers] == [
        ("web1", "partly", 3, 6),
        ("web2", "up", 4, 8),
    ]
    assert (state.ports, state.fwmark, state.sorry_server) == ("80,443,8000-8001", None, None)


def test_a_sorry_server_is_a_spare_until_it_answers() -> None:
    one = service("shop")
    (idle,) = status.service_states([one], {"lvs1": Told(table_of(one))})
    text = table_of(one, without=(("web1", 80), ("web2", 80))) + "  -> 10.30.0.91:0  Masq  1  0  0\n"
    (sorry,) = status.service_states([one], {"lvs1": Told(text)})
    (unknown,) = status.service_states([one], {})
    states = [s.sorry_server.state for s in (idle, sorry, unknown) if s.sorry_server]
    assert states == ["spare", "up", "unknown"]
    assert {s.state for s in sorry.real_servers} == {"down"}


def test_thresholds_are_asked_for_only_where_there_are_any() -> None:
    asked = [Told(HEAD), Told(HEAD)]
    status.read_table(asked[0], [service("www")])
    status.read_table(asked[1], [service("www"), service("sql")])
    assert [told.asked for told in asked] == [[ipvs.READ], [ipvs.READ_THRESHOLDS]]


def test_explain_tells_each_key() -> None:
    lab = keys()
    subjects = {name: {row.subject for row in explain(lab, name)} for name in ("www", "shop", "log")}
    assert {"ports", "scheduler flag", "check"} <= subjects["www"]
    assert {"firewall mark", "persistence", "sorry server"} <= subjects["shop"]
    assert "one packet" in subjects["log"]
    assert [row.setting for row in explain(lab, "spare1") if row.subject == "part"] == [
        "sorry server of shop",
        "sorry server of sql",
    ]


# What others make of the table.


@pytest.mark.parametrize("name", ["www", "shop", "log", "names", "jobs"])
def test_lvs_show_knows_every_kernel_service_by_name(name: str) -> None:
    one = service(name)
    found = listing.entries(table_of(one), "lvs1", [one])
    assert [entry.name for entry in found] == [name] * len(one.each())
    assert all([s.state for s in entry.real_servers] == ["up", "up"] for entry in found)


def test_the_commands_of_each_key() -> None:
    lines = {name: list(typed(service(name), "Masq")) for name in ("www", "shop", "sql", "log")}
    assert lines["www"][3] == "ipvsadm -A -t 10.20.0.100:443 -s sh -b sh-fallback,sh-port"
    assert lines["shop"][:2] == [
        "ipvsadm -A -f 7 -s wlc -p 300 -M 255.255.255.0",
        "ipvsadm -a -f 7 -r 10.30.0.31:0 -m -w 1",
    ]
    assert lines["sql"][1:] == [
        "ipvsadm -a -t 10.30.0.200:3306 -r 10.30.0.61:3306 -m -w 1 -x 100 -y 80",
        "ipvsadm -a -t 10.30.0.200:3306 -r 10.30.0.62:3306 -m -w 1 -x 50",
    ]
    assert lines["log"][0] == "ipvsadm -A -u 10.30.0.201:514 -s rr -o"


def test_packets_of_several_ports_are_filtered_by_protocol() -> None:
    assert about(service("shop")).startswith("host 10.20.0.101 and (arp or tcp) or host 10.30.0.31 and tcp")
    assert about(service("sql")).startswith("host 10.30.0.200 and (arp or port 3306) or host 10.30.0.61 and port 3306")
