"""How things look: progress on stderr (live on a terminal, one line an event elsewhere), tables and JSON on stdout, errors."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlab import state
from vlab.errors import HostError, Problem, TopologyError, VlabError
from vlab.events import Event, Sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

Rows = Sequence[Sequence[object]]
LONGEST_UNBROKEN = 24


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


class _Unbreakable(io.TextIOWrapper):
    """A stream whose reader may go: a run must not fail because its terminal was closed, nor stop its undoing half-way."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def unbreakable_stderr() -> None:
    """From now on nothing that is said on stderr can fail."""
    said = sys.stderr
    sys.stderr = _Unbreakable(said.buffer, said.encoding, "backslashreplace", line_buffering=True, write_through=True)


class LogLines(logging.StreamHandler[Any]):
    """Log lines on what stderr is at that moment: above the live display where there is one, not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


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
    console().print(boxed(columns, rows, title))


def boxed(columns: Sequence[str], rows: Rows, title: str = "") -> RenderableType:
    """The table that a terminal shows."""
    from rich import box
    from rich.table import Table

    shown = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1))
    for number, column in enumerate(columns):
        words = f"{column} {' '.join(str(row[number]) for row in rows)}".split()
        # Addresses and names are to be copied: no column gets narrower than its longest word, within reason.
        shown.add_column(column, overflow="fold", min_width=min(max(map(len, words), default=0), LONGEST_UNBROKEN))
    for row in rows:
        shown.add_row(*(_coloured(str(cell)) for cell in row))
    return shown


_COLOURS = {
    "running": "green", "up": "green", "ok": "green", "yes": "green",
    "absent": "red", "down": "red", "FAILED": "red", "fail": "red", "quiesced": "yellow", "drained": "yellow", "warn": "yellow",
}  # fmt: skip


def _coloured(text: str) -> str:
    from rich.markup import escape

    colour = _COLOURS.get(text)
    return f"[{colour}]{text}[/]" if colour else escape(text)


def warnings(file: str, doubts: Iterable[Problem]) -> None:
    """What is doubtful in a valid file, on stderr, each at its place."""
    for doubt in doubts:
        note(replace(doubt, message=f"warning: {doubt.message}").render(file))


def error(problem: VlabError) -> None:
    """An error on stderr: what, details, hint, and what else went wrong meanwhile. A line about a file begins with the place, where
    editors look for it."""
    told = str(problem) if isinstance(problem, TopologyError) else f"vlab: {problem}"
    lines = [told, *(f"also: {text}" for text in getattr(problem, "__notes__", ()))]
    note("\n".join(lines))


_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def as_vlab_error(problem: Exception) -> VlabError:
    """What to tell of an error that nobody in vlab met: the host's refusals are its owner's, all else is a bug of ours."""
    if isinstance(problem, HostError) and os.geteuid():
        told = HostError(problem.what, details=problem.details, hint=_as_root(problem.hint))
        told.__notes__ = getattr(problem, "__notes__", [])
        return told
    if isinstance(problem, VlabError):
        return problem
    if isinstance(problem, OSError) and (problem.errno in _REFUSALS or _of_state(problem.filename)):
        what = f"{problem.filename or 'this host'}: {os.strerror(problem.errno or 0)}"
        hint = "VLAB_STATE names another folder for what vlab keeps"
        return HostError(what, hint=_as_root(hint) if os.geteuid() else f"vlab doctor says more; {hint}")
    what = f"internal error: {type(problem).__name__}: {problem}"
    return VlabError(what, hint="run again with --debug and report it")


def _as_root(otherwise: str) -> str:
    return f"run it as root, with sudo (validate, schema and plan need no rights); or: {otherwise}"


def _of_state(file: object) -> bool:
    return file is not None and Path(str(file)).is_relative_to(state.paths().root)


def traceback() -> None:
    """The traceback of the exception at hand, on stderr."""
    from traceback import format_exc

    note(format_exc().rstrip())


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
        """Keep the event; the line to print when it ends something or is to stay, else nothing."""
        from rich.markup import escape

        with self.lock:
            if event.state == "started":
                self.running[event.subject] = event
            elif event.state == "progress":
                self.latest[event.subject] = event
            elif event.state == "note":
                return f"· {event.subject} {escape(event.text)}"
            else:
                return self._ended(event)
        return ""

    def _ended(self, event: Event) -> str:
        from rich.markup import escape

        start = self.running.pop(event.subject, event)
        self.latest.pop(event.subject, None)
        sign = {"done": "[green]✓[/]", "failed": "[red]✗[/]", "undone": "[yellow]↺[/]"}.get(event.state, "·")
        return f"{sign} {event.subject} [dim]{event.at - start.at:.1f} s {escape(_first_line(event.text or start.text))}[/]"

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


def _first_line(text: str) -> str:
    """The whole of an error is told at the end of the run; one line of it says which step it was."""
    return text.partition("\n")[0]


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
    """Dataclasses, tuples and addresses → JSON types. A field whose metadata say «optional» is left out when it is None."""
    import dataclasses

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = {f: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {f.name: plain(v) for f, v in given.items() if v is not None or not f.metadata.get("optional")}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
