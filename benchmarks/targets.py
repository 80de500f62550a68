"""What the measurements are held against. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.statistics import Summary


@dataclass(frozen=True, slots=True)
class Target:
    """A median may take ``seconds`` at most, and ``of_floor`` times the better floor; 0 is no limit."""

    benchmark: str
    variant: str
    size: int
    seconds: float = 0.0
    of_floor: float = 0.0


TARGETS = (
    Target("web-db", "up", 8, seconds=10.0, of_floor=1.5),
    Target("web-db", "up --no-verify", 8, of_floor=1.5),
    Target("web-db", "up again", 8, seconds=1.0),
    Target("vms", "up", 12, seconds=15.0),
    Target("vms", "down", 12, seconds=5.0),
    Target("containers", "up", 100, seconds=40.0),
    Target("containers", "down", 100, seconds=5.0),
    Target("plan", "plan", 1_000, seconds=1.0),
    Target("plan", "plan", 10_000, seconds=10.0),
)


@dataclass(frozen=True, slots=True)
class Judged:
    """``held`` is None when the target's size was not measured."""

    what: str
    wanted: str
    found: str
    held: bool | None


def judged(found: Sequence[Summary]) -> list[Judged]:
    """Each limit of each target, with what was found."""
    by_place = {(s.benchmark, s.variant, s.size): s for s in found if not s.floor_for}
    return [
        line
        for target in TARGETS
        for line in _lines(target, by_place.get((target.benchmark, target.variant, target.size)))
    ]


def _lines(target: Target, found: Summary | None) -> list[Judged]:
    what = f"{target.benchmark}, {target.size:,}: {target.variant}"
    limits = [
        (target.seconds, " s", found.median if found else None),
        (target.of_floor, " × the floor", found.of_floor if found else None),
    ]
    return [_line(what, limit, unit, value) for limit, unit, value in limits if limit]


def _line(what: str, limit: float, unit: str, value: float | None) -> Judged:
    wanted = f"≤ {limit:g}{unit}"
    return (
        Judged(what, wanted, "not measured", None)
        if value is None
        else Judged(what, wanted, f"{value:.2f}{unit}", value <= limit)
    )
