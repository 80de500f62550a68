"""Guests started by hand, many at once: the way every floor is timed, whatever starts the guests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Protocol

from benchmarks.interrupts import held

DEADLINE = 300.0
ENDING_AT_ONCE = 8


class Guest(Protocol):
    """One guest of a floor. ``start`` returns with its first answer, or soon after ``stop`` is set; ``end`` takes it away, also when it never
    started."""

    def start(self, stop: Event) -> None: ...

    def end(self) -> None: ...


def seconds(guests: Sequence[Guest], at_once: int) -> float:
    """From the first command to the last guest's answer, at most ``at_once`` starting at a time. All stay up until then, and all are gone
    afterwards, whatever ends this."""
    stop, pool = Event(), ThreadPoolExecutor(at_once)
    began = time.monotonic()
    try:
        list(pool.map(lambda guest: guest.start(stop), guests))
        return time.monotonic() - began
    finally:
        with held():
            stop.set()
            pool.shutdown(cancel_futures=True)
            _end(guests)


def answer(name: str, answers: Callable[[], bool], stop: Event, pause: float) -> None:
    """Ask every ``pause`` seconds until the guest answers, or ``stop`` is set. Raises ``TimeoutError``."""
    deadline = time.monotonic() + DEADLINE
    while not stop.is_set() and not answers():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} did not answer within {DEADLINE:.0f} s")
        stop.wait(pause)


def _end(guests: Sequence[Guest]) -> None:
    with ThreadPoolExecutor(ENDING_AT_ONCE) as pool:
        list(pool.map(lambda guest: guest.end(), guests))
