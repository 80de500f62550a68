"""vlab on a terminal, as a person has it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

NOISE = ("Traceback", "Exception ignored", "vlab: internal error")  # libvirt's own words have «internal error», too
# What runs the tests may ignore Ctrl-C (a background job does); a user's shell does not.
PROGRAM = [
    sys.executable, "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from vlab.cli.main import main; main()",
]  # fmt: skip


class Terminal:
    """vlab on a terminal of 80 × 24; ``screen`` is all that it wrote."""

    def __init__(self, *words: str, **env: str) -> None:
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.execvpe(PROGRAM[0], [*PROGRAM, *words], {**os.environ, "TERM": "xterm-256color", **env})
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.screen = ""

    def type(self, keys: str) -> None:
        os.write(self.end, keys.encode())

    def until(self, text: str, within: float = 30) -> None:
        """Read until ``text`` appears after what was read before."""
        begin, deadline = len(self.screen), time.monotonic() + within
        while text not in self.screen[begin:]:
            assert time.monotonic() < deadline, f"no {text!r} in {self.screen[begin:]!r}"
            assert self._read(), f"ended without {text!r}: {self.screen[begin:]!r}"

    def ended(self, within: float = 60) -> int:
        """The exit code, once all is read."""
        deadline = time.monotonic() + within
        while self._read():
            assert time.monotonic() < deadline, self.screen[-2000:]
        os.close(self.end)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        if not select.select([self.end], [], [], 0.2)[0]:
            return True
        try:
            chunk = os.read(self.end, 65536)
        except OSError:  # how Linux says that nobody holds the other end
            return False
        self.screen += chunk.decode(errors="replace")
        return bool(chunk)


def in_order(terminal: Terminal) -> None:
    """The cursor is shown, nothing is drawn over, and what is said last is words."""
    assert terminal.screen.count("\x1b[?25l") == terminal.screen.count("\x1b[?25h")
    assert not any(noise in terminal.screen for noise in NOISE), terminal.screen[-3000:]
