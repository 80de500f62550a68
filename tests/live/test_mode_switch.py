"""One running lab goes NAT, DR, TUN, NAT under constant load: fast, nobody restarted, requests lost counted, and inside each guest
everything as in a lab started fresh in that mode."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.harness import (
    PROGRAM,
    TOPOLOGIES,
    edited,
    eventually,
    lives,
    real_servers,
    running,
    traces,
    verify,
    vlab,
)

pytestmark = pytest.mark.live

LAB = "t-mode-switch"
FILE = TOPOLOGIES / "modes.yaml"
WAY = ("nat", "dr", "tun", "nat")
GUESTS = ("web1", "web2", "web3", "lvs1")

SWITCHES_WITHIN = 30.0
"""Seconds from the command to its end: catches a hang on a host that does other things, no more. On an idle one it is to be less
than 5, which nothing asserts: the output shows what was measured."""

MOST_LOST = 1
"""Of all requests of a switch. The order of its steps loses none; a host that does other things may still delay one too long."""

# At most 3000 requests and 90 s: begin, end, HTTP status (000: none) of each.
LOAD = """\
rm -f /tmp/stop; end=$((SECONDS + 90))
for ((n = 0; n < 3000 && SECONDS < end; n++)); do
  [ ! -e /tmp/stop ] || break
  began=$EPOCHREALTIME
  code=$(curl -s -o /dev/null -m 4 -w '%{http_code}' http://10.20.0.100/)
  echo "$began $EPOCHREALTIME $code"
  sleep 0.02
done
"""

# From one port always, as a busy client comes back to one; the server closes first, so it is free at once.
ASK = """
use IO::Socket::INET;
my $s = IO::Socket::INET->new(PeerAddr => "10.20.0.100:80", LocalPort => 20404, ReuseAddr => 1, Timeout => 5) or die "$@\\n";
print $s "GET / HTTP/1.0\\r\\n\\r\\n"; local $/; <$s> =~ /(\\w+)\\s*$/ and print $1
"""

# Everything a mode may touch. Without the numbers of interfaces, which count up; routes sorted, as the kernel lists its own
# IPv6 ones in the order in which devices came; real servers too, as they join when they are ready. A fresh guest's link-local address is
# tentative for a second, and has no route meanwhile.
INSIDE = """\
for i in $(seq 50); do ip -o address show tentative | grep -q . || break; sleep 0.2; done
ip -d -o link | sed 's/^[0-9]*: //'
ip -o address | sed 's/^[0-9]*: //'
ip route show table all | sort
ip rule
[ ! -e /sys/module/fou ] || ip fou show
grep -r . /proc/sys/net/ipv4/conf /proc/sys/net/ipv4/ip_forward /proc/sys/net/core/fb_tunnels_only_for_init_net | sort
[ ! -d /proc/sys/net/ipv4/vs ] || grep -r . /proc/sys/net/ipv4/vs | sort
cat /etc/vlab/settings.json /etc/vlab/apply.sh /run/vlab-settled /etc/hosts
find /etc/vlab /etc/keepalived -type f | sort
if command -v ipvsadm >/dev/null; then ipvsadm -Sn | sort; nft list ruleset; cat /etc/keepalived/keepalived.conf; fi
"""


@dataclass(frozen=True)
class Switch:
    """One ``up`` to another mode; times are the host's, in seconds."""

    what: str
    began: float
    ended: float


@dataclass(frozen=True)
class Request:
    """Times are the host's, in seconds."""

    began: float
    ended: float
    code: str


@contextmanager
def load(lab: str) -> Iterator[list[Request]]:
    """Requests one after another from the client for the length of a block; the list is full when it ends."""
    made: list[Request] = []
    command = [*PROGRAM, "exec", f"{lab}/client1", "--", "bash", "-c", LOAD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            time.sleep(1)
            yield made
        finally:
            vlab("exec", f"{lab}/client1", "--", "touch", "/tmp/stop", check=False)
            out, _ = process.communicate(timeout=30)
    rows = (line.split() for line in out.splitlines())
    made += [Request(float(began), float(ended), code) for began, ended, code in rows]


def in_mode(mode: str, folder: Path) -> Path:
    return edited(FILE, folder / f"{mode}.yaml", ("mode: nat, scheduler", f"mode: {mode}, scheduler"))


def inside(lab: str) -> dict[str, str]:
    """What each guest shows of itself, once all real servers are up."""
    eventually("all real servers up", lambda: all(s["state"] == "up" for s in real_servers(lab, "www").values()), 15)
    with ThreadPoolExecutor() as pool:
        shown = pool.map(lambda name: vlab("exec", f"{lab}/{name}", "--", "sh", "-c", INSIDE).out, GUESTS)
        return dict(zip(GUESTS, shown, strict=True))


def way() -> list[str]:
    """Who has the request and its answer, one after the other."""
    story = vlab("trace", f"{LAB}/www", "-o", "json").json()
    assert story["complete"], story["fault"]
    return [row["sender"].rstrip("0123456789") for row in story["rows"]]


def from_one_port() -> str:
    """Who answers a client that uses a port again, otherwise what is wrong."""
    asked = vlab("exec", f"{LAB}/client1", "--", "perl", "-e", ASK, check=False)
    return asked.out or asked.err


@dataclass(frozen=True)
class Seen:
    """What was seen of one lab on its way; it runs on in the last mode. ``shown`` is by place on the way, ``ways`` of one request by mode,
    ``again`` who answered from the same port, in order."""

    folder: Path
    shown: dict[int, dict[str, str]]
    ways: dict[str, list[str]]
    again: list[str]
    switches: list[Switch]
    requests: list[Request]
    lives: list[dict[str, str]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    it = Seen(tmp_path_factory.mktemp("modes"), {}, {}, [], [], [], [])
    with running(in_mode(WAY[0], it.folder), LAB, "--no-verify"):
        it.shown[0] = inside(LAB)
        it.lives.append(lives(LAB))
        it.again.append(from_one_port())
        with load(LAB) as requests:
            for number, mode in enumerate(WAY[1:], 1):
                began = time.time()
                vlab("up", str(in_mode(mode, it.folder)), "--as", LAB, "--no-verify")
                it.switches.append(Switch(f"{WAY[number - 1]} to {mode}", began, time.time()))
                time.sleep(1)
                it.shown[number] = inside(LAB)
                it.ways[mode] = way()
                it.again.append(from_one_port())
        it.requests.extend(requests)
        it.lives.append(lives(LAB))
        yield it
    assert traces(LAB) == []


def test_each_switch_is_quick_and_loses_nothing(seen: Seen) -> None:
    """Requests from a switch's beginning to two seconds after its end; what was measured is printed (pytest -s)."""
    assert len(seen.switches) == 3
    for it in seen.switches:
        mine = [request for request in seen.requests if request.ended > it.began and request.began < it.ended + 2]
        lost = [request for request in mine if request.code != "200"]
        slowest = max(request.ended - request.began for request in mine)
        print(
            f"{it.what}: {it.ended - it.began:.1f} s, {len(mine)} requests, {len(lost)} lost, the slowest {slowest:.2f} s"
        )
        assert len(mine) >= 10
        assert len(lost) <= MOST_LOST, lost
        assert it.ended - it.began < SWITCHES_WITHIN


def test_answers_pass_the_director_in_nat_and_the_labs_gateway_otherwise(seen: Seen) -> None:
    assert seen.ways["nat"] == ["client", "lvs", "web", "lvs"]
    assert seen.ways["dr"] == seen.ways["tun"] == ["client", "lvs", "web", "gateway"]


def test_a_port_that_was_used_before_is_forwarded_in_the_new_mode(seen: Seen) -> None:
    """ip_vs knows a connection for two minutes after its end, and how it was forwarded: nobody listens there any more."""
    assert len(seen.again) == len(WAY) and set(seen.again) <= {"web1", "web2", "web3"}, seen.again


def test_nobody_was_restarted_and_the_last_mode_holds(seen: Seen) -> None:
    assert seen.lives[0] == seen.lives[1]
    verify(LAB)


def test_back_in_nat_everything_is_as_it_was(seen: Seen) -> None:
    assert seen.shown[3] == seen.shown[0]
    assert seen.shown[1] != seen.shown[0]


@pytest.mark.parametrize(
    ("tunnel", "shown"),
    [("gre", "gre:-c"), ("gue", "gue:6080:-c"), ("{type: gue, port: 7000, checksum: remote}", "gue:7000:r+c")],
)
def test_other_tunnels_carry_requests(tunnel: str, shown: str, seen: Seen) -> None:
    file = edited(
        FILE, seen.folder / "tunnel.yaml", ("mode: nat, scheduler", f"mode: tun, tunnel: {tunnel}, scheduler")
    )
    vlab("up", str(file), "--as", LAB, "--no-verify")
    verify(LAB)
    table = vlab("exec", f"{LAB}/lvs1", "--", "ipvsadm", "-Ln", "--tun-info").out
    assert table.count(shown) == 3


def test_snat_serves_clients_beside_the_real_servers_and_leaves_nothing(
    seen: Seen,
) -> None:
    """web3 asks web1 and web2, which are on its own network; client1 asks all three from another."""
    inner = "      inner: {vip: 10.30.0.100, port: 8080, real_port: 80, mode: nat, snat: true, scheduler: rr, real_servers: [web1, web2]}\n"
    file = edited(FILE, seen.folder / "snat.yaml", ("mode: nat, scheduler", "mode: nat, snat: true, scheduler"))
    file.write_text(file.read_text() + inner)
    vlab("up", str(file), "--as", LAB, "--no-verify")
    verify(LAB)
    assert "default" not in vlab("exec", f"{LAB}/web1", "--", "ip", "route").out
    vlab("up", str(in_mode("nat", seen.folder)), "--as", LAB, "--no-verify")
    assert inside(LAB) == seen.shown[0]


@pytest.mark.parametrize("number", [1, 2], ids=lambda number: WAY[number])
def test_after_a_switch_guests_are_as_started_fresh(number: int, seen: Seen) -> None:
    vlab("down", LAB)
    vlab("up", str(in_mode(WAY[number], seen.folder)), "--as", LAB, "--no-verify")
    fresh = inside(LAB)
    for name in GUESTS:
        assert seen.shown[number][name].splitlines() == fresh[name].splitlines(), name
