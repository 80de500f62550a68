"""``validate``, ``schema``, ``plan``: no privileges, no changes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from vlab.cli import report
from vlab.cli.app import AsOption, FileArgument, Output, OutputOption, TopologyOption, app, topology_file

if TYPE_CHECKING:
    from vlab.engine.drivers import Drivers

CHANGES_PENDING = 3


@app.command()
def validate(file: FileArgument = "", topo: TopologyOption = None) -> None:
    """Check a topology file; print every problem at once."""
    from vlab.images.recipe import catalogue
    from vlab.topology.parse import parse, read, warnings

    source = read(topology_file(file, topo))
    topology = parse(source, images=catalogue())
    doubts = warnings(source, topology)
    report.warnings(source.file, doubts)
    but = f", with {len(doubts)} warning{'s' if len(doubts) > 1 else ''}" if doubts else ""
    report.say(f"{source.file}: ok (lab {topology.name}){but}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the topology language, for editors."""
    from vlab.topology.schema import schema as made

    report.as_json(made())


def _unseen(drivers: Drivers) -> str:
    """Why ``plan`` may not have seen all there is; empty when it has."""
    if os.geteuid():
        return "vlab was not run as root"
    return "; ".join(f"{uri}: {why}" for uri, why in drivers.hypervisors.unreachable.items())


@app.command()
def plan(
    file: FileArgument = "", topo: TopologyOption = None, as_: AsOption = "", output: OutputOption = Output.table
) -> None:
    """Show what «up» would do, and why; exit 3 when changes are pending."""
    from vlab.cli.files import from_file
    from vlab.engine.drivers import Drivers
    from vlab.engine.preview import preview

    _, lab = from_file(file, topo, as_)
    drivers = Drivers.open()
    steps = preview(drivers, lab).steps
    if unseen := _unseen(drivers):
        report.note(f"{lab.name}: what could not be looked at counts as absent ({unseen})")
    if output is Output.json:
        report.as_json(
            [{"id": s.id, "action": s.action, "subject": s.subject, "why": s.why, "after": s.after} for s in steps]
        )
    elif steps:
        report.table(("step", "on", "why"), [(s.action, s.subject, s.why) for s in steps])
    else:
        report.say(f"{lab.name}: nothing to do")
    if steps:
        raise typer.Exit(CHANGES_PENDING)
