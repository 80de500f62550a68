"""The QEMU guest agent as a ``Channel``: commands and files over a virtio serial port, without any network.

Knows the agent's protocol and nothing of libvirt: it is given a function that sends one command and returns the answer
(``Hypervisors.agent`` bound to a domain). A command costs two or three round trips of a few milliseconds: start, and a
first look so soon that a quick command needs no second.
"""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from vlab.errors import GuestError, WaitError
from vlab.guests.base import Result
from vlab.guests.wait import NotYet, wait_until

CALL_TIMEOUT = 60.0
"""Seconds for the agent to take one command: long, because a guest that starts many services under TCG stalls for seconds."""
PING_TIMEOUT = 5.0
CHUNK = 96 << 10
"""Bytes into the guest in one command: with 192 KiB (256 KiB of base64) the agent of QEMU 7.2 fell silent for good, with 160 it
did not. Its JSON reader takes 4 µs a byte under TCG, so this is no way for large files."""
READ_CHUNK = 1 << 20
"""Bytes out of the guest in one command. libvirt carries at most 4 MiB of text, base64 takes a third more than its bytes."""

ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
)


class AgentRefused(GuestError):
    """The agent answered, with an error: ``what`` ends in its words."""


class Send(Protocol):
    """Send one agent command and return its answer's «return». Raises ``GuestError`` when the agent does not answer,
    ``AgentRefused`` when it does with an error, ``HypervisorError`` when the guest is gone."""

    def __call__(self, command: Mapping[str, object], timeout: float) -> Any: ...


class AgentChannel:
    """``node`` is the guest's name in messages."""

    def __init__(self, node: str, send: Send) -> None:
        self._node = node
        self._send = send

    def run(self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0) -> Result:
        if len(input) > CHUNK:
            return self._run_with_file(argv, input, timeout)
        try:
            pid = self._start(argv, input)
        except AgentRefused as error:
            if "Failed to execute child process" not in error.what:
                raise
            return Result(127, b"", f"{error.what}\n".encode())
        return self._outcome(pid, argv, timeout)

    def _start(self, argv: Sequence[str], input: bytes) -> int:
        arguments: dict[str, object] = {
            "path": argv[0], "arg": list(argv[1:]), "env": list(ENVIRONMENT), "capture-output": True,
        }  # fmt: skip
        if input:
            arguments["input-data"] = base64.b64encode(input).decode()
        return int(self._call("guest-exec", CALL_TIMEOUT, **arguments)["pid"])

    def _outcome(self, pid: int, argv: Sequence[str], timeout: float) -> Result:
        def ended() -> Result:
            status = self._call("guest-exec-status", CALL_TIMEOUT, pid=pid)
            if not status["exited"]:
                raise NotYet("still running")
            return _result(status)

        try:
            return wait_until(
                f"{self._node}: the end of «{' '.join(argv)[:80]}»",
                ended,
                timeout=timeout,
                interval=0.008,  # a look takes an emulated guest 4 ms
                growth=1.3,
                slowest=0.25,
            )
        except WaitError:
            with contextlib.suppress(GuestError):
                self._start(["kill", "-KILL", str(pid)], b"")
            raise

    def _run_with_file(self, argv: Sequence[str], input: bytes, timeout: float) -> Result:
        path = f"/run/vlab-input.{time.monotonic_ns()}"
        self.put(path, input, mode=0o600)
        return self.run(
            ["/bin/sh", "-c", 'exec <"$1"; rm -f "$1"; shift; exec "$@"', "sh", path, *argv], timeout=timeout
        )

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write ``content`` beside ``path`` and move it there, so no reader sees half of it; makes missing folders."""
        beside = f"{path}.vlab~"
        first, rest = content[:CHUNK], range(CHUNK, len(content), CHUNK)
        if rest:
            self._do(_INSTALL, beside, f"{mode:o}", input=first)
            for start in rest:
                self._do('cat >>"$1"', beside, input=content[start : start + CHUNK])
            self._do('mv -fT -- "$1" "$2"', beside, path)
        else:
            self._do(f'{_INSTALL}; mv -fT -- "$1" "$3"', beside, f"{mode:o}", path, input=first)

    def _do(self, script: str, *words: str, input: bytes = b"") -> None:
        # The agent gives a command with no input no standard input at all.
        source = script if input else f"exec </dev/null; {script}"
        result = self.run(["/bin/sh", "-euc", source, "sh", *words], input=input)
        if result.code:
            raise GuestError(f"{self._node}: cannot write {words[-1]}", details=result.error_text.splitlines())

    def feed(self, path: str, content: bytes) -> None:
        """Write into a pipe that somebody in the guest reads from, at most what it holds, or into a key of /proc/sys: no process is
        started."""
        handle = self._mouth(path)
        try:
            written = self._call(
                "guest-file-write", CALL_TIMEOUT, handle=handle, **{"buf-b64": base64.b64encode(content).decode()}
            )
        finally:
            self._call("guest-file-close", CALL_TIMEOUT, handle=handle)
        if written["count"] < len(content):
            raise GuestError(f"{self._node}: {path} took {written['count']} of {len(content)} bytes")

    def _mouth(self, path: str) -> int:
        try:
            return int(self._call("guest-file-open", CALL_TIMEOUT, path=path, mode="r+"))  # «w» would make a file
        except AgentRefused as error:
            if "Permission denied" not in error.what:
                raise
            return int(self._call("guest-file-open", CALL_TIMEOUT, path=path, mode="w"))  # there, and for writing only

    def get(self, path: str) -> bytes:
        handle = self._open(path)
        try:
            return b"".join(self._read(handle))
        finally:
            with contextlib.suppress(GuestError):
                self._call("guest-file-close", CALL_TIMEOUT, handle=handle)

    def _open(self, path: str) -> int:
        try:
            return int(self._call("guest-file-open", CALL_TIMEOUT, path=path, mode="r"))
        except AgentRefused as error:
            raise GuestError(f"{self._node}: cannot read {path}", details=[error.what]) from error

    def _read(self, handle: int) -> Iterator[bytes]:
        ended = False
        while not ended:
            answer = self._call("guest-file-read", CALL_TIMEOUT, handle=handle, count=READ_CHUNK)
            yield base64.b64decode(answer["buf-b64"])
            ended = answer["eof"]

    def wait(self, timeout: float) -> None:
        def answers() -> None:
            try:
                self._call("guest-ping", PING_TIMEOUT)
            except GuestError as error:
                raise NotYet(error.what) from error

        wait_until(
            f"{self._node}: an answer of its guest agent", answers, timeout=timeout, interval=0.05, slowest=0.1,
            hint=f"vlab logs {self._node} shows how far it booted",
        )  # fmt: skip

    def shell(self) -> None:
        """The agent has no terminals."""
        return

    def _call(self, name: str, timeout: float, **arguments: object) -> Any:
        return self._send({"execute": name, "arguments": arguments} if arguments else {"execute": name}, timeout)


_INSTALL = 'install -D -m "$2" /dev/stdin "$1"'


def _result(status: Mapping[str, Any]) -> Result:
    """A ``guest-exec-status`` answer; death by a signal becomes 128 + its number, as shells say it."""
    code = int(status["exitcode"]) if "exitcode" in status else 128 + int(status.get("signal", 0))
    out, err = (base64.b64decode(status.get(key, "")) for key in ("out-data", "err-data"))
    return Result(code, out, err)
