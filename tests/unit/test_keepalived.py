"""keepalived.conf: golden files, and keepalived's own opinion of them where it is installed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit import lvs_labs
from tests.unit.lvs_golden import matches
from vlab.lvs.keepalived import render
from vlab.run import run
from vlab.topology.lab import Lab

LABS = [lvs_labs.web_db, lvs_labs.direct, lvs_labs.tunnel, lvs_labs.mixed]


@pytest.mark.parametrize("make", LABS, ids=lambda make: make.__name__)
def test_text_is_the_golden_one(make: Callable[[], Lab]) -> None:
    lab = make()
    matches(f"keepalived/{lab.name}.conf", render(lab, lab.node("lvs1")))


@pytest.mark.parametrize("make", LABS, ids=lambda make: make.__name__)
def test_keepalived_accepts_it(make: Callable[[], Lab], tmp_path: Path) -> None:
    program = os.environ.get("VLAB_TEST_KEEPALIVED") or shutil.which(
        "keepalived", path=os.environ["PATH"] + ":/usr/sbin"
    )
    if program is None:
        pytest.skip("keepalived is not installed")
    lab = make()
    (tmp_path / "keepalived.conf").write_text(render(lab, lab.node("lvs1")))
    done = run([program, "-t", "-f", str(tmp_path / "keepalived.conf")], check=False)
    assert (done.code, _complaints(done.text + done.error_text)) == (0, [])


def _complaints(output: str) -> list[str]:
    # «SECURITY VIOLATION» and unknown keywords are only warnings to keepalived -t; we want none at all.
    return [line for line in output.splitlines() if re.search("unknown|invalid|violation|ignor", line, re.IGNORECASE)]


@pytest.mark.parametrize("make", LABS, ids=lambda make: make.__name__)
def test_nothing_is_left_to_keepaliveds_defaults(make: Callable[[], Lab]) -> None:
    lab = make()
    text = render(lab, lab.node("lvs1"))
    for word in ("protocol", "lvs_sched", "lvs_method", "delay_loop", "connect_timeout", "retry", "delay_before_retry"):
        assert len(re.findall(rf"^    {word} +\S", text, re.MULTILINE)) == len(lab.services)
    assert "vrrp_strict" not in text
    assert text.count("persistence_timeout") == sum(s.persistence is not None for s in lab.services)


def test_a_path_with_keepaliveds_own_marks_is_quoted() -> None:
    lab = lvs_labs.direct()
    (www,) = lab.services
    edited = replace(lab, services=(replace(www, check=replace(www.check, path="/a!b")),))
    assert 'path "/a!b"\n' in render(edited, edited.node("lvs1"))
