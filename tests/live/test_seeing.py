"""``lvs show``, ``capture`` and ``trace`` on real labs: seed 001's rig for NAT, and one small lab each for DR and TUN."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import PROGRAM, TOPOLOGIES, Ran, eventually, real_servers, running, start, status, traces, vlab
from tests.live.terminal import Terminal, in_order
from tests.wire import Capture, read
from vlab.wire.frames import Frame, decode

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

SEED = TOPOLOGIES / "seed-001.yaml"
LAB = "t-seen"
COMMANDS = """\
ipvsadm -A -t 10.196.1.74:80 -s wlc
ipvsadm -a -t 10.196.1.74:80 -r 10.1.1.2:80 -m -w 1
ipvsadm -a -t 10.196.1.74:80 -r 10.1.1.3:80 -m -w 2
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    with running(SEED, LAB, "--no-verify"):
        serving(LAB)
        yield LAB
    assert traces(LAB) == []


def serving(lab: str) -> None:
    eventually("all real servers are up", lambda: {s["state"] for s in real_servers(lab, "www").values()} == {"up"}, 40)


def ask(lab: str, times: int) -> None:
    vip = status(lab)["services"][0]["vip"]
    asked = vlab("exec", f"{lab}/client1", "--", "curl", "-s", "--http1.0", f"http://{vip}/?[1-{times}]")
    assert asked.out.count("web") == times


# lvs show


def entry(lab: str) -> Any:
    found = vlab("lvs", "show", lab, "-o", "json").json()
    assert (found["lab"], found["silent"]) == (lab, [])
    (www,) = found["services"]
    return www


def test_the_commands_of_seed_001_declared_and_live(lab: str) -> None:
    assert vlab("lvs", "show", str(SEED), "--ipvsadm").out == COMMANDS
    declared, live = vlab("lvs", "show", lab, "--ipvsadm"), vlab("lvs", "show", lab, "--ipvsadm", "--live")
    assert declared.out == live.out == COMMANDS
    assert (declared.err, live.err) == (
        f"lvs1 of lab {lab}, as declared:\n",
        f"lvs1 of lab {lab}, read from the running director:\n",
    )


def test_keepaliveds_file_declared_and_live(lab: str) -> None:
    declared = vlab("lvs", "show", lab, "www", "--keepalived").out
    assert "virtual_server 10.196.1.74 80 {" in declared
    assert vlab("lvs", "show", lab, "--keepalived", "--live").out == declared


def test_counters_and_connections_move_with_requests(lab: str) -> None:
    before = entry(lab)
    assert [(s["node"], s["weight"], s["state"]) for s in before["real_servers"]] == [
        ("web1", 1, "up"),
        ("web2", 2, "up"),
    ]
    ask(lab, 6)
    eventually("ip_vs counted them", lambda: conns(entry(lab)) == conns(before) + 6, 10)
    after = entry(lab)
    assert sum(s["totals"]["connections"] for s in after["real_servers"]) == conns(after)
    assert after["totals"]["in_bytes"] > before["totals"]["in_bytes"]
    assert sum(s["inactive"] + s["active"] for s in after["real_servers"]) >= 6
    table = vlab("lvs", "show", lab, "www", "--connections", "-o", "json").json()["connections"]
    ours = [c for c in table if c["source"].startswith("10.196.1.73:") and c["virtual"] == "10.196.1.74:80"]
    assert len(ours) >= 6
    assert {c["destination"] for c in ours} == {"10.1.1.2:80", "10.1.1.3:80"}


def conns(service: Any) -> int:
    count: int = service["totals"]["connections"]
    return count


def test_watch_in_a_pipe_is_one_block_a_look(lab: str) -> None:
    ran = vlab("lvs", "show", lab, "--watch", "--every", "0.2", "--count", "2")
    assert ran.out.count("www on lvs1") == ran.out.count("SERVICE") == 2
    lines = vlab("lvs", "show", lab, "--every", "0.2", "--count", "2", "-o", "json").out.splitlines()
    assert len(lines) == 2
    assert all('"www"' in line for line in lines)


def test_watch_on_a_terminal_ends_by_ctrl_c(lab: str) -> None:
    terminal = Terminal("lvs", "show", lab, "--watch", "--every", "0.5")
    terminal.until("10.1.1.3:80")
    terminal.until("10.1.1.3:80")
    terminal.type("\x03")
    assert terminal.ended() == 130
    in_order(terminal)


def refused(ran: Ran, said: str) -> None:
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err, ran.err


def test_what_is_refused(lab: str, tmp_path: Path) -> None:
    refused(vlab("lvs", "show", lab, "wwww", check=False), "did you mean 'www'?")
    refused(vlab("lvs", "show", lab, "--live", check=False), "--live goes with --ipvsadm or --keepalived")
    refused(vlab("lvs", "show", lab, "--ipvsadm", "--watch", check=False), "--watch is for what changes by itself")
    refused(vlab("lvs", "show", lab, "--ipvsadm", "--connections", check=False), "choose one")
    file = str(tmp_path / "a.pcapng")
    refused(vlab("capture", lab, check=False), "vlab capture -w lab.pcapng")
    refused(vlab("capture", lab, "-w", file, "--node", "wbe1", check=False), "did you mean 'web1'?")
    refused(vlab("capture", lab, "-w", file, "--network", "bakc", check=False), "did you mean 'back'?")
    refused(vlab("capture", lab, "-w", file, "--size", "64", check=False), "--size: '64' has no unit")
    refused(vlab("capture", lab, "-w", file, "--filter", "prot 80", check=False), "'prot' is no word of it")
    refused(vlab("capture", lab, "-w", str(tmp_path / "no" / "a"), check=False), "No such file or directory")
    refused(vlab("trace", f"{lab}/ww", check=False), "did you mean 'www'?")
    assert list(tmp_path.iterdir()) == []


# capture


def captured(lab: str, file: Path, *options: str) -> Capture:
    """What is in ``file`` after three requests while a capture ran and was ended by Ctrl-C."""
    child = start("capture", lab, "-w", str(file), *options, log=file.with_suffix(".log"))
    try:
        eventually("it captures", lambda: "capturing on" in file.with_suffix(".log").read_text(), 30)
        ask(lab, 3)
    finally:
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(30) == 130
    return read(file.read_bytes())


def seen(found: Capture, interface: str) -> list[tuple[int, Frame]]:
    """(direction, frame) of the SYNs on an interface."""
    frames = [(p.direction, decode(p.data)) for p in found.packets if p.interface == interface]
    return [(d, f) for d, f in frames if f and f.transport and f.transport.flags == {"SYN"} and asked(f)]


def asked(frame: Frame) -> bool:
    return frame.inner is not None and frame.inner.source == IPv4Address("10.196.1.73")


def test_one_file_has_both_sides_of_the_director(lab: str, tmp_path: Path) -> None:
    file = tmp_path / "a.pcapng"
    found = captured(lab, file, "--node", "client1,lvs1,web1,web2", "--network", "front,back")
    names = ["client1.front", "lvs1.front", "lvs1.back", "web1.back", "web2.back", "bridge front", "bridge back"]
    assert found.interfaces == names
    for interface, direction, destination in (
        ("client1.front", 2, "10.196.1.74"),
        ("lvs1.front", 1, "10.196.1.74"),
        ("bridge front", 0, "10.196.1.74"),
        ("lvs1.back", 2, "10.1.1."),
        ("bridge back", 0, "10.1.1."),
    ):
        syns = seen(found, interface)
        assert [d for d, _ in syns] == [direction] * 3, interface
        assert all(str(f.inner.destination).startswith(destination) for _, f in syns if f.inner)
    assert len(seen(found, "web1.back") + seen(found, "web2.back")) == 3
    times = [packet.time for packet in found.packets]
    assert times == sorted(times)
    assert {dropped for _, dropped in found.statistics.values()} == {0}
    vlab("put", f"{lab}/lvs1", str(file), "/tmp/a.pcapng")
    counted = vlab("exec", f"{lab}/lvs1", "--", "sh", "-c", "tcpdump -nr /tmp/a.pcapng | wc -l")
    assert int(counted.out) == len(found.packets)


def test_a_service_and_a_filter_keep_what_belongs_to_them(lab: str, tmp_path: Path) -> None:
    found = captured(lab, tmp_path / "a.pcapng", "--service", "www", "--filter", "dst host 10.196.1.74 and tcp")
    assert {packet.interface for packet in found.packets} == {"client1.front", "lvs1.front"}
    assert len(seen(found, "lvs1.front")) == 3


def test_a_capture_ends_at_its_limits_and_goes_into_a_pipe(lab: str) -> None:
    ran = subprocess.run(
        ["sh", "-c", f'exec "$@" -w - --count 5 --seconds 60 {lab}', "sh", *PROGRAM, "capture"],
        capture_output=True, check=True, timeout=90,
    )  # fmt: skip
    found = read(ran.stdout)
    assert (len(found.packets), found.left_over) == (5, 0)
    shown = vlab("capture", lab, "-w", "/dev/null", "--seconds", "0.5", "--node", "web1", "-o", "json").json()
    assert [i["interface"] for i in shown["interfaces"]] == ["web1.back"]


def test_a_reader_that_goes_is_no_noise(lab: str) -> None:
    words = [*PROGRAM, "capture", lab, "-w", "-", "--seconds", "30"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == f"{lab}: capturing on 5 interfaces\n"
    assert child.returncode == 1


def test_a_killed_capture_leaves_a_file_that_can_be_read(lab: str, tmp_path: Path) -> None:
    file = tmp_path / "a.pcapng"
    child = start("capture", lab, "-w", str(file), log=tmp_path / "log")
    try:
        # The director's health checks are packets enough.
        eventually("it has written packets", lambda: file.exists() and len(read(file.read_bytes()).packets) > 3, 30)
    finally:
        child.kill()
        child.wait(10)
    found = read(file.read_bytes())
    assert len(found.packets) > 3
    assert found.left_over == 0


# trace


def story(lab: str, *options: str, code: int = 0) -> Any:
    ran = vlab("trace", f"{lab}/www", *options, "-o", "json", check=False)
    assert ran.code == code, ran.err + ran.out
    return ran.json()


def ends(row: Any) -> tuple[str, str, str]:
    return row["packet"], row["source"]["address"], row["destination"]["address"]


def test_nat_is_table_2_of_seed_001(lab: str) -> None:
    told = story(lab)
    assert (told["complete"], told["mode"], told["client"]) == (True, "nat", "client1")
    rows = told["rows"]
    server = {"10.1.1.2": "web1", "10.1.1.3": "web2"}[rows[1]["destination"]["address"]]
    address = rows[1]["destination"]["address"]
    assert [ends(row) for row in rows] == [
        ("request", "10.196.1.73", "10.196.1.74"),
        ("rewritten", "10.196.1.73", address),
        ("reply", address, "10.196.1.73"),
        ("rewritten", "10.196.1.74", "10.196.1.73"),
    ]
    client = rows[0]["source"]["port"]
    assert [(r["source"]["port"], r["destination"]["port"]) for r in rows] == [(client, 80)] * 2 + [(80, client)] * 2
    ways = [("client1", "lvs1"), ("lvs1", server), (server, "lvs1"), ("lvs1", "client1")]
    assert [(row["sender"], row["receiver"]) for row in rows] == ways
    assert all(row["arrived"] for row in rows)
    assert [[c["what"] for c in row["changes"]][:1] for row in rows] == [[], ["destination"], [], ["source"]]


def test_trace_as_table_and_as_mermaid(lab: str) -> None:
    table = vlab("trace", f"{lab}/www").out
    assert "client1 → lvs1 on front" in table
    assert "www (nat): the answer arrived at client1" in table
    diagram = vlab("trace", f"{lab}/www", "-o", "mermaid").out.splitlines()
    assert diagram[:3] == ["sequenceDiagram", "    participant client1", "    participant lvs1"]
    assert sum("->>" in line for line in diagram) == 4


def test_a_client_beside_the_real_servers_gets_an_answer_it_never_asked_for(lab: str) -> None:
    """wlc takes web2 or web1; one that asks itself is no neighbour, so it is asked until another answers."""
    for _ in range(4):
        told = vlab("trace", f"{lab}/www", "--client", "web1", "-o", "json", check=False)
        if told.code == 1 and told.json()["rows"][-1]["sender"] == "web2":
            break
    assert told.code == 1
    assert told.json()["fault"].startswith("the answer came to web1 from 10.1.1.3:80, which it never asked")


def test_direct_routing_readdresses_the_frame_and_the_reply_goes_straight() -> None:
    with running(TOPOLOGIES / "dr.yaml", "t-seen-dr", "--no-verify"):
        serving("t-seen-dr")
        told = story("t-seen-dr")
    asked, forwarded, reply = told["rows"]
    assert [asked["packet"], forwarded["packet"], reply["packet"]] == ["request", "forwarded", "reply"]
    assert {c["what"] for c in forwarded["changes"]} == {"source MAC", "destination MAC", "TTL"}
    assert asked["destination"] == forwarded["destination"] == reply["source"]
    assert asked["source"] == forwarded["source"] == reply["destination"]
    assert (forwarded["sender"], forwarded["receiver"][:3]) == ("lvs1", "web")
    assert (reply["sender"], reply["receiver"]) == (forwarded["receiver"], "client1")
    assert told["complete"]


def test_a_tunnel_wraps_the_packet_and_the_reply_goes_straight() -> None:
    with running(TOPOLOGIES / "tun.yaml", "t-seen-tun", "--no-verify"):
        serving("t-seen-tun")
        told = story("t-seen-tun")
        addresses = {node["name"]: node["addresses"] for node in status("t-seen-tun")["nodes"]}
    asked, wrapped, reply = told["rows"]
    server = wrapped["receiver"]
    outer = {"tunnel": "ipip", "source": addresses["lvs1"]["back"], "destination": addresses[server]["back"]}
    assert [asked["packet"], wrapped["packet"], reply["packet"]] == ["request", "wrapped", "reply"]
    assert (asked["outer"], wrapped["outer"], reply["outer"]) == ([], [outer], [])
    assert (wrapped["network"], wrapped["destination"]) == ("back", asked["destination"])
    assert [(c["by"], c["what"], c["after"]) for c in told["unwrapped"]] == [(server, "outer header", "")]
    assert (reply["sender"], reply["receiver"], reply["network"]) == (server, "client1", "front")
    assert told["complete"]
