"""``up`` and ``down``."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from vlab.cli import report, views
from vlab.cli.app import (
    AsOption,
    FileArgument,
    LabArgument,
    Output,
    OutputOption,
    TimeoutOption,
    TopologyOption,
    YesOption,
    app,
    names,
)  # fmt: skip
from vlab.engine.drivers import GUEST_TIMEOUT, Drivers
from vlab.engine.lifecycle import Outcome
from vlab.errors import UsageError, VerifyError
from vlab.topology.lab import Lab


@app.command()
def up(
    file: FileArgument = "",
    topo: TopologyOption = None,
    as_: AsOption = "",
    timeout: TimeoutOption = GUEST_TIMEOUT,
    output: OutputOption = Output.table,
    keep: Annotated[bool, typer.Option("--keep", help="after a failure keep what was made, for a look")] = False,
    verify: Annotated[bool, typer.Option(help="send traffic afterwards and compare")] = True,
) -> None:
    """Make the lab as the file says. A second run changes only what differs."""
    from vlab.cli.labs import all_from_file

    drivers = Drivers.open(guest_timeout=timeout)
    shown = [
        _up_one(drivers, text, lab, keep=keep, verify=verify, output=output)
        for text, lab in all_from_file(file, topo, names(as_))
    ]
    if output is Output.json:
        report.as_json(shown if len(shown) > 1 else shown[0])


def _up_one(drivers: Drivers, text: str, lab: Lab, *, keep: bool, verify: bool, output: Output) -> object:
    from vlab.engine import lifecycle

    began = time.monotonic()
    with report.progress() as sink:
        outcome = lifecycle.up(drivers, lab, text, sink, keep=keep)
    report.note(_summary(lab, outcome, time.monotonic() - began))
    checks = views.verified(drivers, lab) if verify and outcome.plan and lab.services else []
    found = views.status_of(drivers, lab.name)
    if output is Output.table:
        views.show_status(found)
        views.show_checks(lab.name, checks)
    if not all(check.ok for check in checks):
        raise VerifyError(f"lab {lab.name} runs, but does not behave as declared", hint=f"vlab verify {lab.name}")
    return {"status": report.plain(found), "verify": report.plain(checks)}


def _summary(lab: Lab, outcome: Outcome, seconds: float) -> str:
    if not outcome.plan:
        return f"{lab.name}: nothing to do ({seconds:.1f} s)"
    why = (
        f"; virtual machines run under {outcome.accel.upper()}: {outcome.accel_why}" if outcome.accel != "none" else ""
    )
    return f"{lab.name}: {len(outcome.plan.steps)} steps in {seconds:.1f} s{why}"


@app.command()
def down(
    lab: LabArgument = "",
    topo: TopologyOption = None,
    all_: Annotated[bool, typer.Option("--all", help="every lab on this host")] = False,
    as_: AsOption = "",
    yes: YesOption = False,
) -> None:
    """Remove a lab and every trace of it, by the marks it carries."""
    from vlab.cli.labs import lab_name
    from vlab.engine.observe import lab_names

    drivers = Drivers.open()
    chosen = lab_names(drivers) if all_ else names(as_) or [lab_name(drivers, lab or str(topo or ""))]
    if all_ and len(chosen) > 1 and not yes:
        _confirm(chosen)
    for name in chosen:
        _down_one(drivers, name)


def _confirm(chosen: list[str]) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"this would remove {len(chosen)} labs: {', '.join(chosen)}", hint="add -y")
    typer.confirm(f"remove {', '.join(chosen)}?", abort=True)


def _down_one(drivers: Drivers, name: str) -> None:
    from vlab.engine import lifecycle

    began = time.monotonic()
    with report.progress() as sink:
        lifecycle.down(drivers, name, sink)
    report.note(f"{name}: gone ({time.monotonic() - began:.1f} s)")
