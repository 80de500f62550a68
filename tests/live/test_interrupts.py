"""Runs that are called off, by people and by signals, and runs that must go on: what they leave, and in what state they leave the terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.harness import TOPOLOGIES, eventually, start, traces, vlab
from tests.live.terminal import NOISE, PROGRAM, Terminal, in_order

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

FILE = str(TOPOLOGIES / "quickstart.yaml")
SECOND = "t-off"
ONE_CONTAINER = """
vlab: 1
name: small
networks: {front: {subnet: 10.20.0.0/24}}
groups:
  client: {count: 1, virt: container, image: client, networks: [front], memory: 128 MiB}
"""


@pytest.fixture
def second() -> Iterator[str]:
    """The name of a lab that is gone after the test."""
    yield SECOND
    vlab("down", "--as", SECOND, check=False)


@contextmanager
def up(lab: str, *words: str, **env: str) -> Iterator[Terminal]:
    """``up`` on a terminal, at the moment when the director boots."""
    terminal = Terminal("up", FILE, "--as", lab, "--no-verify", "--cold", *words, **env)
    terminal.until("settle/web1")
    yield terminal


def test_up_on_a_terminal_ends_with_its_tables(second: str, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(ONE_CONTAINER)
    terminal = Terminal("--debug", "up", str(tmp_path / "small.yaml"), "--as", second)
    assert terminal.ended() == 0, terminal.screen
    in_order(terminal)
    assert "✓\x1b[0m boot/client1" in terminal.screen
    assert f"lab {second}: running" in terminal.screen
    assert traces(second) != []
    vlab("down", second)


def test_ctrl_c_during_up_undoes_it_and_leaves_the_terminal_in_order(second: str) -> None:
    with up(second) as terminal:
        terminal.type("\x03")
        assert terminal.ended() == 130
    in_order(terminal)
    assert f"{second}: nothing of it is left" in terminal.screen
    assert terminal.screen.endswith("vlab: interrupted\r\n")
    assert traces(second) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_during_up_undo_it(second: str, tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    child = start("up", FILE, "--as", second, "--no-verify", "--cold", log=log)
    eventually("it works", lambda: "boot/lvs1: started" in log.read_text(), 60)
    child.send_signal(number)
    assert child.wait(60) == 130, log.read_text()
    assert not any(noise in log.read_text() for noise in NOISE)
    assert traces(second) == []


def test_a_closed_terminal_undoes_it_too(second: str) -> None:
    """The hang-up comes with a stderr that fails from then on."""
    with up(second) as terminal:
        os.close(terminal.end)
        assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 130
    assert traces(second) == []


def test_nohup_survives_a_hang_up(second: str, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(ONE_CONTAINER)
    log = tmp_path / "log"
    words = ["nohup", *PROGRAM, "up", str(tmp_path / "small.yaml"), "--as", second]
    with log.open("wb") as out:
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        eventually("it works", lambda: "started" in log.read_text(), 60)
        child.send_signal(signal.SIGHUP)
        assert child.wait(60) == 0, log.read_text()
    assert json.loads(vlab("status", second, "-o", "json").out)["state"] == "running"


def test_nobody_reading_the_progress_stops_nothing(second: str, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(ONE_CONTAINER)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as said:
        ran = subprocess.run(
            [*PROGRAM, "up", str(tmp_path / "small.yaml"), "--as", second],
            stderr=said,
            stdout=subprocess.PIPE,
            check=False,
        )
    assert ran.returncode == 0
    assert f"lab {second}: running" in ran.stdout.decode()


def test_a_second_ctrl_c_says_what_it_leaves_and_down_removes_it(second: str) -> None:
    with up(second) as terminal:
        terminal.type("\x03")
        time.sleep(0.1)
        terminal.type("\x03")
        assert terminal.ended(within=15) == 130
    in_order(terminal)
    if traces(second):  # else the undoing was faster than the second Ctrl-C
        assert f"(hint: vlab down {second} removes " in terminal.screen
        vlab("down", second)
    assert traces(second) == []


def test_any_number_of_ctrl_cs_is_no_traceback(second: str) -> None:
    with up(second) as terminal:
        for _ in range(6):
            terminal.type("\x03")
            time.sleep(0.03)
        assert terminal.ended() == 130
    assert not any(noise in terminal.screen for noise in NOISE), terminal.screen[-3000:]
    assert "\x1b[?25h" in terminal.screen
    vlab("down", "--as", second)
    assert traces(second) == []
