"""The one gate to subprocesses: argv lists, a clean environment, a deadline, and errors that can be pasted.

Every child asks the kernel to be killed when vlab dies (``PR_SET_PDEATHSIG``, by ``setpriv --pdeathsig``), so ``kill -9`` of
vlab leaves no builder behind. Nothing else in vlab imports ``subprocess``.
"""

from __future__ import annotations

import logging
import os
import select
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlab.errors import CommandError, HostError, WaitError

log = logging.getLogger("vlab.run")


@dataclass(frozen=True, slots=True)
class Result:
    """What a command left: exit code and both streams as bytes."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")

    @property
    def error_text(self) -> str:
        return self.stderr.decode(errors="replace")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's environment with a fixed locale and a PATH that has the sbin folders."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    return {**os.environ, "LC_ALL": "C.UTF-8", "PATH": path, **(extra or {})}


def run(
    argv: Sequence[str],
    *,
    input: bytes | None = None,
    timeout: float | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Result:
    """Run ``argv`` to its end and return its result.

    Raises ``HostError`` when the program is missing, ``WaitError`` after ``timeout`` seconds (the child is killed), and
    ``CommandError`` for a non-zero exit code unless ``check`` is false.
    """
    log.debug("+ %s", shlex.join(argv))
    with _child(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(env), cwd=cwd, pass_fds=pass_fds,
    ) as child:  # fmt: skip
        try:
            stdout, stderr = child.communicate(input or b"", timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise WaitError(f"{argv[0]} did not end within {timeout:.0f} s", details=[shlex.join(argv)]) from error
    result = Result(child.returncode, stdout, stderr)
    _refuse_missing(argv, result)
    if check and result.code:
        raise CommandError(argv, result.code, (result.stdout + b"\n" + result.stderr).decode(errors="replace"))
    return result


def stream(
    argv: Sequence[str], on_line: Callable[[str], None], *, env: Mapping[str, str] | None = None, input: bytes = b""
) -> None:
    """Run ``argv`` and hand every output line (both streams, merged) to ``on_line`` as it comes.

    Raises as ``run`` does; the error carries the last lines.
    """
    log.debug("+ %s", shlex.join(argv))
    seen: list[str] = []
    with _child(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(env)
    ) as child:  # fmt: skip
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(input)
        child.stdin.close()
        for raw in child.stdout:
            line = raw.decode(errors="replace").rstrip("\n")
            seen = [*seen[-40:], line]
            on_line(line)
    result = Result(child.returncode, "\n".join(seen).encode(), b"")
    _refuse_missing(argv, result)
    if result.code:
        raise CommandError(argv, result.code, "\n".join(seen))


@dataclass(frozen=True, slots=True)
class Watched:
    """What a watched command showed: was the marker seen, did it end by itself, and its output (both streams)."""

    found: bool
    ended: bool
    output: bytes


def run_until(argv: Sequence[str], marker: bytes, timeout: float) -> Watched:
    """Run ``argv`` until its output holds ``marker``, it ends, or ``timeout`` seconds have passed; then kill it.

    Raises ``HostError`` when the program is missing. A deadline is an answer, not an error.
    """
    log.debug("+ %s", shlex.join(argv))
    with _child(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
    ) as child:
        watched = _watch(child, marker, time.monotonic() + timeout)
        child.kill()
    if watched.ended:
        _refuse_missing(argv, Result(child.returncode, watched.output, b""))
    return watched


def _watch(child: subprocess.Popen[bytes], marker: bytes, deadline: float) -> Watched:
    assert child.stdout is not None
    output = b""
    while marker not in output:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
            return Watched(found=False, ended=False, output=output)
        chunk = os.read(child.stdout.fileno(), 65536)
        if not chunk:
            return Watched(found=False, ended=_ends(child, deadline), output=output)
        output += chunk
    return Watched(found=True, ended=False, output=output)


def _ends(child: subprocess.Popen[bytes], deadline: float) -> bool:
    """Whether a child that closed its output is gone by the deadline."""
    try:
        child.wait(max(0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


def interactive(argv: Sequence[str]) -> int:
    """Give the terminal to ``argv`` (console, ssh, a shell in a guest) and return its exit code."""
    log.debug("+ %s", shlex.join(argv))
    return subprocess.run(argv, env=environment(), check=False).returncode


def spawn(argv: Sequence[str], *, log_file: Path) -> int:
    """Start a process that outlives vlab (a lab's own helper such as slirp4netns) in a session of its own; return its pid."""
    log.debug("+ %s &", shlex.join(argv))
    with log_file.open("ab") as sink:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True, env=environment()
        )
    return child.pid


def delegate(argv: Sequence[str]) -> Result:
    """Run a command of our own that undoes its work when it is asked to end: by ``end_delegates``, or because we died. It is in a session of
    its own, so a terminal's Ctrl-C reaches it through us, once. Any exit code is a result."""
    log.debug("+ %s", shlex.join(argv))
    gentle = ["setpriv", "--pdeathsig", "TERM", "--", *argv]
    with subprocess.Popen(
        gentle,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment(),
    ) as child:
        with _guard:
            _delegates.add(child)
        try:
            stdout, stderr = child.communicate()
        finally:
            with _guard:
                _delegates.discard(child)
    return Result(child.returncode, stdout, stderr)


def end_delegates() -> None:
    """Ask every delegate to end; their callers get their results once they have undone their work."""
    with _guard:
        for child in _delegates:
            child.terminate()


def kill_children() -> None:
    """Kill every command that runs now on behalf of this process; their callers get a ``CommandError``. For a run that is
    being called off."""
    with _guard:
        for child in _children:
            child.kill()


_children: set[subprocess.Popen[bytes]] = set()
_delegates: set[subprocess.Popen[bytes]] = set()
_guard = threading.Lock()


@contextmanager
def _child(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A child that dies with vlab, with the block, and with ``kill_children``."""
    with subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *argv], **options) as child:
        with _guard:
            _children.add(child)
        try:
            yield child
        except BaseException:
            child.kill()
            raise
        finally:
            child.wait()
            with _guard:
                _children.discard(child)


def _refuse_missing(argv: Sequence[str], result: Result) -> None:
    # setpriv's own exit code for a program that is not there is 127, as a shell's.
    if result.code == 127 and b"failed to execute" in result.stderr + result.stdout:
        raise HostError(f"{argv[0]} is not installed", hint="run ./bootstrap, which installs what vlab needs")
