"""What is measured, as data: one ``Row`` a measurement, and the CSV that keeps them."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. ``size`` is in the benchmark's unit (guests, ports); ``floor_for`` names the variant that this one is the floor of.

    ``cpu_seconds`` is what the command itself and those it ran used, not libvirt and not the guests. ``memory`` and ``disk`` are bytes of
    all guests together while they were up."""

    benchmark: str
    variant: str
    size: int
    round: int
    seconds: float
    cpu_seconds: float | None = None
    memory: int | None = None
    disk: int | None = None
    floor_for: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A size that was not measured, or not to its end, and why."""

    benchmark: str
    size: int
    why: str


class Table:
    """A CSV file that has each row as soon as it was measured: a run that ends early has lost none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("w", newline="") as file:
            csv.writer(file).writerow(field.name for field in fields(Row))

    def add(self, row: Row) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(_cell(value) for value in asdict(row).values())


def _cell(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value
