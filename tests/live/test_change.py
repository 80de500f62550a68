"""Edits and accidents of a running lab: only what must change changes, and what dies is seen, routed round and made again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import (
    TOPOLOGIES,
    edited,
    eventually,
    host,
    lives,
    real_servers,
    running,
    status,
    traces,
    verify,
    vlab,
)

pytestmark = pytest.mark.live

LAB = "t-change"
FILE = TOPOLOGIES / "quickstart.yaml"


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    with running(FILE, LAB, "--no-verify"):
        yield LAB
    assert traces(LAB) == []


def ask(count: int) -> list[str]:
    vip = status(LAB)["services"][0]["vip"]
    loop = f"for i in $(seq {count}); do curl -s -m 5 --no-keepalive http://{vip}/ | head -n1 || echo FAILED; done"
    return vlab("exec", f"{LAB}/client1", "--", "sh", "-c", loop).out.split()


def test_a_stopped_web_server_leaves_the_table_and_comes_back(lab: str) -> None:
    service = status(lab)["services"][0]["name"]
    vlab("exec", f"{lab}/web1", "--", "systemctl", "stop", "nginx")
    eventually("web1 is down in status", lambda: real_servers(lab, service)["web1"]["state"] == "down", 10)
    answers = ask(12)
    assert len(answers) == 12
    assert "web1" not in answers
    assert "FAILED" not in answers
    vlab("exec", f"{lab}/web1", "--", "systemctl", "start", "nginx")
    eventually("web1 is up in status", lambda: real_servers(lab, service)["web1"]["state"] == "up", 10)
    verify(lab)


def test_a_destroyed_guest_is_seen_and_made_again(lab: str) -> None:
    host("virsh", "-c", "lxc:///system", "destroy", f"vlab-{lab}.web2")
    seen = vlab("status", lab, "-o", "json", check=False)
    assert seen.code == 1
    assert {n["name"]: n["state"] for n in seen.json()["nodes"]}["web2"] == "absent"
    assert seen.json()["state"] == "degraded"
    before = lives(LAB, without="web2")
    plan = vlab("plan", str(FILE), "--as", lab, "-o", "json", check=False)
    assert plan.code == 3
    assert [step["id"] for step in plan.json()] == ["make-clone/web2", "boot/web2", "settle/web2"]
    vlab("up", str(FILE), "--as", lab, "--no-verify")
    assert lives(LAB, without="web2") == before
    verify(lab)


def test_one_more_web_guest_is_one_clone(lab: str, tmp_path: Path) -> None:
    count = sum(node["group"] == "web" for node in status(lab)["nodes"])
    grown = edited(FILE, tmp_path / "grown.yaml", (f"count: {count}", f"count: {count + 1}"))
    plan = vlab("plan", str(grown), "--as", lab, "-o", "json", check=False).json()
    fresh = f"web{count + 1}"
    assert [s["id"] for s in plan if s["action"] != "settle"] == [f"make-clone/{fresh}", f"boot/{fresh}"]
    vlab("up", str(grown), "--as", lab, "--no-verify")
    verify(lab)
    vlab("up", str(FILE), "--as", lab, "--no-verify")
    assert fresh not in {node["name"] for node in status(lab)["nodes"]}
    verify(lab)
