"""Every rule: silent where all is well, and alone in speaking where exactly its thing is wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

import pytest

from tests.unit import diagnosis_facts as made
from tests.unit.lvs_labs import WEB, direct, dual_stack, lab, mixed, node, pair, pair6, service, tunnel, web_db
from vlab.diagnosis.facts import ANY6, Daemon, Facts, Hop, Listener
from vlab.diagnosis.rule import NAMESPACE, diagnose, fault, passing, rule, rules
from vlab.errors import UsageError
from vlab.lvs.settings import KEEPALIVED_CONF
from vlab.topology.lab import Lab

VIP = IPv4Address("10.20.0.100")
STRANGER = "52:54:00:de:ad:01"


def ftp() -> Lab:
    return lab("ftp", [*WEB, node("client1", "client", "container", front=10), node("lvs1", "director", "para", front=2, back=2)],
               service("files", "nat", WEB, vip="10.20.0.100", port=21))  # fmt: skip


def pair_of_groups() -> Lab:
    """Two groups of directors on one network."""
    one, other = node("lvs1", "director", "para", front=2, back=2), node("gate1", "director", "para", front=3, back=3)
    www = service("www", "nat", WEB[:2], vip="10.20.0.100")
    tls = replace(service("tls", "nat", WEB[2:], vip="10.20.0.101", port=443), director="gate")
    return lab("pair", [*WEB, node("client1", "client", "container", front=10), one, other], www, tls)


def vrrp(facts: Facts, name: str) -> Facts:
    known = facts.guests[name].files[KEEPALIVED_CONF]
    return made.with_file(
        facts, name, KEEPALIVED_CONF, *known, "vrrp_instance it {", "  interface eth0", "  virtual_router_id 51", "}"
    )


def table_line(facts: Facts, old: str, new: str, at: str = "lvs1") -> Facts:
    """A director's keepalived.conf with some text replaced."""
    text = "\n".join(facts.guests[at].files[KEEPALIVED_CONF])
    assert old in text
    return made.with_file(facts, at, KEEPALIVED_CONF, *text.replace(old, new).splitlines())


def addresses(facts: Facts, name: str, *more: tuple[str, str], without: str = "") -> Facts:
    kept = [item for item in facts.guests[name].addresses if str(item[1].ip) != without]
    return made.with_guest(facts, name, addresses=(*kept, *((where, ip_interface(text)) for where, text in more)))


def device(facts: Facts, node: str, name: str, **changes: object) -> Facts:
    known = facts.guests[node].devices
    return made.with_guest(facts, node, devices={**known, name: replace(known[name], **changes)})  # type: ignore[arg-type]  # any field


def listening(facts: Facts, node: str, *listeners: Listener) -> Facts:
    """Of IPv6 these only; of IPv4 all as they were."""
    kept = (it for it in facts.guests[node].listeners if it.address != ANY6)
    return made.with_guest(facts, node, listeners=frozenset((*kept, *listeners)))


def service_named(facts: Facts, name: str, **changes: object) -> Facts:
    return made.with_service(facts, [it.name for it in dual_stack().services].index(name), **changes)


def answered(facts: Facts, address: str, *macs: str) -> Facts:
    """Somebody more answers for an address."""
    asked = ip_address(address)
    known = facts.fabric.answers
    return made.with_fabric(facts, answers={**known, asked: known[asked] | set(macs)})


def destinations(facts: Facts, **changes: object) -> Facts:
    table = facts.guests["lvs1"].table
    assert table is not None
    first, *rest = table.services[0].destinations
    return made.with_service(facts, 0, destinations=(replace(first, **changes), *rest))  # type: ignore[arg-type]  # any field


DROP = "table inet mine {\n  chain input {\n    type filter hook input priority filter; policy accept;\n    ip daddr 10.20.0.100 drop\n  }\n}\n"

DEAF = "table inet mine {\n  chain input {\n    type filter hook input priority filter; policy %s;\n%s  }\n}\n"

Break = Callable[[Facts], Facts]
SIX_CASES: list[tuple[str, Lab, str, Break]] = [
    ("nat-return-path", dual_stack(), "another gateway", lambda f: made.with_guest(f, "app1", hops={
        it: replace(hop, via=IPv6Address("fd00:30::fe")) if it.version == 6 else hop for it, hop in f.guests["app1"].hops.items()})),
    ("director-does-not-forward", dual_stack(), "forwarding", lambda f: made.with_sysctl(f, "lvs1", "net/ipv6/conf/all/forwarding", "0")),
    ("sticky-clients", dual_stack(), "persistence", lambda f: service_named(f, "nat6", persistence=300)),
    ("vip-firewalled", dual_stack(), "nft", lambda f: made.with_guest(
        f, "lvs1", ruleset=DROP.replace("ip daddr 10.20.0.100", "ip6 daddr { fd00:20::100, fe80::1 }"))),
    ("vip-firewalled", dual_stack(), "table of IPv6", lambda f: made.with_guest(
        f, "lvs1", ruleset=DROP.replace("ip daddr 10.20.0.100 ", "").replace("inet", "ip6"))),
    ("tun-no-decapsulation", dual_stack(), "down", lambda f: device(f, "web1", "vlab-ip6tnl1", up=False)),
    ("tun-no-decapsulation", dual_stack(), "another end", lambda f: device(f, "web1", "vlab-ip6tnl1", local="fd00:20::61")),
    ("tun-mtu", dual_stack(), "ping", lambda f: made.with_guest(f, "lvs1", carried={IPv6Address("fd00:30::61"): False})),
    ("tun-mtu", dual_stack(), "the director's card", lambda f: device(f, "lvs1", "eth1", mtu=1539)),
    ("vip-owner", dual_stack(), "on a real server's card", lambda f: addresses(f, "edge1", ("eth0", "fd00:20::101/128"))),
    ("vip-owner", dual_stack(), "on none", lambda f: addresses(f, "lvs1", without="fd00:20::100")),
    ("vip-owner", dual_stack(), "a stranger", lambda f: answered(f, "fd00:20::100", STRANGER)),
    ("client-arp-stale", dual_stack(), "fixed", lambda f: made.with_guest(f, "client1", neighbours6={IPv6Address("fd00:20::100"): STRANGER})),
    ("port-differs", dual_stack(), "file", lambda f: table_line(f, "real_server fd00:20::61 80", "real_server fd00:20::61 8080")),
    ("mode-differs", dual_stack(), "Route", lambda f: service_named(f, "nat6", destinations=tuple(
        replace(it, method="Route") for it in made.virtual(next(s for s in dual_stack().services if s.name == "nat6")).destinations))),
    ("vip-absent", dual_stack(), "gone", lambda f: addresses(f, "edge1", without="fd00:20::101")),
    ("slow-health-check", dual_stack(), "every", lambda f: table_line(f, "delay_loop         2", "delay_loop 60")),
    ("reload-ignored", dual_stack(), "weight", lambda f: table_line(
        f, "real_server fd00:30::31 80 {\n        weight 1", "real_server fd00:30::31 80 {\n        weight 9")),
    ("rs-not-listening", dual_stack(), "::1", lambda f: listening(f, "app1", Listener("tcp", IPv6Address("::1"), 80))),
    ("rs-not-listening", dual_stack(), "own address", lambda f: listening(f, "web1", Listener("tcp", IPv6Address("fd00:20::61"), 80))),
    ("rs-not-listening", dual_stack(), "IPv4 alone", lambda f: listening(f, "app2")),
    ("vip-wide-prefix", dual_stack(), "/64", lambda f: addresses(f, "web1", ("lo", "fd00:20::101/64"), without="fd00:20::101")),
    ("bad-checksums", dual_stack(), "counter", lambda f: replace(f, asked={"tun6": replace(f.asked["tun6"], bad_checksums=3)})),
    ("duplicate-address", dual_stack(), "on another node", lambda f: addresses(f, "app2", ("eth0", "fd00:30::31/128"))),
    ("duplicate-address", dual_stack(), "a stranger", lambda f: answered(f, "fd00:30::31", STRANGER)),
    ("table-wiped", dual_stack(), "one", lambda f: service_named(f, "dr6", port=81)),
]  # fmt: skip
PAIR_CASES: list[tuple[str, Lab, str, Break]] = [
    ("sync-daemon-role", pair(), "none stands by", lambda f: made.with_guest(f, "lvs2", daemons=())),
    ("sync-daemon-role", pair(), "two tell", lambda f: made.with_guest(f, "lvs2", daemons=f.guests["lvs1"].daemons)),
    ("sync-daemon-role", pair(), "another network", lambda f: made.with_guest(f, "lvs2", daemons=(Daemon("backup", "eth0", 51),))),
    ("sync-daemon-role", pair(), "another id", lambda f: made.with_guest(f, "lvs1", daemons=(Daemon("master", "eth1", 1),))),
    ("sync-daemon-role", pair(sync=False), "not asked for", lambda f: made.with_guest(f, "lvs2", daemons=(Daemon("backup", "eth1", 51),))),
    ("sync-daemon-role", pair6(), "none tells", lambda f: made.with_guest(f, "lvs1", daemons=())),
    ("vip-owner", pair6(), "two have IPv6's", lambda f: addresses(f, "lvs2", ("eth0", "fd00:20::100/64"))),
    ("vrrp-differs", pair(), "id", lambda f: table_line(f, "virtual_router_id 51", "virtual_router_id 52", "lvs2")),
    ("vrrp-differs", pair(), "interval", lambda f: table_line(f, "advert_int 1", "advert_int 3", "lvs1")),
    ("vrrp-differs", pair(), "unsaid interval", lambda f: table_line(
        table_line(f, "advert_int 1", "advert_int 2", "lvs1"), "    advert_int 1\n", "", "lvs2")),
    ("vrrp-differs", pair(), "password", lambda f: table_line(
        f, "advert_int 1", "advert_int 1\n    authentication {\n auth_type PASS\n auth_pass 1111\n }", "lvs1")),
    ("vrrp-differs", pair(), "version", lambda f: table_line(f, "global_defs {", "global_defs {\n vrrp_version 3", "lvs1")),
    ("vrrp-differs", pair(), "one instance less", lambda f: table_line(f, "interface eth1", "interface eth7", "lvs2")),
    ("vrrp-blocked", pair(), "named", lambda f: made.with_guest(f, "lvs2", ruleset=DEAF % ("accept", "ip protocol vrrp drop\n"))),
    ("vrrp-blocked", pair(), "by number, on one card", lambda f: made.with_guest(
        f, "lvs2", ruleset=DEAF % ("accept", 'iifname "eth1" meta l4proto 112 counter packets 3 bytes 9 drop comment "x"\n'))),
    ("vrrp-blocked", pair(), "by destination, on the way out", lambda f: made.with_guest(
        f, "lvs1", ruleset=(DEAF % ("accept", "ip daddr { 1.2.3.4, 224.0.0.0/24 } reject with icmp port-unreachable\n")).replace(
            "input", "output"))),
]  # fmt: skip
CASES: list[tuple[str, Lab, str, Break]] = [
    ("rs-answers-arp", direct(), "arp_ignore 0", lambda f: made.with_sysctl(made.with_sysctl(
        f, "web1", "net/ipv4/conf/all/arp_ignore", "0"), "web1", "net/ipv4/conf/eth0/arp_ignore", "0")),
    ("rs-answers-arp", direct(), "its MAC answers", lambda f: made.with_fabric(
        f, answers={**f.fabric.answers, VIP: frozenset({direct().node("web2").nics[0].mac.lower(), *f.fabric.answers[VIP]})})),
    ("nat-return-path", web_db(), "another gateway", lambda f: made.with_guest(
        f, "web1", hops={address: Hop(IPv4Address("10.30.0.254"), "eth0") for address in f.guests["web1"].hops})),
    ("nat-return-path", web_db(), "no route", lambda f: made.with_guest(f, "web1", hops={})),
    ("nat-return-path", web_db(), "on the same link", lambda f: made.with_guest(
        f, "web1", hops={address: Hop(None, "eth0") for address in f.guests["web1"].hops})),
    ("director-does-not-forward", web_db(), "ip_forward", lambda f: made.with_sysctl(f, "lvs1", "net/ipv4/ip_forward", "0")),
    ("director-does-not-forward", web_db(), "redirects", lambda f: made.with_sysctl(f, "lvs1", "net/ipv4/conf/eth1/send_redirects", "1")),
    ("sticky-clients", web_db(), "persistence", lambda f: made.with_service(f, 0, persistence=300)),
    ("sticky-clients", web_db(), "sh", lambda f: made.with_service(f, 0, scheduler="sh")),
    ("vip-firewalled", web_db(), "nft", lambda f: made.with_guest(f, "lvs1", ruleset=DROP)),
    ("vip-firewalled", direct(), "vrrp_strict", lambda f: table_line(f, "global_defs {", "global_defs {\n    vrrp_strict")),
    ("tun-no-decapsulation", tunnel(), "down", lambda f: device(f, "web1", "vlab-ipip1", up=False)),
    ("tun-no-decapsulation", tunnel(), "gone", lambda f: made.with_guest(f, "web1", devices={
        name: it for name, it in f.guests["web1"].devices.items() if name != "vlab-ipip1"})),
    ("rs-rp-filter", tunnel(), "all", lambda f: made.with_sysctl(f, "web2", "net/ipv4/conf/all/rp_filter", "1")),
    ("tun-mtu", tunnel(), "ping", lambda f: made.with_guest(f, "lvs1", carried={IPv4Address("10.30.0.11"): False})),
    ("tun-mtu", tunnel(), "uploads", lambda f: replace(f, asked={"www": replace(f.asked["www"], large=1)})),
    ("tun-mtu", tunnel(), "no advmss", lambda f: made.with_guest(f, "web1", routes=())),
    ("drain-black-hole", web_db(), "nodest", lambda f: made.with_sysctl(f, "lvs1", "net/ipv4/vs/expire_nodest_conn", "0")),
    ("port-reuse-stalls", web_db(), "mode 0", lambda f: made.with_sysctl(f, "lvs1", "net/ipv4/vs/conn_reuse_mode", "0")),
    ("port-reuse-stalls", direct(), "mode 1 in dr", lambda f: made.with_sysctl(f, "lvs1", "net/ipv4/vs/conn_reuse_mode", "1")),
    ("port-reuse-stalls", web_db(), "old kernel", lambda f: made.with_sysctl(made.with_sysctl(
        f, "lvs1", "net/ipv4/vs/conntrack", "1"), "lvs1", "kernel/osrelease", "5.4.0-generic")),
    ("scheduler-missing", direct(), "no module", lambda f: made.with_service(
        made.with_file(f, "lvs1", "/proc/modules", "ip_vs 1 1 - Live 0x0"), 0, address=IPv4Address("10.20.0.99"))),
    ("host-filters-bridge", web_db(), "bridge-nf", lambda f: made.with_fabric(f, sysctls={"bridge/bridge-nf-call-iptables": "1"})),
    ("host-filters-bridge", web_db(), "filterref", lambda f: made.with_fabric(f, filters={"web1": ("clean-traffic",)})),
    ("host-filters-bridge", web_db(), "nft", lambda f: made.with_fabric(f, ruleset=DROP.replace("input", "forward"))),
    ("vip-owner", web_db(), "on a client too", lambda f: addresses(f, "client1", ("eth0", "10.20.0.100/32"))),
    ("vip-owner", web_db(), "on none", lambda f: addresses(f, "lvs1", without="10.20.0.100")),
    ("vip-owner", web_db(), "a stranger", lambda f: made.with_fabric(
        f, answers={**f.fabric.answers, VIP: f.fabric.answers[VIP] | {STRANGER}})),
    ("client-arp-stale", web_db(), "fixed", lambda f: made.with_file(
        f, "client1", "/proc/net/arp", "IP address HW type", f"10.20.0.100 0x1 0x6 {STRANGER} * eth0")),
    ("port-differs", direct(), "file", lambda f: table_line(f, "real_server 10.20.0.11 80", "real_server 10.20.0.11 8080")),
    ("mode-differs", web_db(), "Route", lambda f: destinations(f, method="Route")),
    ("vip-absent", direct(), "gone", lambda f: addresses(f, "web1", without="10.20.0.100")),
    ("slow-health-check", web_db(), "60 s", lambda f: table_line(f, "delay_loop         3", "delay_loop 60")),
    ("slow-health-check", web_db(), "unsaid", lambda f: table_line(f, "delay_loop         3", "")),
    ("reload-ignored", direct(), "weight", lambda f: table_line(f, "weight 3", "weight 30")),
    ("rs-not-listening", web_db(), "127.0.0.1", lambda f: made.with_guest(
        f, "web1", listeners=frozenset({Listener("tcp", IPv4Address("127.0.0.1"), 80)}))),
    ("rs-not-listening", direct(), "own address", lambda f: made.with_guest(
        f, "web1", listeners=frozenset({Listener("tcp", IPv4Address("10.20.0.11"), 80)}))),
    ("vip-wide-prefix", direct(), "/24", lambda f: addresses(f, "web1", ("lo", "10.20.0.100/24"))),
    ("bad-checksums", tunnel(), "counter", lambda f: replace(f, asked={"www": replace(f.asked["www"], bad_checksums=3)})),
    ("udp-black-hole", mixed(), "persistence", lambda f: made.with_service(f, 2, persistence=300)),
    ("ftp-without-helper", ftp(), "module", lambda f: made.with_file(f, "lvs1", "/proc/modules", "ip_vs 1", "ip_vs_wlc 1")),
    ("vrid-twice", pair_of_groups(), "equal", lambda f: vrrp(vrrp(f, "lvs1"), "gate1")),
    ("duplicate-mac", web_db(), "cloned", lambda f: device(f, "web2", "eth0", mac=web_db().node("web1").nics[0].mac.lower())),
    ("duplicate-identity", web_db(), "machine id", lambda f: made.with_file(f, "web2", made.MACHINE_ID, web_db().node("web1").machine_id)),
    ("duplicate-identity", web_db(), "host key", lambda f: made.with_file(f, "web2", made.HOST_KEY, "ssh-ed25519 web1")),
    ("duplicate-address", web_db(), "on another node", lambda f: addresses(f, "web2", ("eth0", "10.30.0.11/32"))),
    ("duplicate-address", web_db(), "a stranger", lambda f: made.with_fabric(f, answers={
        **f.fabric.answers, IPv4Address("10.30.0.11"): frozenset({STRANGER})})),
    ("table-wiped", direct(), "empty", lambda f: made.with_guest(f, "lvs1", table=made.Table())),
    ("stale-counts", direct(), "tcpfin", lambda f: made.with_guest(f, "lvs1", timeouts=(900, 7200, 300))),
]  # fmt: skip

LABS: dict[str, Callable[[], Lab]] = {
    "pair": pair,
    "pair6": pair6,
    "pair-no-sync": lambda: pair(sync=False),
    "dual-stack": dual_stack,
    "web-db": web_db,
    "dr": direct,
    "tun": tunnel,
    "mixed": mixed,
    "ftp": ftp,
    "groups": pair_of_groups,
    "one": made.one_network,
}


@pytest.mark.parametrize("of", LABS.values(), ids=LABS)
def test_a_healthy_lab_has_no_findings(of: Callable[[], Lab]) -> None:
    it = of()
    assert diagnose(it, made.healthy(it)) == []


ALL_CASES = [*CASES, *SIX_CASES, *PAIR_CASES]


@pytest.mark.parametrize(
    ("id", "of", "what", "breaks"), ALL_CASES, ids=[f"{case[1].name}-{case[0]}: {case[2]}" for case in ALL_CASES]
)
def test_a_rule_alone_names_its_fault(id: str, of: Lab, what: str, breaks: Break) -> None:
    found = diagnose(of, breaks(made.healthy(of)))
    assert {finding.rule for finding in found} == {id}, what
    for finding in found:
        assert finding.evidence
        assert finding.fix
        assert finding.subject in {node.name for node in of.nodes} | {it.name for it in of.services} | {of.name}


def test_every_rule_has_a_case() -> None:
    assert {case[0] for case in ALL_CASES} == {each.id for each in rules()}


def test_the_rules_are_those_of_the_list() -> None:
    assert {each.number for each in rules()} == set(range(1, 25))
    for each in rules():
        assert each.severity in ("error", "warning", "note")
        assert each.title
        assert each.probes
        assert each.why.endswith(".")


def test_what_could_not_be_read_is_not_called_broken() -> None:
    of = web_db()
    facts = made.healthy(of)
    for name in ("lvs1", "web1", "client1"):
        kept = {node: guest for node, guest in facts.guests.items() if node != name}
        assert diagnose(of, replace(facts, guests=kept)) == []


@pytest.mark.parametrize("of", LABS.values(), ids=LABS)
def test_faults_are_shell_that_a_shell_can_read(of: Callable[[], Lab]) -> None:
    it = of()
    tried = 0
    for each in rules():
        for place in each.victims(it):
            made_fault = each.fault(it, place)
            assert made_fault.place == place
            for text in (made_fault.breaks, *(script for _, script in made_fault.mends)):
                checked = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
                assert checked.stderr == ""
                tried += 1
    assert tried > 20


def test_every_rule_can_be_broken_somewhere_or_says_what_it_needs() -> None:
    for each in rules():
        able = [name for name, of in LABS.items() if each.victims(of())]
        assert able or each.needs, each.id


@pytest.mark.parametrize("id", ["rs-answers-arp", "vip-owner", "duplicate-address", "duplicate-mac"])
def test_what_others_remember_of_a_wrong_owner_is_forgotten(id: str) -> None:
    """By every node of the network and by the host's end of it; after the wrong owner is gone."""
    of = direct()
    ((_, broken),) = fault(of, id)
    flushes = [(place, script) for place, script in broken.mends if script.startswith("ip neigh flush to ")]
    assert {place for place, _ in flushes} == {*(node.name for node in of.nodes), NAMESPACE}
    assert broken.mends[-len(flushes) :] == tuple(flushes)


def test_a_fault_breaks_both_families_where_there_are_two() -> None:
    of = dual_stack()
    for id, four, six in (
        ("nat-return-path", "10.30.0.254", "fd00:30::254"), ("director-does-not-forward", "ipv4/ip_forward", "ipv6/conf/all/forwarding"),
        ("vip-firewalled", "ip daddr 10.20.0.100", "ip6 daddr fd00:20::100"), ("tun-no-decapsulation", "vlab-ipip1", "vlab-ip6tnl1"),
        ("vip-owner", "10.20.0.100/32", "fd00:20::100/128"), ("client-arp-stale", "10.20.0.100", "fd00:20::100"),
        ("vip-absent", "10.20.0.101/32", "fd00:20::101/128"), ("vip-wide-prefix", "10.20.0.101/24", "fd00:20::101/64"),
        ("rs-not-listening", "127.0.0.1:80", "[::1]:80"),
    ):  # fmt: skip
        ((_, broken),) = fault(of, id)
        assert four in broken.breaks and six in broken.breaks, id


def test_a_fault_of_what_a_lab_has_not_is_refused_with_what_it_needs() -> None:
    with pytest.raises(UsageError, match="tun-mtu cannot be broken in lab dr: it needs a service in mode tun"):
        fault(direct(), "tun-mtu")


def test_a_fault_at_the_wrong_node_names_the_right_ones() -> None:
    with pytest.raises(UsageError, match="nat-return-path cannot be broken at 'db1'") as told:
        fault(web_db(), "nat-return-path", ["db1"])
    assert told.value.hint == "places: web1, web2, web3"


def test_an_unknown_rule_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match="there is no rule 'nat-return'") as told:
        rule("nat-return")
    assert "nat-return-path" in told.value.hint


def test_two_owners_of_a_pair_may_be_a_passing_moment() -> None:
    """The node of lower priority waits three intervals and its skew: 3 s + (256 - 90) / 256 (RFC 3768, 6.1)."""
    of = pair()
    found = diagnose(of, addresses(made.healthy(of), "lvs2", ("eth0", "10.20.0.100/32")))
    assert {it.rule for it in found} == {"vip-owner"}
    assert 3.0 < passing(of, found) < 4.0


def test_elsewhere_no_moment_passes() -> None:
    of = made.one_network()
    found = diagnose(of, addresses(made.healthy(of), "client1", ("eth0", "10.20.0.100/32")))
    assert {it.rule for it in found} == {"vip-owner"}
    assert passing(of, found) == 0.0
