"""The Markdown report: the host, the targets, and a table a benchmark. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.rows import Skipped
from benchmarks.statistics import Summary
from benchmarks.targets import Judged

MIB = 2**20

LEGEND = """\
Seconds are medians, with the smallest and largest of all rounds. Floors and `vlab` were measured in turns. **× floor**: the median as a
multiple of the better floor's. **each**: seconds a guest. **each more**: what one guest more than at the size before took. **growth**: seconds a
guest as a multiple of those at the size before; 1.00 is linear, less is better. **CPU**: seconds of the processor that the command itself and
those it ran used, without libvirt and guests. **memory**: of the host, a guest: PSS of QEMU, or a container's memory control group and the PSS of its
controller. **disk**: a guest's own files, without what it shares with others.
"""
_HEADS = (
    "size",
    "variant",
    "n",
    "median",
    "min–max",
    "× floor",
    "each",
    "each more",
    "growth",
    "CPU",
    "memory",
    "disk",
)


def report(
    title: str,
    facts: Mapping[str, str],
    headings: Mapping[str, str],
    found: Sequence[Summary],
    skipped: Sequence[Skipped],
    targets: Sequence[Judged],
) -> str:
    """``headings`` are the benchmarks that were asked for, with a line on each."""
    parts = [f"# {title}", _table(("host", ""), facts.items())]
    if known := [target for target in targets if target.held is not None]:
        parts += ["## Targets", _table(("", "wanted", "found", "held"), map(_target, known))]
    for name, line in headings.items():
        parts += [f"## {name}", line, *_section(name, found, skipped)]
    return "\n\n".join([*parts, LEGEND])


def _section(name: str, found: Sequence[Summary], skipped: Sequence[Skipped]) -> list[str]:
    own = [summary for summary in found if summary.benchmark == name]
    table = [_table(_HEADS, map(_cells, own))] if own else []
    gaps = "\n".join(f"* {gap.size:,}: {gap.why}" for gap in skipped if gap.benchmark == name)
    return [*table, f"Not measured:\n\n{gaps}"] if gaps else table


def _target(target: Judged) -> tuple[str, ...]:
    return target.what, target.wanted, target.found, "yes" if target.held else "**no**"


def _cells(one: Summary) -> tuple[str, ...]:
    return (
        f"{one.size:,}",
        f"floor: {one.variant}" if one.floor_for else f"**{one.variant}**",
        str(one.rounds),
        seconds(one.median),
        f"{seconds(one.low)} – {seconds(one.high)}" if one.rounds > 1 else "",
        _number(one.of_floor),
        seconds(one.each),
        seconds(one.more),
        _number(one.growth),
        seconds(one.cpu_seconds),
        _mebibytes(one.memory),
        _mebibytes(one.disk),
    )


def seconds(value: float | None) -> str:
    """«12.3 s», «0.45 s», «8.1 ms», «35 µs»; empty for nothing."""
    if value is None:
        return ""
    if abs(value) >= 0.1:
        return f"{value:.1f} s" if abs(value) >= 10 else f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if abs(value) >= 0.001 else f"{value * 1e6:.0f} µs"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _mebibytes(value: float | None) -> str:
    return "" if value is None else f"{value / MIB:.1f} MiB"


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
