"""The one gate to subprocesses: argv lists, a clean environment, a deadline, and errors that can be pasted.

Every child asks the kernel to be killed when vlab dies (``PR_SET_PDEATHSIG``, by ``setpriv --pdeathsig``), so ``kill -9`` of
vlab leaves no builder behind. Nothing else in vlab imports ``subprocess``.
"""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    try:
        done = subprocess.run(
            _mortal(argv), input=input if input is not None else b"", capture_output=True,
            timeout=timeout, env=environment(env), cwd=cwd, pass_fds=pass_fds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise WaitError(f"{argv[0]} did not end within {timeout:.0f} s", details=[shlex.join(argv)]) from error
    result = Result(done.returncode, done.stdout, done.stderr)
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
    with subprocess.Popen(
        _mortal(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(env)
    ) as child:
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


def _mortal(argv: Sequence[str]) -> list[str]:
    return ["setpriv", "--pdeathsig", "KILL", "--", *argv]


def _refuse_missing(argv: Sequence[str], result: Result) -> None:
    # setpriv's own exit code for a program that is not there is 127, as a shell's.
    if result.code == 127 and b"failed to execute" in result.stderr + result.stdout:
        raise HostError(f"{argv[0]} is not installed", hint="run ./bootstrap, which installs what vlab needs")
