"""Work that signals do not tear."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from vlab.engine.shield import shielded


class Interrupted(BaseException):
    """What the signal raises."""


@pytest.fixture(autouse=True)
def _interrupting() -> Iterator[None]:
    def interrupt(_number: int, _frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


def nobody(error: BaseException) -> None:
    raise AssertionError("nothing was to be told") from error


def interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def test_it_returns_when_the_work_has_ended_and_raises_what_it_raised() -> None:
    done: list[int] = []
    shielded(lambda: done.append(threading.get_ident()), nobody)
    assert done != [threading.get_ident()] and len(done) == 1

    def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        shielded(broken, nobody)


def test_work_is_told_of_each_signal_and_goes_on_until_it_ends_by_itself() -> None:
    told: SimpleQueue[BaseException] = SimpleQueue()
    heard: list[BaseException] = []

    def work() -> None:
        for _ in range(2):
            interrupt()
            heard.append(told.get(timeout=10))
        raise heard[1]

    with pytest.raises(Interrupted) as caught:
        shielded(work, told.put)
    assert [type(each) for each in heard] == [Interrupted, Interrupted] and caught.value is heard[1]


def test_a_signal_that_the_work_did_not_ask_for_is_raised_after_it() -> None:
    told: list[BaseException] = []

    def work() -> None:
        interrupt()
        while not told:
            pass

    with pytest.raises(Interrupted) as caught:
        shielded(work, told.append)
    assert told == [caught.value]
