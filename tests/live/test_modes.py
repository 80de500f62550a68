"""A running lab edited: another weight is one reload of the director, another mode touches settings only, and no guest restarts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import (
    TOPOLOGIES,
    edited,
    eventually,
    lives,
    real_servers,
    running,
    status,
    traces,
    verify,
    vlab,
)

pytestmark = pytest.mark.live

LAB = "t-modes"
FILE = TOPOLOGIES / "tun.yaml"


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    with running(FILE, LAB, "--no-verify"):
        yield LAB
    assert traces(LAB) == []


def inside(lab: str, node: str) -> str:
    """What a mode sets in a guest, as the guest itself shows it."""
    look = "ip -br address; ip route; ip -br link show type ipip; grep -r . /proc/sys/net/ipv4/conf/*/arp_ignore"
    return vlab("exec", f"{lab}/{node}", "--", "sh", "-c", look).out


def planned(file: Path, lab: str) -> list[str]:
    return [step["id"] for step in vlab("plan", str(file), "--as", lab, "-o", "json", check=False).json()]


def test_another_weight_settles_the_director_alone(lab: str, tmp_path: Path) -> None:
    heavier = edited(FILE, tmp_path / "weight.yaml", ("real_servers: web", "real_servers: web, weights: {web1: 5}"))
    assert planned(heavier, lab) == ["settle/lvs1"]
    vlab("up", str(heavier), "--as", lab, "--no-verify")
    assert {name: s["weight"] for name, s in real_servers(lab, "www").items()} == {"web1": 5, "web2": 1}
    verify(lab)


def test_a_sorry_server_answers_through_its_tunnel(lab: str, tmp_path: Path) -> None:
    """The only real server is dead while the director has a file: the check then finds nothing older."""
    dead = "/run/t-modes-dead"
    check = f'check: {{misc: "/usr/bin/test /etc/hostname -nt {dead}", every: 1 s}}'
    alone = edited(
        FILE, tmp_path / "sorry.yaml",
        ("real_servers: web", "real_servers: [web1], sorry_server: web2"), ("check: {http: /health}", check),
    )  # fmt: skip
    vlab("up", str(alone), "--as", lab, "--no-verify")

    def answers() -> str:
        return vlab("exec", f"{lab}/client1", "--", "curl", "-s", "-m", "5", "http://10.20.0.100/", check=False).out

    eventually("the real server answers", lambda: "web1" in answers(), 60)
    vlab("exec", f"{lab}/lvs1", "--", "touch", dead)
    eventually("the sorry server answers", lambda: "web2" in answers(), 60)
    vlab("exec", f"{lab}/lvs1", "--", "rm", dead)
    eventually("the real server answers again", lambda: "web1" in answers(), 60)


def test_a_mode_switch_there_and_back_restarts_nobody(lab: str, tmp_path: Path) -> None:
    vlab("up", str(FILE), "--as", lab, "--no-verify")
    before, tunnel = lives(lab), inside(lab, "web1")
    assert "vlab-ipip" in tunnel
    direct = edited(FILE, tmp_path / "dr.yaml", ("mode: tun", "mode: dr"))
    steps = ["prepare/web1", "prepare/web2", "settle/lvs1", "settle/web1", "settle/web2"]
    assert sorted(planned(direct, lab)) == steps
    vlab("up", str(direct), "--as", lab, "--no-verify")
    assert status(lab)["services"][0]["mode"] == "dr"
    assert "vlab-ipip" not in inside(lab, "web1")
    verify(lab)
    vlab("up", str(FILE), "--as", lab, "--no-verify")
    assert inside(lab, "web1") == tunnel
    verify(lab)
    assert lives(lab) == before
