"""The surface every way into a guest has. Drivers implement ``Channel``; everything above knows only this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vlab.run import Result

__all__ = ["Channel", "Result"]


class Channel(Protocol):
    """A way into one running guest that needs no network.

    ``run`` raises ``GuestError`` when the guest cannot be reached and ``WaitError`` after ``timeout`` seconds; a command that
    exits non-zero is a ``Result``, not an error.
    """

    def run(self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0) -> Result: ...

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None: ...

    def get(self, path: str) -> bytes: ...

    def feed(self, path: str, content: bytes) -> None:
        """Write into a pipe that somebody in the guest reads from, at most what it holds, or into a key of /proc/sys; ``GuestError`` where
        there is none."""

    def wait(self, timeout: float) -> None:
        """Return once the guest can run commands; ``WaitError`` after ``timeout`` seconds."""

    def shell(self) -> Sequence[str] | None:
        """The host argv that gives a terminal inside the guest, None where there is none (use the console)."""
