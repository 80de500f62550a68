"""Run a plan: every step as soon as the steps it waits for are done, as far as there is room, undo on failure or Ctrl-C.

Knows nothing of labs: deeds are handed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heappop, heappush
from queue import Empty, SimpleQueue
from typing import Protocol

from vlab.engine.shield import shielded
from vlab.errors import VlabError
from vlab.events import Event, Sink
from vlab.plan import Plan, Step

WORKERS = 24
LOOK = 1.0
"""Seconds after which the room is looked at again though no step has ended."""


class Deeds(Protocol):
    """``undo`` and ``cancel`` are idempotent and may meet half-done work."""

    def do(self, step: Step) -> None: ...

    def undo(self, step: Step) -> None: ...

    def cancel(self, step: Step) -> None:
        """Make a running ``do(step)`` end soon."""


class Room(Protocol):
    """How many steps of a queue may run at once."""

    def fits(self, starting: Mapping[str, int], queue: str) -> bool:
        """Whether one more step of ``queue`` may start beside those that run, counted by queue."""

    def look(self) -> None:
        """Asked from time to time: things may have changed."""


Record = Callable[[str, str, str], None]
"""(step id, event, text) → the journal."""

Work = Callable[[Step], None]


class Unlimited:
    """For what costs next to nothing, as removing does."""

    def fits(self, starting: Mapping[str, int], queue: str) -> bool:  # noqa: ARG002
        return True

    def look(self) -> None:
        return


class Schedule:
    """Which steps may start. Kept up to date as steps end: a whole run looks at each ``after`` of its plan once."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.lacks = [len(step.after) for step in steps]
        """By place in the plan: how many steps it still waits for."""
        self.dependents: dict[str, list[int]] = {}
        self.open: dict[str, list[int]] = {}
        """By queue: the places of steps that wait for no step any more, as a heap."""
        self.busy: Counter[str] = Counter()
        self.unended = len(steps)
        for place, step in enumerate(steps):
            for before in step.after:
                self.dependents.setdefault(before, []).append(place)
            if not step.after:
                self._admit(place)

    def start(self, room: Room) -> list[Step]:
        """The steps that may start now, in plan order; from here on they count as running."""
        chosen: list[Step] = []
        while self.busy.total() < WORKERS and (heads := self._heads(room)):
            place, queue = min(heads)
            heappop(self.open[queue])
            self.busy[queue] += 1
            chosen.append(self.steps[place])
        return chosen

    def end(self, step: Step) -> None:
        self.busy[step.queue] -= 1
        self.unended -= 1
        for place in self.dependents.get(step.id, ()):
            self.lacks[place] -= 1
            if not self.lacks[place]:
                self._admit(place)

    def _admit(self, place: int) -> None:
        heappush(self.open.setdefault(self.steps[place].queue, []), place)

    def _heads(self, room: Room) -> list[tuple[int, str]]:
        """The first step of each queue that has room."""
        return [(places[0], queue) for queue, places in self.open.items() if places and room.fits(self.busy, queue)]


@dataclass(frozen=True, slots=True)
class _Ended:
    step: Step
    error: BaseException | None


News = SimpleQueue[_Ended | BaseException]
"""Steps that ended, and what signals raised. To put something there needs no lock that could stay taken."""


@dataclass
class _Progress:
    """The only mutable state of a run. A step that failed is in ``begun`` too: it may have done half of its work."""

    schedule: Schedule
    news: News
    running: dict[str, Step] = field(default_factory=dict)
    begun: list[Step] = field(default_factory=list)

    def begin(self, step: Step) -> None:
        self.running[step.id] = step
        self.begun.append(step)

    def hear(self, timeout: float | None) -> BaseException | None:
        """Wait for the next news; the error of the step that ended, if it had one. Raises what a signal raised."""
        try:
            news = self.news.get(timeout=timeout)
        except Empty:
            return None
        if isinstance(news, BaseException):
            raise news
        del self.running[news.step.id]
        self.schedule.end(news.step)
        return news.error


def execute(plan: Plan, deeds: Deeds, room: Room, record: Record, sink: Sink, *, keep: bool = False) -> None:
    """Do every step, as many at once as there is ``room`` for.

    On the first failure (or KeyboardInterrupt): start nothing more, cancel what runs, undo what this run began unless ``keep``, and
    raise the first error with the others in its notes.
    """
    news: News = SimpleQueue()
    shielded(partial(_execute, _Progress(Schedule(plan.steps), news), deeds, room, record, sink, keep=keep), news.put)


def _execute(progress: _Progress, deeds: Deeds, room: Room, record: Record, sink: Sink, *, keep: bool) -> None:
    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="vlab")
    try:
        _drive(progress, pool, partial(_do, deeds, record, sink), room)
    except BaseException as error:
        with pool:
            _wind_down(progress, deeds, error)
            if not keep:
                _drive(_inverse(progress), pool, partial(_undo, deeds, record, sink), Unlimited())
        raise
    pool.shutdown(wait=False)  # to wait for threads that have nothing to do is time in which a signal comes too late


def _drive(progress: _Progress, pool: ThreadPoolExecutor, work: Work, room: Room) -> None:
    while progress.schedule.unended:
        for step in progress.schedule.start(room):
            progress.begin(step)
            pool.submit(_tried, progress.news, work, step)
        assert progress.running, "a step waits for one that is not in the plan"
        if error := progress.hear(LOOK):
            raise error
        room.look()
    progress.hear(0)


def _tried(news: News, work: Work, step: Step) -> None:
    error: BaseException | None = None
    try:
        work(step)
    except BaseException as raised:  # noqa: BLE001 - whoever hears of it raises it
        error = raised
    news.put(_Ended(step, error))


def _do(deeds: Deeds, record: Record, sink: Sink, step: Step) -> None:
    record(step.id, "begin", step.why)
    sink(Event(step.id, "started", step.why))
    try:
        deeds.do(step)
    except BaseException as error:
        record(step.id, "failed", str(error))
        sink(Event(step.id, "failed", str(error)))
        raise
    record(step.id, "done", "")
    sink(Event(step.id, "done"))


def _undo(deeds: Deeds, record: Record, sink: Sink, step: Step) -> None:
    try:
        deeds.undo(step)
    except VlabError as error:
        record(step.id, "undo-failed", str(error))
        sink(Event(step.id, "failed", f"could not be undone: {error.what}"))
    else:
        record(step.id, "undone", "")
        sink(Event(step.id, "undone"))


def _wind_down(progress: _Progress, deeds: Deeds, first: BaseException) -> None:
    for step in progress.running.values():
        deeds.cancel(step)
    while progress.running:
        if isinstance(error := progress.hear(None), VlabError):
            first.add_note(error.what)


def _inverse(progress: _Progress) -> _Progress:
    """The steps that were begun with every arrow turned round."""
    dependents: dict[str, list[str]] = {step.id: [] for step in progress.begun}
    for step in progress.begun:
        for before in step.after:
            if before in dependents:
                dependents[before].append(step.id)
    turned = [replace(s, after=tuple(dependents[s.id]), queue="") for s in reversed(progress.begun)]
    return _Progress(Schedule(turned), progress.news)
