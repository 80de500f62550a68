"""A pair of directors: what floats is on exactly one, accidents are seen and mended, and a failover costs what it may, with and without
sync. Real servers are containers: two behind the floating inner addresses by nat, in IPv4 and in IPv6, two by dr."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import Ran, edited, eventually, lives, running, status, traces, verify, vlab

pytestmark = pytest.mark.live

LAB = "t-failover"
PAIR = """\
vlab: 1
name: failover
networks:
  front: {subnet: 10.20.0.0/24, subnet6: fd00:20::/64}
  back:  {subnet: 10.30.0.0/24, subnet6: fd00:30::/64}
groups:
  web:    {count: 2, virt: container, image: web, networks: [back], memory: 96 MiB}
  near:   {count: 2, virt: container, image: web, networks: [front], memory: 96 MiB}
  client: {virt: container, image: client, networks: [front], memory: 96 MiB}
directors:
  lvs:
    count: 2
    sync: true
    networks: [front, back]
    inner_vip: {back: 10.30.0.9}
    services:
      www:    {vip: 10.20.0.100, port: 80, mode: nat, scheduler: rr, real_servers: web, check: {http: /health}}
      www6:   {vip: fd00:20::100, port: 80, mode: nat, scheduler: rr, real_servers: web, check: {http: /health}}
      direct: {vip: 10.20.0.101, port: 80, mode: dr, scheduler: rr, real_servers: near, check: {http: /health}}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("failover") / "failover.yaml"
    path.write_text(PAIR)
    return path


@pytest.fixture(scope="module", autouse=True)
def lab(file: Path) -> Iterator[str]:
    with running(file, LAB, "--no-verify"):
        yield LAB
    assert traces(LAB) == []


def active() -> str:
    """The one node that has the VIPs of all services."""
    found = {service["active"] for service in status(LAB)["services"]}
    return found.pop() if len(found) == 1 else ""


def failover() -> tuple[Ran, list[dict[str, Any]]]:
    ran = vlab("verify", LAB, "--failover", "-o", "json", check=False)
    return ran, ran.json()["failover"] if ran.out else []


def test_a_pair_is_one_director_and_a_second_up_changes_nothing(file: Path) -> None:
    verify(LAB)
    first = active()
    assert first in ("lvs1", "lvs2")
    assert "nothing to do" in vlab("up", str(file), "--as", LAB).err
    assert first in vlab("ls").out
    route = vlab("exec", f"{LAB}/web1", "--", "ip", "route", "show", "default").out
    assert route.split()[:3] == ["default", "via", "10.30.0.9"]
    route = vlab("exec", f"{LAB}/web1", "--", "ip", "-6", "route", "show", "default").out
    assert route.split()[:3] == ["default", "via", "fd00:30::9"]


def test_a_director_that_cannot_be_read_does_not_hide_the_other() -> None:
    vlab("exec", f"{LAB}/lvs2", "--", "mv", "/usr/sbin/ipvsadm", "/usr/sbin/ipvsadm.away")
    try:
        shown = vlab("lvs", "show", LAB, "-o", "json", check=False)
    finally:
        vlab("exec", f"{LAB}/lvs2", "--", "mv", "/usr/sbin/ipvsadm.away", "/usr/sbin/ipvsadm")
    assert shown.code == 1 and "lvs2 is not shown" in shown.err and "(hint: vlab " in shown.err
    found = shown.json()
    assert {service["director"] for service in found["services"]} == {"lvs1"}
    assert [silent["director"] for silent in found["silent"]] == ["lvs2"]


def test_connections_survive_with_sync() -> None:
    before = active()
    ran, measured = failover()
    assert ran.code == 0, ran.out + ran.err
    assert {one["service"] for one in measured} == {"www", "www6", "direct"}
    for one in measured:
        assert (one["killed"], one["sync"]) == (before, True)
        assert one["took_over"] == one["active_after"] != before
        assert 1000 < one["failover"]["outage_ms"] < 4000 and one["failover"]["lost"] > 0
        assert one["failover"]["survived"] == one["failover"]["connections"] == 4
        assert one["back"]["survived"] == 4
    assert status(LAB)["state"] == "running"


def test_connections_die_without_sync(file: Path, tmp_path: Path) -> None:
    alone = edited(file, tmp_path / "alone.yaml", ("sync: true", "sync: false"))
    before = lives(LAB)
    vlab("up", str(alone), "--as", LAB, "--no-verify")
    assert lives(LAB) == before, "a change of sync restarts no guest"
    ran, measured = failover()
    assert ran.code == 0, ran.out + ran.err
    assert len(measured) == 3
    for one in measured:
        assert 1000 < one["failover"]["outage_ms"] < 4000
        assert (one["failover"]["connections"], one["failover"]["survived"]) == (4, 0)


def test_a_cut_cable_is_seen_by_plan_and_up_connects_it(file: Path) -> None:
    vlab("up", str(file), "--as", LAB, "--no-verify")
    eventually("one director is active", lambda: active() != "", 15)
    first = active()
    assert "back is down" in vlab("fault", "link", f"{LAB}/{first}", "back", "down").out
    assert "already" in vlab("fault", "link", f"{LAB}/{first}", "back", "down").out
    other = {"lvs1": "lvs2", "lvs2": "lvs1"}[first]
    plan = vlab("plan", str(file), "--as", LAB, "-o", "json", check=False)
    assert [step["id"] for step in plan.json()] == [f"attach/{first}"]
    vlab("up", str(file), "--as", LAB, "--no-verify")
    eventually("exactly one is active", lambda: active() in (first, other), 20)
    assert "nothing to do" in vlab("plan", str(file), "--as", LAB).out


def test_faults_refuse_what_is_not_there() -> None:
    for words, meant in (
        (("kill", f"{LAB}/lvs3"), "lvs"), (("link", f"{LAB}/lvs1", "bakc", "down"), "back"),
        (("stop", f"{LAB}/web1", "nginy"), "nginx"), (("link", f"{LAB}/lvs1", "back", "away"), "down"),
    ):  # fmt: skip
        refused = vlab("fault", *words, check=False)
        assert refused.code == 2 and meant in refused.err.partition("hint:")[2]


def test_a_killed_node_is_absent_and_killed_once() -> None:
    first = active()
    assert "is off" in vlab("fault", "kill", f"{LAB}/{first}").out
    assert "does not run already" in vlab("fault", "kill", f"{LAB}/{first}").out
    seen = status(LAB)
    assert seen["state"] == "degraded"
    assert {node["name"]: node["state"] for node in seen["nodes"]}[first] == "absent"
    eventually("the other is active", lambda: active() not in ("", first), 15)
