"""Ctrl-C, SIGTERM and SIGHUP: the first calls the run off and has it undone, the second calls the undoing off, the third (or too long
a wait after the second) ends vlab at once.

Ending anywhere is safe: what is left carries its lab's mark, and ``vlab down`` removes it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOW_CURSOR = "\x1b[?25h"
GRACE = 5.0
"""Seconds after the second signal: threads may hang that were called off in the middle of their work."""

_seen: list[int] = []
_labs: list[str] = []
"""The lab that is worked on comes last."""


def listen() -> None:
    """Take the signals, but for those that whoever started vlab wants ignored: ``nohup`` is to survive a closed terminal."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def working_on(lab: str) -> None:
    """What to name when there is no time to look."""
    _labs.append(lab)


def is_one(error: BaseException) -> bool:
    """Whether ``error`` is an interrupt. Until 3.12, Python makes a RuntimeError of one that meets a class in the making (``__set_name__``)."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt)


def count() -> int:
    """How often this run was asked to end."""
    return len(_seen)


def _interrupt(number: int, _frame: object) -> None:
    _seen.append(number)
    if len(_seen) == 2:
        late = threading.Timer(GRACE, _end)
        late.daemon = True
        late.start()
    if len(_seen) > 2:
        _end()
    raise KeyboardInterrupt(signal.Signals(number).name)


def _end() -> None:
    """Without waiting for threads; ``os.write``, because the signal may have come in the middle of a print."""
    cursor = SHOW_CURSOR if os.isatty(2) else ""
    lab = _labs[-1] if _labs else "LAB"
    try:
        os.write(2, f"{cursor}\nvlab: ended at once\n(hint: vlab down {lab} removes what is left)\n".encode())
    finally:
        os._exit(EXIT_CODE)


def over() -> None:
    """Nothing is left to call off: further signals would only make noise on the way out."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def told(stop: threading.Event) -> Iterator[None]:
    """While the block runs, signals set ``stop`` and raise nothing: an event loop must not be torn in the middle of a step."""

    def tell(number: int, _frame: object) -> None:
        _seen.append(number)
        stop.set()

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, tell)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.is_set():
        raise KeyboardInterrupt


@contextmanager
def left_to_the_guest() -> Iterator[None]:
    """While a guest has the terminal, Ctrl-C is for what runs inside it."""
    # A handler, not SIG_IGN: that would be inherited, and programs in the guest could not be interrupted.
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def closed_streams() -> None:
    """Give the process the standard streams that it was started without."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - open as long as the process
