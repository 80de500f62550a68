"""Each rule of ``vlab check``: its fault injected, named, and nothing else named; mended again by ``fault clear``.

A check costs seconds on a busy host, so that a lab is clean after ``clear`` is shown by the next fault's check, which names that fault
alone, and by the last test of each lab. Healthy labs are ``test_topologies``'.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.live.harness import STATE, TOPOLOGIES, eventually, running, status, traces, verify, vlab

pytestmark = pytest.mark.live

MIXED, TUN, PAIR = "t-mixed", "t-faults-tun", "t-faults-pair"
"""Names of the labs."""

FILE = """\
vlab: 1
name: mixed
networks:
  front: {subnet: 10.20.0.0/24}
  back:  {subnet: 10.30.0.0/24}
groups:
  web:    {virt: container, image: web, networks: [back], memory: 96 MiB}
  vm:     {virt: para, image: web, networks: [back], memory: 192 MiB}
  near:   {count: 2, virt: container, image: web, networks: [front], memory: 96 MiB}
  client: {virt: container, image: client, networks: [front], memory: 96 MiB}
directors:
  lvs:
    networks: [front, back]
    services:
      www:   {vip: 10.20.0.100, port: 80, mode: nat, scheduler: rr, real_servers: [web, vm], check: {http: /health}}
      short: {vip: 10.20.0.101, port: 80, mode: dr, scheduler: rr, real_servers: near, check: {http: /health}}
      names: {vip: 10.20.0.101, port: 5353, protocol: udp, mode: dr, scheduler: rr, real_servers: near}
      files: {vip: 10.20.0.101, port: 21, mode: dr, scheduler: rr, persistence: 300 s, real_servers: near}
"""

# No image serves UDP or FTP: something that listens is enough for the director's checks and for the rules.
LISTENER = (
    "use IO::Socket::INET; $u = IO::Socket::INET->new(Proto => 'udp', LocalPort => 5353) or die; "
    "$t = IO::Socket::INET->new(LocalPort => 21, Listen => 9, ReuseAddr => 1) or die; while ($c = $t->accept) { close $c }"
)

IN_MIXED = [
    ("rs-answers-arp", "", {"near1"}),
    ("nat-return-path", "", {"web1"}),
    ("nat-return-path", "vm1", {"vm1"}),
    ("director-does-not-forward", "", {"lvs1"}),
    ("sticky-clients", "", {"www"}),
    ("vip-firewalled", "", {"www"}),
    ("drain-black-hole", "", {"lvs1"}),
    ("port-reuse-stalls", "", {"lvs1"}),
    ("scheduler-missing", "", {"www", "short", "names", "files"}),
    ("host-filters-bridge", "", {MIXED}),
    ("vip-owner", "", {"www"}),
    ("client-arp-stale", "", {"client1"}),
    ("port-differs", "", {"short"}),
    ("mode-differs", "", {"www"}),
    ("vip-absent", "", {"near1"}),
    ("slow-health-check", "", {"www", "short", "names", "files"}),
    ("reload-ignored", "", {"www", "short", "names", "files"}),
    ("rs-not-listening", "near2", {"near2"}),
    ("rs-not-listening", "vm1", {"vm1"}),
    ("vip-wide-prefix", "", {"near1"}),
    ("udp-black-hole", "", {"names"}),
    ("ftp-without-helper", "", {"files"}),
    ("duplicate-mac", "", {"near2"}),
    ("duplicate-identity", "", {"near2"}),
    ("duplicate-address", "", {"near1"}),
    ("table-wiped", "", {"www", "short", "names", "files"}),
    ("stale-counts", "", {"lvs1"}),
]
IN_TUN = [
    ("tun-no-decapsulation", "web2", {"web2"}),
    ("rs-rp-filter", "", {"web1"}),
    ("tun-mtu", "", {"web1", "web2"}),
    ("bad-checksums", "", {"www"}),
    ("vip-absent", "", {"web1"}),
]

IN_PAIR = [
    ("vrid-twice", "", {"lvs2"}),
    ("sync-daemon-role", "lvs2", {"lvs2"}),
    ("vrrp-differs", "lvs1", {"lvs1"}),
    ("vrrp-blocked", "", {"lvs1"}),
]

PAIR_FILE = """\
vlab: 1
name: pair
networks: {lan: {subnet: 10.20.0.0/24}}
groups:
  web:    {virt: container, image: web, networks: [lan], memory: 96 MiB}
  client: {virt: container, image: client, networks: [lan], memory: 96 MiB}
directors:
  lvs:
    count: 2
    networks: [lan]
    services: {www: {vip: 10.20.0.100, port: 80, mode: dr, real_servers: web}}
  other:
    networks: [lan]
    services: {more: {vip: 10.20.0.101, port: 80, mode: dr, real_servers: web}}
"""


def states(lab: str) -> set[str]:
    return {server["state"] for service in status(lab)["services"] for server in service["real_servers"]}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = tmp_path_factory.mktemp("mixed") / "mixed.yaml"
    file.write_text(FILE)
    with running(file, MIXED, "--no-verify"):
        for node in ("near1", "near2"):
            vlab("exec", f"{MIXED}/{node}", "--", "systemd-run", "--quiet", "perl", "-e", LISTENER)
        yield MIXED
    assert traces(MIXED) == []


@pytest.fixture(scope="module")
def tun() -> Iterator[str]:
    with running(TOPOLOGIES / "tun.yaml", TUN, "--no-verify"):
        yield TUN
    assert traces(TUN) == []


@pytest.fixture(scope="module")
def duo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = tmp_path_factory.mktemp("pair") / "pair.yaml"
    file.write_text(PAIR_FILE)
    with running(file, PAIR, "--no-verify"):
        yield PAIR
    assert traces(PAIR) == []


def test_every_rule_is_tried() -> None:
    known = {rule["id"] for rule in vlab("check", "--list", "-o", "json").json()}
    assert known == {rule for rule, _, _ in IN_MIXED + IN_TUN + IN_PAIR}


def named(lab: str) -> dict[str, set[str]]:
    """What ``check`` names: rule → places."""
    ran = vlab("check", lab, "-o", "json", check=False)
    found = ran.json()
    assert found["unread"] == {}
    assert ran.code == (1 if found["findings"] else 0), ran.err
    assert all(it["evidence"] and it["fix"] and it["why"] for it in found["findings"])
    return {
        rule: {it["subject"] for it in found["findings"] if it["rule"] == rule}
        for rule in {it["rule"] for it in found["findings"]}
    }


def injected_and_named(lab: str, rule: str, node: str, places: set[str]) -> None:
    vlab("fault", "inject", rule, lab, *(["--node", node] if node else []))
    try:
        assert named(lab) == {rule: places}
    finally:
        vlab("fault", "clear", lab)


@pytest.mark.parametrize(
    ("rule", "node", "places"), IN_MIXED, ids=[f"{rule}-{node or 'best'}" for rule, node, _ in IN_MIXED]
)
def test_a_fault_in_nat_or_dr_is_named_alone(mixed: str, rule: str, node: str, places: set[str]) -> None:
    if rule == "reload-ignored":
        # Of servers in the table. A check by UDP waits three seconds for a refusal, and begins anew at each reload, of which faults make many.
        eventually("every real server has passed its checks", lambda: states(mixed) == {"up"}, within=60)
    injected_and_named(mixed, rule, node, places)


def test_after_all_faults_the_lab_is_as_declared(mixed: str) -> None:
    assert named(mixed) == {}
    assert not (STATE / "labs" / mixed / "faults.json").exists()
    assert vlab("fault", "clear", mixed).err.strip() == f"{mixed}: nothing is broken on purpose"
    assert vlab("plan", mixed_file(mixed), "--as", mixed).out.strip() == f"{mixed}: nothing to do"


def mixed_file(lab: str) -> str:
    return str(STATE / "labs" / lab / "topology.yaml")


def test_up_mends_what_settings_own_and_clear_the_rest(mixed: str) -> None:
    vlab("fault", "inject", "nat-return-path", mixed)
    vlab("fault", "inject", "vip-wide-prefix", mixed)
    assert named(mixed) == {"nat-return-path": {"web1"}, "vip-wide-prefix": {"near1"}}
    vlab("up", mixed_file(mixed), "--as", mixed, "--no-verify")
    assert named(mixed) == {"vip-wide-prefix": {"near1"}}
    vlab("fault", "clear", mixed)
    assert named(mixed) == {}


def test_an_injection_that_was_killed_before_its_deed_is_cleared(mixed: str) -> None:
    """On record, not done: mending what is not broken does nothing."""
    vlab("fault", "inject", "vip-firewalled", mixed)
    record = STATE / "labs" / mixed / "faults.json"
    kept = record.read_text()
    vlab("fault", "clear", mixed)
    assert len(json.loads(kept)) == 1
    record.write_text(kept)
    vlab("fault", "clear", mixed)
    assert named(mixed) == {}


def test_what_cannot_be_broken_here_is_refused(mixed: str) -> None:
    ran = vlab("fault", "inject", "tun-mtu", mixed, check=False)
    assert ran.code == 2
    assert "it needs a service in mode tun" in ran.err


@pytest.mark.parametrize(("rule", "node", "places"), IN_TUN, ids=[rule for rule, _, _ in IN_TUN])
def test_a_fault_of_tunnels_is_named_alone(tun: str, rule: str, node: str, places: set[str]) -> None:
    injected_and_named(tun, rule, node, places)


def test_after_all_faults_the_tunnels_work(tun: str) -> None:
    assert named(tun) == {}
    verify(tun)


def active(lab: str) -> str:
    """The pair's active node, empty while there is none, several by commas."""
    return next(str(service["active"]) for service in status(lab)["services"] if service["name"] == "www")


def test_faults_of_pairs_are_named_and_nothing_else(duo: str) -> None:
    """All at once, since what could be a passing moment of a pair is looked at three times. The active node is the one that is made
    deaf: it hears nobody anyway, so the roles stay as they are."""
    eventually("one node is active", lambda: active(duo) in ("lvs1", "lvs2"), within=60)
    deaf = active(duo)
    places = {**{rule: (node, at) for rule, node, at in IN_PAIR}, "vrrp-blocked": (deaf, {deaf})}
    try:
        for rule, (node, _) in places.items():
            vlab("fault", "inject", rule, duo, *(["--node", node] if node else []))
        assert named(duo) == {rule: at for rule, (_, at) in places.items()}
    finally:
        vlab("fault", "clear", duo)


def test_after_all_faults_the_pair_works(duo: str) -> None:
    """And a healthy pair has no findings. ``clear`` starts keepalived anew on both nodes: they have to agree again."""
    eventually("the pair is agreed", lambda: named(duo) == {}, within=90)
    verify(duo)
