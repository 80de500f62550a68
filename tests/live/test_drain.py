"""A running lab changed under load: servers drained and back, weights, schedulers; nobody's request is lost and no guest restarts."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.harness import Ran, eventually, host, lives, real_servers, running, status, traces, verify, vlab

pytestmark = pytest.mark.live

LAB = "t-drain"
TOPOLOGY = """\
vlab: 1
name: drain

networks:
  front: {subnet: 10.20.0.0/24}
  back:  {subnet: 10.30.0.0/24}

groups:
  web:    {count: 3, virt: container, image: web, networks: [back], memory: 96 MiB}    # behind nat
  app:    {count: 3, virt: container, image: web, networks: [front], memory: 96 MiB}   # behind dr
  client: {virt: container, image: client, networks: [front], memory: 96 MiB}

directors:
  lvs:
    networks: [front, back]
    services:
      www: {vip: 10.20.0.100, port: 80, mode: nat, scheduler: wrr, real_servers: web, check: {http: /health}}
      api:
        vip: 10.20.0.101
        port: 80
        mode: dr
        scheduler: wrr   # by turns
        real_servers: app
        weights: {app2: 2}
        check: {http: /health}
"""
VIPS = {"www": "10.20.0.100", "api": "10.20.0.101"}

LOAD = """\
rm -f /tmp/stop-$1
for round in $(seq 120); do
  curl -s -m 4 -H 'Connection: close' -w '|%{http_code}|%{errormsg};' --rate 40/s "http://$1/?[1-20]" | tr -d '\\n'
  [ ! -e /tmp/stop-$1 ] || break
done
"""
"""New connections at 40 a second, at most 2400 of them: node, status and error of each."""

HOLD = """\
use IO::Socket::INET; use IO::Select;
my ($vip, $count) = @ARGV; my (%said, $lost); unlink '/tmp/close';
my @open = map { IO::Socket::INET->new(PeerAddr => $vip, PeerPort => 80, Timeout => 4) || die "no connection" } 1..$count;
for my $round (1..300) {
  for (0..$#open) {
    my $s = $open[$_]; print $s "GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"; my $got = '';
    IO::Select->new($s)->can_read(4) && sysread($s, $got, 4096);
    $got =~ /\\r\\n\\r\\n(\\w+)/ ? $said{"$_ $1"}++ : $lost++;
  }
  last if -e '/tmp/close'; select undef, undef, undef, 0.1;
}
print "$_ $said{$_}\\n" for sort keys %said; print "lost ", $lost // 0, "\\n";
"""
"""Connections that are held open, each asked ten times a second; which node answered on each, and how many answers were missing."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("drain") / "drain.yaml"
    made.write_text(TOPOLOGY)
    return made


@pytest.fixture(scope="module")
def lab(file: Path) -> Iterator[str]:
    with running(file, LAB, "--no-verify"):
        for service in VIPS:
            eventually("all real servers are up", lambda name=service: states(name) == {"up"}, 20)  # type: ignore[misc]  # mypy infers no default
        yield LAB
    assert traces(LAB) == []


def states(service: str) -> set[str]:
    return {str(server["state"]) for server in real_servers(LAB, service).values()}


def weights(service: str) -> dict[str, int]:
    return {node: int(server["weight"]) for node, server in real_servers(LAB, service).items()}


def inside(*argv: str) -> str:
    return vlab("exec", f"{LAB}/client1", "--", *argv).out


class Load:
    """Requests to both services while a block runs; ``answers`` count nodes, ``failures`` are whatever was not a 200."""

    def __init__(self) -> None:
        self.answers: dict[str, Counter[str]] = {}
        self.failures: list[str] = []

    def run(self, service: str) -> None:
        said = inside("sh", "-c", LOAD, "load", VIPS[service])
        results = [result.split("|", 2) for result in said.split(";")[:-1]]
        self.answers[service] = Counter(node for node, code, _ in results if code == "200")
        self.failures += [f"{service}: {code} {error}" for _, code, error in results if code != "200"]


@contextmanager
def load() -> Iterator[Load]:
    made = Load()
    threads = [threading.Thread(target=made.run, args=(service,)) for service in VIPS]
    for thread in threads:
        thread.start()
    time.sleep(1)  # the first requests are on their way
    try:
        yield made
    finally:
        inside("touch", *(f"/tmp/stop-{vip}" for vip in VIPS.values()))
        for thread in threads:
            thread.join(60)
    assert all(sum(counts.values()) >= 20 for counts in made.answers.values()), made.answers
    print(f"answered {made.answers}, failed {Counter(made.failures)}")


def test_drain_of_one_of_three_and_back_loses_nothing(lab: str) -> None:
    before = lives(lab)
    with load() as under:
        for node, service in (("web2", "www"), ("app2", "api")):
            shown = vlab("drain", f"{lab}/{node}", "-o", "json").json()
            assert [(rest["service"], rest["active"]) for rest in shown["services"]] == [(service, 0)]
    assert under.failures == []
    assert under.answers["www"].keys() == {"web1", "web2", "web3"}
    verify(lab)  # of 24 requests, by turns, none came to the drained
    with load() as again:
        vlab("undrain", f"{lab}/web2")
        vlab("undrain", f"{lab}/app2")
    assert again.failures == []
    assert weights("www") == {"web1": 1, "web2": 1, "web3": 1}
    assert weights("api") == {"app1": 1, "app2": 2, "app3": 1}
    assert lives(lab) == before


def test_open_connections_are_waited_for_and_live_on(lab: str) -> None:
    held: list[str] = []
    keeper = threading.Thread(target=lambda: held.append(inside("perl", "-e", HOLD, VIPS["www"], "3")))
    keeper.start()
    try:
        eventually("web2 has an open connection", lambda: real_servers(lab, "www")["web2"]["active"] > 0, 15)
        late = vlab("drain", f"{lab}/web2", "--timeout", "2", check=False)
        assert late.code == 4, late.err
        assert "web2 is drained, but not at rest after 2 s" in late.err
        assert re.search(r"www: 10\.20\.0\.\d+:\d+ \(ESTABLISHED, expires in \d+ s\)", late.err)
        assert real_servers(lab, "www")["web2"]["state"] == "drained"
        assert f"web2 is drained in www, its weight is 1 otherwise: vlab undrain {lab}/web2" in status(lab)["notes"]
    finally:
        inside("touch", "/tmp/close")
        keeper.join(60)
    assert "lost 0" in held[0], held
    assert len(re.findall(r"^\d web2 \d+$", held[0], re.M)) == 1, held
    assert "web2 is drained already" in vlab("drain", f"{lab}/web2").err
    vlab("undrain", f"{lab}/web2")


def changed(ran: Ran) -> list[str]:
    """The lines that a diff takes and gives."""
    return [line for line in ran.out.splitlines() if line[0] in "-+"][2:]


def test_weight_and_persistence_under_load(lab: str) -> None:
    with load() as under:
        ran = vlab("lvs", "set", f"{lab}/api", "--weight", "app2=5")
        vlab("lvs", "set", f"{lab}/www", "--weight", "web1=3", "--persistence", "60 s")
    assert under.failures == []
    assert changed(ran) == ["-        weights: {app2: 2}", "+        weights: {app2: 5}"]


def test_another_scheduler_under_load(lab: str, file: Path) -> None:
    """While the kernel waits for the readers of the old scheduler a service has none, and refuses (ip_vs_edit_service, ip_vs_ctl.c)."""
    with load() as under:
        ran = vlab("lvs", "set", f"{lab}/api", "--scheduler", "wlc")
        vlab("lvs", "set", f"{lab}/www", "--scheduler", "sed")
    assert len(under.failures) <= 4
    assert all("Couldn't connect" in failure for failure in under.failures), under.failures
    assert changed(ran) == ["-        scheduler: wrr   # by turns", "+        scheduler: wlc   # by turns"]
    verify(lab)
    planned = vlab("plan", str(file), "--as", lab, "-o", "json", check=False)
    assert [step["id"] for step in planned.json()] == ["settle/lvs1"]


def test_a_persistent_client_leaves_a_drained_server_at_once(lab: str) -> None:
    vlab("lvs", "set", f"{lab}/www", "--persistence", "60 s")
    ask = ("curl", "-s", "-m", "4", "-H", "Connection: close", f"http://{VIPS['www']}/")
    home = inside(*ask).split()[0]
    assert inside(*ask).split()[0] == home
    shown = vlab("drain", f"{lab}/{home}", "-o", "json").json()
    assert shown["services"][0]["templates"] == 1
    assert inside(*ask).split()[0] not in ("", home)
    vlab("undrain", f"{lab}/{home}")


def test_a_director_made_again_knows_who_rests_and_up_takes_it_back(lab: str, file: Path) -> None:
    vlab("drain", f"{lab}/app1")
    vlab("reset", f"{lab}/lvs1")
    eventually("app1 rests again", lambda: real_servers(lab, "api")["app1"]["state"] == "drained", 20)
    back = vlab("up", str(file), "--as", lab, "--no-verify")
    assert f"{lab}: app1 is drained no longer in api" in back.err
    assert weights("api") == {"app1": 1, "app2": 2, "app3": 1}
    assert vlab("plan", str(file), "--as", lab).code == 0


def test_what_cannot_be_is_refused_and_changes_nothing(lab: str, file: Path) -> None:
    wrong = vlab("lvs", "set", f"{lab}/www", "--mode", "dr", check=False)
    assert wrong.code == 2
    assert "--mode dr: service 'www', mode: dr real servers answer clients directly, " in wrong.err
    tried = vlab("lvs", "set", f"{lab}/www", "--weight", "web1=9", "--dry-run", "-o", "json").json()
    assert [step["id"] for step in tried["plan"]] == ["settle/lvs1"]
    assert "weights: {web1: 9}" in tried["diff"]
    vlab("lvs", "set", f"{lab}/api", "--weight", "app1=0", "--weight", "app2=0")
    last = vlab("drain", f"{lab}/app3", check=False)
    assert (last.code, "app3 is the last real server that serves api" in last.err) == (2, True)
    vlab("up", str(file), "--as", lab, "--no-verify")
    host("virsh", "-c", "lxc:///system", "destroy", f"vlab-{lab}.web3")
    more = vlab("lvs", "set", f"{lab}/www", "--weight", "web1=9", check=False)
    assert more.code == 1
    assert "more would happen than new settings of directors and real servers" in more.err
    assert "boot/web3: absent" in more.err
    assert weights("www")["web1"] == 1
