"""A Python that has loaded vlab's command line and forks a process for each call of it: as real as one started anew, without the half second
of imports.

    python -m tests.unit.zygote        one JSON object a line comes in, one exit code a line goes out
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60


class Zygote:
    """Runs vlab; one call at a time."""

    def __init__(self) -> None:
        argv = [sys.executable, "-m", "tests.unit.zygote"]
        self._process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(
        self, words: tuple[str, ...], folder: Path, *, stdin: str, cwd: Path, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """``folder`` takes the three streams."""
        streams = [folder / name for name in ("stdin", "stdout", "stderr")]
        streams[0].write_text(stdin)
        order = {"words": words, "streams": [str(path) for path in streams], "cwd": str(cwd), "env": dict(env)}
        assert self._process.stdin and self._process.stdout
        print(json.dumps(order), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(words, code, streams[1].read_text(), streams[2].read_text())

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)


def _serve() -> None:
    from vlab.cli import main, verbs

    verbs.load()
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _become(**json.loads(line))
            main.main()
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(words: list[str], streams: list[str], cwd: str, env: dict[str, Any]) -> None:
    # What runs the tests may ignore Ctrl-C (a background job does); a user's shell does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(DEADLINE)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[1:] = words
    for number, (path, flags) in enumerate(
        zip(streams, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_TRUNC] * 2), strict=True)
    ):
        os.dup2(os.open(path, flags, 0o600), number)


if __name__ == "__main__":
    _serve()
