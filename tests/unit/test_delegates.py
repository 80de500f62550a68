"""Commands of our own that undo their work when they are asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vlab import run

UNDOES = "trap 'echo undone; exit 130' TERM; echo begun >{}; while :; do sleep 0.05; done"


def _begun(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def test_any_exit_code_is_a_result() -> None:
    result = run.delegate(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.code, result.text, result.error_text) == (3, "out\n", "err\n")


def test_who_is_asked_to_end_may_finish_undoing(tmp_path: Path) -> None:
    file = tmp_path / "begun"
    with ThreadPoolExecutor() as pool:
        delegate = pool.submit(run.delegate, ["sh", "-c", UNDOES.format(file)])
        _begun(file)
        run.end_delegates()
        assert delegate.result(timeout=20) == run.Result(130, b"undone\n", b"")


def test_a_delegate_hears_of_the_death_of_its_caller(tmp_path: Path) -> None:
    begun, undone = tmp_path / "begun", tmp_path / "undone"
    script = f"trap 'echo >{undone}; exit' TERM; echo >{begun}; while :; do sleep 0.05; done"
    program = f"from vlab import run; run.delegate(['sh', '-c', {script!r}])"
    caller = subprocess.Popen([sys.executable, "-c", program])
    _begun(begun)
    os.kill(caller.pid, signal.SIGKILL)
    caller.wait()
    _begun(undone)  # the test's own time limit ends a wait for what never comes
