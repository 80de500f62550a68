"""Run a plan: every step as soon as the steps it waits for are done, each queue within its limit, undo on failure or Ctrl-C.

Knows nothing of labs: deeds are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from vlab.errors import VlabError
from vlab.events import Event, Sink
from vlab.plan import Plan, Step

WORKERS = 24


class Deeds(Protocol):
    """``undo`` and ``cancel`` are idempotent and may meet half-done work."""

    def do(self, step: Step) -> None: ...

    def undo(self, step: Step) -> None: ...

    def cancel(self, step: Step) -> None:
        """Make a running ``do(step)`` end soon."""


Record = Callable[[str, str, str], None]
"""(step id, event, text) → the journal."""

Work = Callable[[Step], None]


@dataclass
class _Progress:
    """The only mutable state of a run. A step that failed is in ``ended`` too: it may have done half of its work."""

    waiting: dict[str, Step]
    running: dict[Future[None], Step] = field(default_factory=dict)
    ended: list[Step] = field(default_factory=list)


def execute(
    plan: Plan, deeds: Deeds, limits: Mapping[str, int], record: Record, sink: Sink, *, keep: bool = False
) -> None:
    """Do every step, at most ``limits[queue]`` of a queue at once.

    On the first failure (or KeyboardInterrupt): start nothing more, cancel what runs, undo what this run began unless ``keep``, and
    raise the first error with the others in its notes.
    """
    progress = _Progress({step.id: step for step in plan.steps})
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="vlab") as pool:
        try:
            _drive(progress, pool, partial(_do, deeds, record, sink), limits)
        except BaseException as error:
            _wind_down(progress, deeds, error)
            if not keep:
                _drive(_inverse(progress.ended), pool, partial(_undo, deeds, record, sink), {})
            raise


def ready(
    waiting: Iterable[Step], running: Iterable[Step], ended: Iterable[Step], limits: Mapping[str, int]
) -> list[Step]:
    """The steps that may start now, in plan order."""
    finished = {step.id for step in ended}
    busy = [step.queue for step in running]
    chosen: list[Step] = []
    for step in waiting:
        if len(busy) >= WORKERS:
            break
        if busy.count(step.queue) < limits.get(step.queue, WORKERS) and finished.issuperset(step.after):
            busy.append(step.queue)
            chosen.append(step)
    return chosen


def _drive(progress: _Progress, pool: ThreadPoolExecutor, work: Work, limits: Mapping[str, int]) -> None:
    while progress.waiting or progress.running:
        for step in ready(progress.waiting.values(), progress.running.values(), progress.ended, limits):
            del progress.waiting[step.id]
            progress.running[pool.submit(work, step)] = step
        finished, _ = wait(progress.running, return_when=FIRST_COMPLETED)
        progress.ended += [progress.running.pop(future) for future in finished]
        for future in finished:
            future.result()


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


def _wind_down(progress: _Progress, deeds: Deeds, error: BaseException) -> None:
    progress.waiting.clear()
    for step in progress.running.values():
        deeds.cancel(step)
    for future, step in progress.running.items():
        other = future.exception()
        progress.ended.append(step)
        if isinstance(other, VlabError) and other is not error:
            error.add_note(other.what)
    progress.running.clear()


def _inverse(steps: list[Step]) -> _Progress:
    """The same steps with every arrow turned round."""
    dependents: dict[str, list[str]] = {step.id: [] for step in steps}
    for step in steps:
        for before in step.after:
            if before in dependents:
                dependents[before].append(step.id)
    return _Progress({s.id: replace(s, after=tuple(dependents[s.id]), queue="") for s in reversed(steps)})
