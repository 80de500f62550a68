"""The live progress display, under many threads."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from rich.console import Console
from rich.live import Live

from vlab.cli.report import Board
from vlab.events import Event


@pytest.mark.timeout(30)
def test_steps_that_end_in_many_threads_do_not_stop_the_display() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    board = Board(console)
    gate = threading.Barrier(8)

    def work(number: int) -> None:
        gate.wait(10)
        for step in range(40):
            board(Event(f"boot/n{number}-{step}", "started", "absent"))
            board(Event(f"boot/n{number}-{step}", "progress", "half way", 0.5))
            board(Event(f"boot/n{number}-{step}", "done"))

    with Live(board, console=console, refresh_per_second=200, transient=True), ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert out.getvalue().count("✓") == 8 * 40


def test_a_failure_is_one_line_and_a_note_ends_nothing() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100)
    board = Board(console)
    board(Event("build-image/web:rootfs", "started", "not built yet"))
    board(Event("build-image/web:rootfs", "note", "waiting for another builder"))
    console.print(board)
    assert "waiting for another builder" in out.getvalue()
    board(Event("build-image/web:rootfs", "failed", "apt failed\n  one\n  two"))
    assert out.getvalue().splitlines()[-1].startswith("✗ build-image/web:rootfs")
    assert "two" not in out.getvalue()
