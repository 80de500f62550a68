"""Golden snapshots: one that is damaged or half-made is never run from, and a run that makes one can be killed or called off."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.harness import eventually, killed, lives, running, start, status, traces, verify, vlab
from tests.live.warm import GOLDENS, forget, golden, inside, stand_ins, topology
from vlab.images.goldens import damage

pytestmark = pytest.mark.live


@pytest.fixture(scope="module", autouse=True)
def _goldens_go() -> Iterator[None]:
    yield
    forget()


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A topology whose golden is there."""
    file = topology(tmp_path_factory.mktemp("damage"), "damage")
    with running(file, "t-wharm"):
        return file


@pytest.mark.parametrize(
    ("part", "harm"),
    [
        ("memory", lambda path: os.truncate(path, path.stat().st_size * 2 // 3)),
        ("memory", _flip),
        ("disk.qcow2", _flip),
        ("memory", Path.unlink),
    ],
    ids=["memory-cut", "memory-bit", "disk-bit", "memory-gone"],
)
def test_a_damaged_golden_is_said_and_made_again(part: str, harm: Callable[[Path], None], made: Path) -> None:
    found = golden("damage")
    assert found is not None
    harm(found.path / part)
    with running(made, "t-wharm") as ran:
        assert re.search(rf"{found.name} is damaged: its {part}.* it is made again", ran.err), ran.err
        again = golden("damage")
        assert again is not None
        assert damage(again) == ""
        assert again.sums != found.sums
        verify("t-wharm")


def test_a_golden_with_an_unreadable_manifest_is_made_again(made: Path) -> None:
    found = golden("damage")
    assert found is not None
    (found.path / "manifest.json").write_text("{")
    with running(made, "t-wharm"):
        again = golden("damage")
        assert again is not None and damage(again) == ""


# runs that are called off


def _until(what: str, probe: Callable[[], bool], run: subprocess.Popen[bytes], every: float = 0.3) -> None:
    eventually(what, lambda: probe() or run.poll() is not None, 120, every)
    assert run.poll() is None, f"the run ended before: {what}"


def _booting(test: str) -> bool:
    return bool(stand_ins(test))


def _saving(_test: str) -> bool:
    """Asked often and of the folder only: a save lasts as long as a few calls of virsh."""
    return bool(list(GOLDENS.root.glob("tmp-web-*/memory")))


def _nothing_half_made(test: str) -> None:
    """No stand-in runs any more, and no golden of this test is there that is not whole."""
    eventually("the stand-in is gone", lambda: not stand_ins(test), 20)
    found = golden(test)
    assert found is None or damage(found) == ""


MOMENTS = (0.08, 0.3, 0.5, 0.7, 0.8, 0.9)
"""Shares of a run that makes a golden and restores one guest from it."""


@pytest.mark.timeout(1500)
def test_killed_at_several_moments_of_making_a_golden(tmp_path: Path) -> None:
    lab, file, log = "t-wkill", topology(tmp_path, "killed"), tmp_path / "log"
    forget("killed")
    with running(file, lab, "--no-verify") as undisturbed:
        pass
    try:
        for number, share in enumerate(MOMENTS):
            forget("killed")
            killed("up", str(file), "--as", lab, "--no-verify", after=share * undisturbed.seconds, log=log)
            if number % 2:
                _nothing_half_made("killed")
            else:  # at once: the stand-in of the killed run may still be dying
                vlab("up", str(file), "--as", lab, "--no-verify")
                verify(lab)
                whole = golden("killed")
                assert whole is not None and not (GOLDENS.root / f"tmp-{whole.name}").exists()
            vlab("down", lab, check=bool(traces(lab)))
            assert traces(lab) == [], f"after a kill at {share * undisturbed.seconds:.1f} s"
    finally:
        vlab("down", lab, check=False)


@pytest.mark.parametrize("moment", [_booting, _saving])
def test_an_interrupt_while_a_golden_is_made_undoes_everything(moment: Callable[[str], bool], tmp_path: Path) -> None:
    forget("ctrl-c")
    log = tmp_path / "log"
    run = start("up", str(topology(tmp_path, "ctrl-c")), "--as", "t-wctrlc", "--no-verify", log=log)
    try:
        _until("its stand-in boots", lambda: _booting("ctrl-c"), run)
        unfinished = stand_ins("ctrl-c")[0].replace("vlab-golden.g", "tmp-web-direct-")
        _until("the moment", lambda: moment("ctrl-c"), run, every=0.02)
        os.kill(run.pid, signal.SIGINT)
        assert run.wait(60) == 130, log.read_text()
        assert traces("t-wctrlc") == []
        _nothing_half_made("ctrl-c")
        assert not (GOLDENS.root / unfinished).exists()
    finally:
        vlab("down", "t-wctrlc", check=False)


def test_an_interrupt_while_another_makes_the_golden_leaves_the_other_alone(tmp_path: Path) -> None:
    forget("both")
    file, first, second = topology(tmp_path, "both"), tmp_path / "first", tmp_path / "second"
    maker = start("up", str(file), "--as", "t-wmaker", log=first)
    try:
        _until("the golden is being made", lambda: _booting("both"), maker)
        waiter = start("up", str(file), "--as", "t-wwaiter", log=second)
        _until("the second run waits for it", lambda: "ensure-golden/web" in second.read_text(), waiter)
        assert _booting("both")
        os.kill(waiter.pid, signal.SIGINT)
        assert waiter.wait(60) == 130, second.read_text()
        assert traces("t-wwaiter") == []
        assert maker.wait(120) == 0, first.read_text()
        verify("t-wmaker")
    finally:
        for lab in ("t-wmaker", "t-wwaiter"):
            vlab("down", lab, check=False)


def test_an_interrupt_does_not_take_a_guest_that_is_only_settled_again(tmp_path: Path) -> None:
    lab, log = "t-wsettle", tmp_path / "log"
    slow = (
        "printf '#!/usr/bin/dash\\nsleep 4\\nexec /usr/bin/dash \"$@\"\\n' >/usr/local/bin/slow; chmod 755 /usr/local/bin/slow\n"
        "ln -sf /usr/local/bin/slow /usr/bin/sh"
    )
    with running(topology(tmp_path, "eight"), lab):
        life = lives(lab)["box1"]
        others = [node["name"] for node in status(lab)["nodes"] if node["group"] != "box"]
        inside(lab, "sh", "-c", slow)
        more = topology(tmp_path, "eight", count=2)
        run = start("up", str(more), "--as", lab, "--no-verify", log=log)
        _until("box1 is settled", lambda: "settle/box1" in log.read_text(), run)
        time.sleep(1)
        assert "settle/box1: done" not in log.read_text()
        os.kill(run.pid, signal.SIGINT)
        assert run.wait(60) == 130, log.read_text()
        assert lives(lab, without="box2")["box1"] == life
        assert [node["name"] for node in status(lab)["nodes"] if node["state"] == "running"] == ["box1", *others]
        inside(lab, "ln", "-sf", "dash", "/usr/bin/sh")
        vlab("up", str(more), "--as", lab)
        assert lives(lab)["box1"] == life
        verify(lab)
    assert traces(lab) == []
