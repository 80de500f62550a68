"""``kill -9`` of ``vlab up`` at random moments of web-db: ``down`` leaves nothing, or the next ``up`` converges. Also Ctrl-C."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.live.harness import TOPOLOGIES, eventually, killed, start, status, traces, verify, vlab

pytestmark = pytest.mark.live

FILE = TOPOLOGIES / "web-db.yaml"
MOMENTS = 20
CONVERGE_EVERY = 7
"""Every so many kills the next ``up`` must converge; after the others ``down`` must leave nothing."""
SEED = 20261121


def moments(seconds: float) -> list[float]:
    """Random, yet spread over the whole of a run, and the same each time the suite runs."""
    chosen = random.Random(SEED)
    return [seconds * (i + chosen.random()) / MOMENTS for i in range(MOMENTS)]


@pytest.fixture(scope="module")
def length() -> float:
    """How long an undisturbed ``up`` of web-db takes here, in seconds."""
    vlab("up", str(FILE), "--as", "t-length", "--no-verify")
    began = time.monotonic()
    vlab("down", "t-length")
    assert time.monotonic() - began < 60
    began = time.monotonic()
    vlab("up", str(FILE), "--as", "t-length", "--no-verify")
    seconds = time.monotonic() - began
    vlab("down", "t-length")
    return seconds


@pytest.mark.timeout(1500)
def test_killed_at_twenty_random_moments(length: float, tmp_path: Path) -> None:
    lab = "t-killed"
    try:
        for number, moment in enumerate(moments(length), 1):
            halfway = killed("up", str(FILE), "--as", lab, "--no-verify", after=moment, log=tmp_path / "log")
            if number % CONVERGE_EVERY == 0:
                vlab("up", str(FILE), "--as", lab, "--no-verify")
                assert status(lab)["state"] == "running", f"after a kill at {moment:.1f} s"
                verify(lab)
            vlab("down", lab, check=halfway and bool(traces(lab)))
            assert traces(lab) == [], f"after a kill at {moment:.1f} s"
    finally:
        vlab("down", lab, check=False)


def test_interrupted_up_undoes_what_it_made(tmp_path: Path) -> None:
    lab = "t-ctrlc"
    run = start("up", str(FILE), "--as", lab, "--no-verify", log=tmp_path / "log")
    try:
        eventually(
            "its first guest runs", lambda: any("domain" in trace for trace in traces(lab)), within=60, every=0.1
        )
        os.kill(run.pid, signal.SIGINT)
        assert run.wait(60) == 130, (tmp_path / "log").read_text()
        assert traces(lab) == []
    finally:
        vlab("down", lab, check=False)
