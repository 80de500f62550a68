"""Work that signals do not tear.

Python raises what a signal's handler raises in the main thread, between any two instructions of whatever runs there: a step that was handed to
a thread is not noted as begun, and a lock of ``threading`` that was just taken stays taken, so that others wait for it for ever. Work in
another thread is told of a signal instead, when it asks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

LOOK = 1.0
"""Seconds after which the end of the work is looked for though nobody told of it."""


class _Work:
    """``_claimed`` and ``_gate`` are locks of the interpreter's own: to take one is done or not done, never half."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._claimed = threading.Lock()
        self._gate = threading.Lock()
        self._gate.acquire()
        self.ended = False
        self.error: BaseException | None = None

    def claim(self) -> bool:
        """True for the first who asks: the thread that does the work, or whoever calls it off before."""
        return self._claimed.acquire(blocking=False)

    def run(self) -> None:
        if not self.claim():
            return
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised again where it was asked for
            self.error = error
        self.ended = True
        self._gate.release()

    def wait(self) -> None:
        while not self.ended:
            self._gate.acquire(timeout=LOOK)


def shielded(work: Callable[[], None], tell: Callable[[BaseException], object]) -> None:
    """Do ``work`` in another thread, and return when it has ended. What a signal raises here meanwhile is handed to ``tell``, for the work to
    end by. Raises what the work raises, else the signal's exception, which came too late for it. ``tell`` must not wait for locks."""
    it, told = _Work(work), None
    try:
        threading.Thread(target=it.run, name="vlab-shielded", daemon=True).start()
        it.wait()
    except BaseException as error:
        if it.claim():  # it has not begun, and never will
            raise
        told = error
        tell(error)
        _see_out(it, tell)
    if late := it.error or told:
        raise late


def _see_out(it: _Work, tell: Callable[[BaseException], object]) -> None:
    while not it.ended:
        try:
            it.wait()
        except BaseException as error:  # noqa: BLE001 - the work ends by it
            tell(error)
