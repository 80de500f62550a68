"""Run benchmarks, and write a CSV file and a Markdown report: ``python -m benchmarks --help``. Needs root.

Ctrl-C takes away what runs and still writes the report of what was measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import interrupts
from benchmarks.case import Case, cases
from benchmarks.command import Failed, vlab
from benchmarks.facts import facts
from benchmarks.report import report, seconds
from benchmarks.rows import Row, Skipped, Table
from benchmarks.statistics import summaries
from benchmarks.targets import judged
from vlab import state
from vlab.engine.drivers import Drivers
from vlab.errors import VlabError

OUTPUT = Path("bench-results")
ROUNDS = 5
LOCK = "bench-floor"
"""One run at a time: another would sweep away this one's guests."""


@dataclass
class Run:
    """What was measured so far, kept in ``table``."""

    table: Table
    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    failed: bool = False

    def case(self, case: Case, sizes: Sequence[int], rounds: int) -> None:
        for size in sizes:
            try:
                self._size(case, size, rounds)
            except (Failed, VlabError, OSError, RuntimeError) as error:
                self.failed = True
                self._skip(case, size, f"it failed: {_words(error)}")

    def _size(self, case: Case, size: int, rounds: int) -> None:
        if why := case.lacks(size):
            self._skip(case, size, why)
            return
        with closing(case.measure(size, rounds)) as rows:
            for row in rows:
                self.rows.append(row)
                self.table.add(row)
                floor = "floor: " if row.floor_for else ""
                print(f"{row.benchmark} {row.size}, round {row.round}: {floor}{row.variant} {seconds(row.seconds)}")

    def _skip(self, case: Case, size: int, why: str) -> None:
        self.skipped.append(Skipped(case.name, size, why))
        print(f"{case.name} {size}: not measured: {why}", file=sys.stderr)


def main() -> int:
    known = cases()
    asked = _arguments(known)
    chosen = {name: known[name] for name in asked.which or known}
    if os.geteuid() and (names := _privileged(chosen)):
        print(f"run {', '.join(names)} as root", file=sys.stderr)
        return 5
    interrupts.take()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a file here, never a stand-in
    return _locked(chosen, asked)


def _privileged(chosen: Mapping[str, Case]) -> list[str]:
    return [name for name, case in chosen.items() if case.privileged]


def _locked(chosen: Mapping[str, Case], asked: argparse.Namespace) -> int:
    drivers = Drivers.open()
    if not _privileged(chosen):
        return _run(drivers, chosen, asked)
    try:
        with state.locked(drivers.paths, LOCK):
            return _run(drivers, chosen, asked)
    except VlabError as error:
        print(_words(error), file=sys.stderr)
        return 1


def _run(drivers: Drivers, chosen: Mapping[str, Case], asked: argparse.Namespace) -> int:
    asked.output.mkdir(parents=True, exist_ok=True)
    stem = asked.output / time.strftime("%Y%m%d-%H%M%S")
    run, host, complete = Run(Table(stem.with_suffix(".csv"))), facts(drivers), False
    try:
        for case in chosen.values():
            run.case(case, case.quick if asked.quick else case.sizes, asked.rounds)
        host["left behind"] = "nothing (`vlab audit`)" if _clean() else "`vlab audit` found something"
        complete = True
    except KeyboardInterrupt:
        host["this run"] = "was interrupted: numbers are missing"
    finally:
        stem.with_suffix(".md").write_text(_report(run, host, chosen, quick=asked.quick))
        print(f"{stem.with_suffix('.md')}\n{run.table.path}")
    return (1 if run.failed else 0) if complete else 130


def _report(run: Run, host: Mapping[str, str], chosen: Mapping[str, Case], *, quick: bool) -> str:
    found = summaries(run.rows)
    title = f"vlab's benchmarks, {time.strftime('%Y-%m-%d %H:%M')}{' (a quick trial)' if quick else ''}"
    headings = {name: case.title for name, case in chosen.items()}
    return report(title, host, headings, found, run.skipped, judged(found))


def _clean() -> bool:
    return vlab("audit", codes=(0, 1)).output.find("bench") < 0


def _words(error: BaseException) -> str:
    return " / ".join(str(error).splitlines()) or type(error).__name__


def _arguments(known: Mapping[str, Case]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure vlab beside its floors.")
    parser.add_argument("which", nargs="*", metavar="NAME", help=f"{', '.join(known)}; all of them where none is named")
    parser.add_argument("--rounds", type=_positive, default=0, help=f"of each measurement ({ROUNDS}; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work?")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT, metavar="DIR", help=f"({OUTPUT})")
    asked = parser.parse_args()
    if strange := [name for name in asked.which if name not in known]:
        parser.error(f"no benchmark is called {', '.join(strange)}; known: {', '.join(known)}")
    asked.rounds = asked.rounds or (1 if asked.quick else ROUNDS)
    return asked


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
