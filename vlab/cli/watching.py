"""A table that is read again and again: redrawn in place on a terminal, one block after another in a pipe."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vlab.cli import interrupts, report
from vlab.cli.app import Output


@dataclass(frozen=True, slots=True)
class View:
    """One look: ``data`` is what JSON shows. ``lacks`` says what is missing from it and why, for a table's reader."""

    title: str
    columns: Sequence[str]
    rows: report.Rows
    data: object
    lacks: Sequence[str] = ()


Look = Callable[[], View]


def once(view: View, output: Output) -> bool:
    """Show one look; whether nothing is missing from it."""
    if output is Output.json:
        report.as_json(view.data)
    else:
        report.table(view.columns, view.rows, title=view.title)
    _tell_lacks(view)
    return not view.lacks


def _tell_lacks(view: View) -> None:
    for lack in view.lacks:
        report.note(lack)


def watch(look: Look, every: float, count: int, output: Output) -> bool:
    """Show what ``look`` finds each ``every`` seconds, ``count`` times (0: until Ctrl-C, which ends it as an interrupt); whether nothing
    was missing from the last look."""
    stop = threading.Event()
    whole = True
    with interrupts.told(stop), _shown(output) as show:
        for _ in _beats(every, count, stop):
            view = look()
            show(view)
            whole = not view.lacks
    return whole


def _beats(every: float, count: int, stop: threading.Event) -> Iterator[None]:
    """Once at once, then at equal distances; a look that takes longer delays the next ones."""
    made, due = 0, time.monotonic()
    while not stop.is_set():
        yield
        made += 1
        if made == count:
            return
        due = max(due + every, time.monotonic())
        stop.wait(due - time.monotonic())


@contextmanager
def _shown(output: Output) -> Iterator[Callable[[View], None]]:
    if output is Output.json:
        yield _line
    elif not sys.stdout.isatty():
        yield _block
    else:
        from rich.live import Live

        with Live(console=report.console(), auto_refresh=False) as live:
            yield lambda view: live.update(report.boxed(view.columns, view.rows, _headed(view)), refresh=True)


def _line(view: View) -> None:
    """One JSON value a line, so that a reader need not guess where one ends."""
    report.say(json.dumps(view.data, default=str))
    sys.stdout.flush()
    _tell_lacks(view)


def _block(view: View) -> None:
    report.table(view.columns, view.rows, title=_dated(view))
    report.say("")
    sys.stdout.flush()
    _tell_lacks(view)


def _dated(view: View) -> str:
    return f"{view.title}, {time.strftime('%H:%M:%S')}"


def _headed(view: View) -> str:
    """On a terminal that is drawn anew each time, what is missing belongs to the picture."""
    return "\n".join([_dated(view), *view.lacks])
