"""The executor: order, limits, undo, and one error that tells the others."""

from __future__ import annotations

import threading
import time

import pytest

from vlab.engine.executor import execute, ready
from vlab.errors import GuestError
from vlab.events import silent
from vlab.plan import Action, Plan, Step


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
    execute(plan, deeds, {"vm": limit}, lambda step, event, _text: record.append((step, event)), silent, keep=keep)


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


def test_a_second_failure_is_told_in_the_notes() -> None:
    barrier = threading.Barrier(2)

    class Both(Recorder):
        def do(self, step: Step) -> None:
            barrier.wait(5)
            time.sleep(0.05 if step.subject == "b" else 0)
            raise GuestError(f"{step.subject} is broken")

    with pytest.raises(GuestError, match="a is broken") as caught:
        run(Plan((boot("a"), boot("b"))), Both())
    assert caught.value.__notes__ == ["b is broken"]


def test_ready_skips_a_full_queue_but_not_others() -> None:
    other = Step(Action.MAKE_CLONE, "x", "fresh")
    assert ready([boot("b"), other], [boot("a")], [], {"vm": 1}) == [other]
