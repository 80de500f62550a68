"""``verify --failover``: each pair of a lab through a failover and back, as checks and as a table."""

from __future__ import annotations

from vlab.cli import report, views
from vlab.engine.drivers import Drivers
from vlab.errors import UsageError
from vlab.lvs import failover
from vlab.lvs.checks import Check
from vlab.lvs.failover import Cost, Measured
from vlab.topology.lab import Lab

COLUMNS = ("service", "event", "outage", "requests lost", "connections survived")


def proved(drivers: Drivers, lab: Lab, text: str) -> tuple[list[Check], list[Measured]]:
    """One failover of every pair, one pair after the other. Raises ``UsageError`` in a lab without one."""
    from vlab.engine.failover import measure

    if not lab.pairs:
        raise UsageError(f"lab {lab.name} has no pair of directors", hint="write count: 2 at the director")
    checks: list[Check] = []
    measured: list[Measured] = []
    with report.progress() as sink:
        for pair in lab.pairs:
            found = measure(drivers, lab, text, pair, sink)
            measured += found
            checks += failover.judged(pair, found)
    return checks, measured


def show(lab: str, checks: list[Check], measured: list[Measured]) -> None:
    report.table(COLUMNS, [row for one in measured for row in _rows(one)])
    views.show_checks(lab, checks)


def _rows(one: Measured) -> list[tuple[object, ...]]:
    gone = f"{one.killed} killed, {one.took_over or 'nobody'} took over (sync {'on' if one.sync else 'off'})"
    back = f"{one.killed} back after {one.back_seconds:g} s, {one.active_after or 'nobody'} active"
    return [_row(one.service, gone, one.failover), _row(one.service, back, one.back)]


def _row(service: str, event: str, cost: Cost) -> tuple[object, ...]:
    outage = "for good" if cost.outage_ms is None else f"{cost.outage_ms} ms"
    return service, event, outage, f"{cost.lost} of {cost.requests}", f"{cost.survived} of {cost.connections}"
