"""The executor: order, limits, undo, and one error that tells the others."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from vlab.engine.executor import WORKERS, Schedule, Unlimited, execute
from vlab.errors import GuestError
from vlab.events import silent
from vlab.plan import Action, Plan, Step


class Limit:
    """At most so many of each queue at once."""

    def __init__(self, **most: int) -> None:
        self.most = most

    def fits(self, starting: Mapping[str, int], queue: str) -> bool:
        return starting.get(queue, 0) < self.most.get(queue, WORKERS)

    def look(self) -> None:
        pass


class Recorder:
    """Deeds that note what they did; ``broken`` subjects fail."""

    def __init__(self, broken: tuple[str, ...] = (), seconds: float = 0.0) -> None:
        self.broken, self.seconds = broken, seconds
        self.done: list[str] = []
        self.undone: list[str] = []
        self.at_once = self.most = 0
        self.lock = threading.Lock()

    def do(self, step: Step) -> None:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(self.seconds)
        with self.lock:
            self.at_once -= 1
            self.done.append(step.subject)
        if step.subject in self.broken:
            raise GuestError(f"{step.subject} is broken")

    def undo(self, step: Step) -> None:
        with self.lock:
            self.undone.append(step.subject)

    def cancel(self, step: Step) -> None:
        pass


def boot(subject: str, *after: str) -> Step:
    return Step(Action.BOOT, subject, "absent", tuple(f"boot/{a}" for a in after), "vm")


def run(
    plan: Plan, deeds: Recorder, journal: list[tuple[str, str]] | None = None, *, keep: bool = False, limit: int = 2
) -> None:
    record = journal if journal is not None else []
    execute(plan, deeds, Limit(vm=limit), lambda step, event, _text: record.append((step, event)), silent, keep=keep)


def test_steps_wait_for_what_they_need() -> None:
    deeds = Recorder()
    run(Plan((boot("c", "b"), boot("b", "a"), boot("a"))), deeds)
    assert deeds.done == ["a", "b", "c"]


def test_a_queue_never_exceeds_its_limit() -> None:
    deeds = Recorder(seconds=0.02)
    run(Plan(tuple(boot(f"n{i}") for i in range(9))), deeds, limit=3)
    assert len(deeds.done) == 9
    assert deeds.most <= 3


def test_failure_undoes_in_reverse_order_and_starts_nothing_more() -> None:
    deeds = Recorder(broken=("b",))
    journal: list[tuple[str, str]] = []
    with pytest.raises(GuestError, match="b is broken"):
        run(Plan((boot("a"), boot("b", "a"), boot("c", "b"))), deeds, journal)
    assert deeds.done == ["a", "b"]
    assert deeds.undone == ["b", "a"]
    assert journal == [
        ("boot/a", "begin"), ("boot/a", "done"), ("boot/b", "begin"), ("boot/b", "failed"), ("boot/b", "undone"), ("boot/a", "undone"),
    ]  # fmt: skip


def test_keep_leaves_what_was_made() -> None:
    deeds = Recorder(broken=("b",))
    with pytest.raises(GuestError):
        run(Plan((boot("a"), boot("b", "a"))), deeds, keep=True)
    assert deeds.undone == []


@pytest.mark.parametrize("apart", [0.05, 0.0])
def test_a_second_failure_is_told_in_the_notes(apart: float) -> None:
    barrier = threading.Barrier(2)

    class Both(Recorder):
        def do(self, step: Step) -> None:
            barrier.wait(5)
            time.sleep(apart if step.subject == "b" else 0)
            raise GuestError(f"{step.subject} is broken")

    with pytest.raises(GuestError, match="is broken") as caught:
        run(Plan((boot("a"), boot("b"))), Both())
    assert sorted([caught.value.what, *caught.value.__notes__]) == ["a is broken", "b is broken"]


def test_a_mistake_of_ours_beside_a_failure_keeps_nothing_from_being_undone() -> None:
    class Both(Recorder):
        def do(self, step: Step) -> None:
            time.sleep(0.05 if step.subject == "b" else 0)
            raise GuestError("a is broken") if step.subject == "a" else KeyError("b")

    deeds = Both()
    with pytest.raises(GuestError, match="a is broken"):
        run(Plan((boot("a"), boot("b"))), deeds)
    assert sorted(deeds.undone) == ["a", "b"]


def test_a_full_queue_is_skipped_but_not_others() -> None:
    other = Step(Action.MAKE_CLONE, "x", "fresh")
    schedule = Schedule([boot("a"), boot("b"), other])
    assert schedule.start(Limit(vm=1)) == [boot("a"), other]
    schedule.end(other)
    assert schedule.start(Limit(vm=1)) == []
    schedule.end(boot("a"))
    assert schedule.start(Limit(vm=1)) == [boot("b")]


def test_steps_start_in_plan_order_whichever_became_free_first() -> None:
    last = Step(Action.MAKE_CLONE, "d", "fresh")
    schedule = Schedule([boot("a"), boot("b", "a"), boot("c", "a"), last])
    assert schedule.start(Limit(vm=1)) == [boot("a"), last]
    schedule.end(boot("a"))
    assert schedule.start(Unlimited()) == [boot("b", "a"), boot("c", "a")]


def test_never_more_steps_at_once_than_workers() -> None:
    steps = [boot(f"n{i}") for i in range(2 * WORKERS)]
    schedule = Schedule(steps)
    assert schedule.start(Unlimited()) == steps[:WORKERS]
    schedule.end(steps[0])
    assert schedule.start(Unlimited()) == [steps[WORKERS]]


def test_a_step_that_waits_for_nothing_there_is_told_not_waited_for() -> None:
    with pytest.raises(AssertionError, match="not in the plan"):
        run(Plan((boot("a"), boot("b", "gone"))), Recorder())


class Interrupted(BaseException):
    """What the alarm raises, as a Ctrl-C would; a KeyboardInterrupt that comes late would end pytest."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raises ``Interrupted`` in the main thread once, ``seconds`` from now, wherever that is."""

    def ring(_number: int, _frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_whatever_the_moment_of_a_signal_all_that_was_begun_is_undone() -> None:
    """Also where it tears the main thread away from handing a step to a thread, which goes on with it."""
    plan, chance = Plan(tuple(boot(f"n{number}") for number in range(WORKERS))), random.Random(1)
    interrupted, whole = 0, 0.01
    for _ in range(1000):
        deeds, began = Recorder(), time.monotonic()
        try:
            with alarm(max(chance.uniform(0, whole), 1e-6)):
                run(plan, deeds, limit=WORKERS)
            whole = time.monotonic() - began
        except Interrupted:
            interrupted += 1
            done, undone = set(deeds.done), set(deeds.undone)
            time.sleep(0.002)  # for what goes on though nobody waited for it
            assert set(deeds.done) == done
            assert undone == done or (undone, len(done)) == (set(), WORKERS), "undone, unless it was too late for that"
        if interrupted == 100:
            return
    raise AssertionError(f"only {interrupted} of 1000 signals came in time")
