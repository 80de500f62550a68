"""From rows to what is said of them: medians, what a guest costs, how that grows, how far from the floor. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.rows import Row


@dataclass(frozen=True, slots=True)
class Summary:
    """All rounds of one variant at one size. ``memory`` and ``disk`` are bytes a guest. ``of_floor``: the median as a multiple of the better
    floor's; ``more``: seconds that each guest more than at the next smaller size took; ``growth``: seconds a guest as a multiple of those at
    the next smaller size. None where there is nothing to compare with."""

    benchmark: str
    variant: str
    size: int
    floor_for: str
    rounds: int
    median: float
    low: float
    high: float
    cpu_seconds: float | None
    memory: float | None
    disk: float | None
    of_floor: float | None = None
    more: float | None = None
    growth: float | None = None

    @property
    def each(self) -> float:
        """Seconds a guest."""
        return self.median / self.size


def summaries(rows: Iterable[Row]) -> list[Summary]:
    """One for each benchmark, size and variant, in order of size, and within one in the order of measuring."""
    groups: dict[tuple[str, int, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.benchmark, row.size, row.variant, row.floor_for), []).append(row)
    plain = [_summary(group) for group in groups.values()]
    return sorted((_compared(each, plain) for each in plain), key=lambda each: (each.benchmark, each.size))


def _summary(rows: Sequence[Row]) -> Summary:
    first, seconds = rows[0], [row.seconds for row in rows]
    return Summary(
        first.benchmark, first.variant, first.size, first.floor_for,
        len(rows), median(seconds), min(seconds), max(seconds),
        _median(row.cpu_seconds for row in rows),
        _each(_median(row.memory for row in rows), first.size),
        _each(_median(row.disk for row in rows), first.size),
    )  # fmt: skip


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _each(total: float | None, size: int) -> float | None:
    return None if total is None else total / size


def _compared(one: Summary, all_: Sequence[Summary]) -> Summary:
    floors = [s.median for s in all_ if (s.benchmark, s.size, s.floor_for) == (one.benchmark, one.size, one.variant)]
    smaller = [
        s
        for s in all_
        if (s.benchmark, s.variant, s.floor_for) == (one.benchmark, one.variant, one.floor_for) and s.size < one.size
    ]
    before = max(smaller, key=lambda s: s.size, default=None)
    return replace(
        one,
        of_floor=one.median / min(floors) if floors else None,
        more=(one.median - before.median) / (one.size - before.size) if before else None,
        growth=one.each / before.each if before else None,
    )
