"""``vlab`` as a user runs it: a process of its own, from start to end, and the processor time that it took."""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from benchmarks.interrupts import held

PROGRAM = [sys.executable, "-c", "from vlab.cli.main import main; main()"]
PATIENCE = 120.0
"""Seconds that an interrupted ``vlab`` has to undo what it made."""
LAST = 5
"""Lines of a failed command that are shown."""
UNKNOWN = 2
"""``vlab down``'s exit code for a lab that is not there."""


@dataclass(frozen=True, slots=True)
class Done:
    seconds: float
    cpu_seconds: float
    output: str


class Failed(Exception):
    """A measured command did not do what it was measured for."""


def vlab(*words: str, codes: Collection[int] = (0,)) -> Done:
    """Run ``vlab WORDS`` to its end. Raises ``Failed`` for an exit code that is not in ``codes``."""
    began, spent = time.monotonic(), _spent()
    # A session of its own: Ctrl-C reaches it once, from here.
    child = subprocess.Popen(
        [*PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    with _ended(child):
        output = child.communicate()[0].decode(errors="replace")
    done = Done(time.monotonic() - began, _spent() - spent, output)
    if child.returncode not in codes:
        last = "\n".join(output.splitlines()[-LAST:])
        raise Failed(f"vlab {' '.join(words)} ended with {child.returncode}:\n{last}")
    return done


@contextlib.contextmanager
def lab(name: str) -> Iterator[None]:
    """A block in which a lab of this name may be up; what an earlier run left of it goes before, what is left of it after."""
    with held():
        gone(name)
    try:
        yield
    finally:
        with held():
            gone(name)


def gone(name: str) -> None:
    vlab("down", name, codes=(0, UNKNOWN))


@contextlib.contextmanager
def _ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """The child is gone after the block; interrupted, it may undo what it made."""
    try:
        yield
    except BaseException:
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=PATIENCE)
        raise
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
