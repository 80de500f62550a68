"""Ctrl-C and its like: they end a measurement at once, and cleaning up never."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Interrupts:
    def __init__(self) -> None:
        self.holders = 0
        self.pending = False

    def arrived(self, _number: int, _frame: FrameType | None) -> None:
        """The first one counts: those that follow would only disturb what it started."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if not self.holders:
            raise KeyboardInterrupt
        self.pending = True

    def release(self) -> None:
        self.holders -= 1
        if self.pending and not self.holders:
            self.pending = False
            raise KeyboardInterrupt


_interrupts = _Interrupts()


def take() -> None:
    """From now on each of ``SIGNALS`` raises ``KeyboardInterrupt`` in the main thread, once."""
    for number in SIGNALS:
        signal.signal(number, _interrupts.arrived)


@contextmanager
def held() -> Iterator[None]:
    """A block of the main thread that a signal does not interrupt; it raises at the end."""
    _interrupts.holders += 1
    try:
        yield
    finally:
        _interrupts.release()
