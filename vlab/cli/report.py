"""How things look: progress on stderr (live on a terminal, one line an event elsewhere), tables and JSON on stdout, errors."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vlab.errors import VlabError
from vlab.events import Event, Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

Rows = Sequence[Sequence[object]]


def console(*, stderr: bool = False) -> Console:
    """A rich console; honours NO_COLOR (rich does) and never wraps tables when piped."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else int(os.environ.get("COLUMNS", "200"))
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=not stream.isatty())


def say(text: str) -> None:
    """One plain line on stdout."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """One plain line on stderr."""
    sys.stderr.write(f"{text}\n")


def as_json(value: object) -> None:
    say(json.dumps(value, indent=2, default=str))


def table(columns: Sequence[str], rows: Rows, *, title: str = "") -> None:
    """A table on stdout: boxed on a terminal, aligned columns in a pipe."""
    if sys.stdout.isatty():
        _rich_table(columns, rows, title)
    else:
        for line in aligned(columns, rows, title):
            say(line)


def aligned(columns: Sequence[str], rows: Rows, title: str = "") -> Iterable[str]:
    cells = [[str(cell) for cell in row] for row in [[c.upper() for c in columns], *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    if title:
        yield f"{title}:"
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _rich_table(columns: Sequence[str], rows: Rows, title: str) -> None:
    from rich import box
    from rich.table import Table

    shown = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1))
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(_coloured(str(cell)) for cell in row))
    console().print(shown)


_COLOURS = {
    "running": "green", "up": "green", "ok": "green", "yes": "green",
    "absent": "red", "down": "red", "FAILED": "red", "fail": "red", "quiesced": "yellow", "warn": "yellow",
}  # fmt: skip


def _coloured(text: str) -> str:
    from rich.markup import escape

    colour = _COLOURS.get(text)
    return f"[{colour}]{text}[/]" if colour else escape(text)


def error(problem: VlabError) -> None:
    """An error on stderr: what, details, hint, and what else went wrong meanwhile."""
    lines = [f"vlab: {problem}", *(f"also: {text}" for text in getattr(problem, "__notes__", ()))]
    note("\n".join(lines))


class _Lines:
    """One line an event: for pipes and logs."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def __call__(self, event: Event) -> None:
        if event.state != "progress":
            text = f" ({event.text})" if event.text else ""
            note(f"[{event.at - self.began:6.1f}s] {event.subject}: {event.state}{text}")


class Board:
    """What runs now, with its age, redrawn a few times a second; ended steps scroll by above it."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self.running: dict[str, Event] = {}
        self.latest: dict[str, Event] = {}
        self.lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        ended = self._take(event)
        if ended:
            # Not under our lock: printing takes the display's, under which ``__rich__`` takes ours.
            self.out.print(ended)

    def _take(self, event: Event) -> str:
        """Note the event; the line to print when it ends something, else nothing."""
        with self.lock:
            if event.state == "started":
                self.running[event.subject] = event
            elif event.state == "progress":
                self.latest[event.subject] = event
            else:
                return self._ended(event)
        return ""

    def _ended(self, event: Event) -> str:
        from rich.markup import escape

        start = self.running.pop(event.subject, event)
        self.latest.pop(event.subject, None)
        sign = {"done": "[green]✓[/]", "failed": "[red]✗[/]", "undone": "[yellow]↺[/]"}.get(event.state, "·")
        return f"{sign} {event.subject} [dim]{event.at - start.at:.1f} s {escape(event.text or start.text)}[/]"

    def __rich__(self) -> RenderableType:
        from rich.markup import escape
        from rich.text import Text

        with self.lock:
            now = time.monotonic()
            lines = [
                f"[cyan]…[/] {subject} [dim]{now - event.at:.0f} s {escape(self._state(subject))}[/]"
                for subject, event in list(self.running.items())[:12]
            ]
        return Text.from_markup("\n".join(lines))

    def _state(self, subject: str) -> str:
        event = self.latest.get(subject)
        if event is None:
            return ""
        share = f"{event.fraction:.0%} " if event.fraction is not None else ""
        return f"{share}{event.text}"[:100]


@contextmanager
def progress() -> Iterator[Sink]:
    """The sink that fits stderr."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.live import Live

    out = console(stderr=True)
    board = Board(out)
    with Live(board, console=out, refresh_per_second=8, transient=True):
        yield board


def plain(value: Any) -> Any:
    """Dataclasses, tuples and addresses → JSON types."""
    import dataclasses

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
