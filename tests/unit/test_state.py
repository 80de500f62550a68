"""The state folder: journal, declaration, lock."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from vlab.errors import ConflictError
from vlab.state import Journal, Paths, busy, declare, declared, forget, labs_on_disk, locked


def test_journal_names_the_steps_a_killed_run_left_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "lab" / "journal.jsonl")
    for step, event in [
        ("boot/a", "begin"),
        ("boot/b", "begin"),
        ("boot/a", "done"),
        ("boot/c", "begin"),
        ("boot/c", "failed"),
    ]:
        journal.write(step, event)
    assert journal.unfinished() == ["boot/b"]


def test_a_converged_run_closes_what_a_killed_one_left_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.write("boot/a", "begin")
    journal.converged()
    assert journal.unfinished() == []
    journal.write("boot/b", "begin")
    assert journal.unfinished() == ["boot/b"]


def test_journal_survives_a_line_cut_short(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.write("boot/a", "begin")
    with journal.path.open("a") as file:
        file.write('{"at": 1, "st')
    assert journal.unfinished() == ["boot/a"]


def test_declaration_is_kept_and_forgotten(tmp_path: Path) -> None:
    where = Paths(tmp_path)
    declare(where, "shop", "vlab: 1\n")
    assert declared(where, "shop") == "vlab: 1\n"
    assert labs_on_disk(where) == ["shop"]
    forget(where, "shop")
    assert declared(where, "shop") is None
    assert labs_on_disk(where) == []


def _hold(root: Path, holds: Event) -> None:
    with locked(Paths(root), "shop"):
        holds.set()
        signal.pause()


def test_a_second_run_is_refused_by_pid_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    holds = context.Event()
    other = context.Process(target=_hold, args=(tmp_path, holds))
    other.start()
    assert holds.wait(20)
    with pytest.raises(ConflictError, match=f"pid {other.pid}"), locked(Paths(tmp_path), "shop"):
        pass
    os.kill(other.pid or 0, signal.SIGKILL)
    other.join(10)
    with locked(Paths(tmp_path), "shop", wait=2.0):
        assert (tmp_path / "locks" / "shop.lock").read_text() == str(os.getpid())


def test_labs_that_a_run_works_on_are_known(tmp_path: Path) -> None:
    where = Paths(tmp_path)
    with locked(where, "one"):
        assert busy(where) == ["one"]
    assert busy(where) == []


def test_journal_tells_what_this_process_began_and_did_not_undo(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    others = ({"at": at, "pid": pid} for at, pid in ((9e9, os.getpid() + 1), (1.0, os.getpid())))
    lines = [json.dumps({**other, "step": "boot/theirs", "event": "begin", "text": ""}) for other in others]
    journal.path.write_text(
        "\n".join(lines) + "\n"
    )  # of another process, and of an earlier one that had this one's pid
    began = time.time()
    assert journal.kept(began) == []
    for step, event in (
        ("boot/a", "begin"),
        ("boot/b", "begin"),
        ("boot/a", "done"),
        ("boot/b", "failed"),
        ("boot/b", "undone"),
    ):
        journal.write(step, event)
    assert journal.kept(began) == ["boot/a"]
    journal.write("boot/a", "undone")
    assert journal.kept(began) == []
