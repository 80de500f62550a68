"""Labs as they were: save, restore, reset; and many copies of one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import STATE, TOPOLOGIES, killed, lives, running, status, traces, verify, vlab

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

LAB = "t-save"
FILE = """\
vlab: 1
name: save
networks: {lan: {subnet: 10.20.0.0/24}}
groups:
  web: {count: 2, virt: para, image: web, networks: [lan], memory: 192 MiB}
  db: {virt: container, image: db, networks: [lan]}
  client: {virt: container, image: client, networks: [lan], memory: 96 MiB}
directors:
  lvs:
    networks: [lan]
    services:
      www: {vip: 10.20.0.100, port: 80, mode: dr, scheduler: rr, real_servers: web}
      sql: {vip: 10.20.0.101, port: 3306, mode: dr, scheduler: rr, real_servers: db, check: tcp}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("save") / "save.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def lab(file: Path) -> Iterator[str]:
    with running(file, LAB):
        yield LAB
    assert traces(LAB) == []


def inside(node: str, script: str) -> str:
    return vlab("exec", f"{LAB}/{node}", "--", "sh", "-c", script).out.strip()


def checkpoints(lab: str) -> list[str]:
    return [each["name"] for each in vlab("checkpoints", lab, "-o", "json", check=False).json()]


def test_a_restored_lab_has_its_memory_and_its_files_and_not_what_came_later(lab: str) -> None:
    inside("web1", "sleep 9999 </dev/null >/dev/null 2>&1 & echo before >/root/note; echo before >/run/note")
    inside("db1", "echo before >/root/note; rm /usr/share/doc -rf; mkdir /usr/share/doc; touch /usr/share/doc/mine")
    sql = (
        "mariadb -N -e 'create database if not exists kept; create table kept.t (n int); insert into kept.t values (7)'"
    )
    inside("db1", sql)
    vlab("save", lab, "first")
    assert checkpoints(lab) == ["first"]
    inside("web1", "pkill sleep; echo after >/root/note; echo after >/run/note; touch /root/later")
    inside("db1", "echo after >/root/note; mariadb -e 'drop database kept'")
    vlab("restore", lab, "first")
    assert (
        inside("web1", "cat /root/note /run/note; pgrep -x sleep >/dev/null && echo lives; ls /root")
        == "before\nbefore\nlives\nnote"
    )
    assert inside("db1", "cat /root/note; ls /usr/share/doc") == "before\nmine"
    assert inside("db1", "mariadb -N -e 'select n from kept.t'") == "7"
    assert abs(float(inside("web1", "date +%s")) - time.time()) < 3
    verify(lab)
    assert status(lab)["state"] == "running"


def test_a_save_is_a_pause_and_nothing_more(lab: str) -> None:
    before = lives(lab)
    vlab("save", lab, "pause")
    assert lives(lab) == before
    verify(lab)
    vlab("discard", lab, "pause")
    assert "pause" not in checkpoints(lab)


def test_a_name_is_taken_once_and_must_be_one(lab: str) -> None:
    vlab("save", lab, "twice")
    again = vlab("save", lab, "twice", check=False)
    assert (again.code, "has a checkpoint 'twice' already" in again.err) == (2, True)
    bad = vlab("save", lab, "../up", check=False)
    assert bad.code == 2
    unknown = vlab("restore", lab, "thrice", check=False)
    assert (unknown.code, "has no checkpoint 'thrice'" in unknown.err) == (2, True)
    nowhere = vlab("save", "t-nowhere", "x", check=False)
    assert (nowhere.code, "no lab is called 't-nowhere'" in nowhere.err) == (2, True)
    vlab("discard", lab, "twice")


def test_reset_brings_one_node_back_while_the_others_run_on(lab: str) -> None:
    inside("web1", "touch /root/mine; rm -rf /etc/nginx")
    before = lives(lab)
    ran = vlab("reset", f"{lab}/web1")
    assert "destroy/web1" in ran.err
    assert "destroy/web2" not in ran.err
    assert inside("web1", "ls /root /etc/nginx/nginx.conf").split() == ["/etc/nginx/nginx.conf", "/root:"]
    after = lives(lab)
    assert {node for node in after if after[node] != before[node]} == {"web1"}
    verify(lab)


def test_a_damaged_checkpoint_is_refused_before_anything_is_touched(lab: str) -> None:
    vlab("save", lab, "harmed")
    memory = STATE / "labs" / lab / "checkpoints" / "harmed" / "web1" / "memory"
    with memory.open("r+b") as image:
        image.seek(memory.stat().st_size // 2)
        byte = image.read(1)
        image.seek(-1, 1)
        image.write(bytes([byte[0] ^ 1]))
    before = lives(lab)
    ran = vlab("restore", lab, "harmed", check=False)
    assert ran.code == 1
    assert "checkpoint harmed is damaged: its web1/memory is not what was written" in ran.err
    assert lives(lab) == before
    vlab("discard", lab, "harmed")


SHARES = (0.25, 0.45, 0.65, 0.85)
"""Shares of an undisturbed run after which another is killed."""


def test_a_killed_save_leaves_no_checkpoint_and_a_lab_that_goes_on(lab: str, file: Path, tmp_path: Path) -> None:
    seconds = vlab("save", lab, "whole").seconds
    halfway = []
    for share in SHARES:
        at_work = killed("save", lab, "killed", after=share * seconds, log=tmp_path / "save.log")
        halfway.append(at_work and (STATE / "labs" / lab / "checkpoints" / "tmp-killed").exists())
        if "killed" in checkpoints(lab):  # it was done before the signal came
            vlab("discard", lab, "killed")
        vlab("up", str(file), "--as", lab, "--no-verify")
        assert status(lab)["state"] == "running", share
        verify(lab)
    assert any(halfway)
    vlab("save", lab, "more")
    left = {path.name for path in (STATE / "labs" / lab / "checkpoints").iterdir()}
    assert {"whole", "more"} <= left
    assert not left & {"killed", "tmp-killed"}
    vlab("discard", lab, "whole")
    vlab("discard", lab, "more")


def test_a_killed_restore_is_finished_by_up_or_by_restore(lab: str, file: Path, tmp_path: Path) -> None:
    vlab("save", lab, "again")
    seconds = vlab("restore", lab, "again").seconds
    finishing = (("up", str(file), "--as", lab, "--no-verify"), ("restore", lab, "again"))
    for share, finish in zip(SHARES, finishing * 2, strict=True):
        assert killed("restore", lab, "again", after=share * seconds, log=tmp_path / "restore.log") or share > 0.5
        vlab(*finish)
        verify(lab)
    vlab("discard", lab, "again")


def test_kept_checkpoints_survive_down(lab: str, file: Path) -> None:
    inside("web1", "echo kept >/root/kept")
    vlab("save", lab, "kept")
    vlab("down", lab, "--keep")
    assert vlab("audit").out == "nothing is left over\n"
    assert "kept" in checkpoints(lab)
    vlab("restore", lab, "kept")
    assert inside("web1", "cat /root/kept") == "kept"
    verify(lab)
    vlab("down", lab)
    assert traces(lab) == []
    vlab("up", str(file), "--as", lab)


def test_copies_side_by_side_with_the_same_addresses() -> None:
    names = [f"t-copy-{number}" for number in range(3)]
    try:
        ran = vlab("up", str(TOPOLOGIES / "dr.yaml"), "--as", ",".join(names), "-o", "json")
        assert [each["status"]["lab"] for each in ran.json()] == names
        assert all(check["ok"] for each in ran.json() for check in each["verify"])
        before = lives(names[1])
        vlab("reset", f"{names[0]}/lvs1")
        verify(names[0])
        assert lives(names[1]) == before
    finally:
        vlab("down", "--as", ",".join(names), check=False)
    assert [trace for name in names for trace in traces(name)] == []


def test_more_copies_than_memory_holds_are_refused_with_the_sum(tmp_path: Path) -> None:
    big = tmp_path / "big.yaml"
    big.write_text(FILE.replace("192 MiB", "8 GiB"))
    ran = vlab("up", str(big), "--as", "t-big-1,t-big-2", check=False)
    assert ran.code == 5
    assert "2 labs do not fit on this host" in ran.err
    assert "guests need" in ran.err
    assert traces("t-big-1") == []
