"""``validate``, ``schema``, ``plan``: no privileges, no changes."""

from __future__ import annotations

import typer

from vlab.cli import report
from vlab.cli.app import AsOption, FileArgument, Output, OutputOption, TopologyOption, app, topology_file

CHANGES_PENDING = 3


@app.command()
def validate(file: FileArgument = "", topo: TopologyOption = None) -> None:
    """Check a topology file; print every problem at once."""
    from vlab.images.recipe import catalogue
    from vlab.topology.parse import parse, read, warnings

    source = read(topology_file(file, topo))
    topology = parse(source, images=catalogue())
    for warning in warnings(source, topology):
        report.note(warning.render(source.file).replace(": ", ": warning: ", 1))
    report.say(f"{source.file}: ok (lab {topology.name})")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the topology language, for editors."""
    from vlab.topology.schema import schema as made

    report.as_json(made())


@app.command()
def plan(
    file: FileArgument = "", topo: TopologyOption = None, as_: AsOption = "", output: OutputOption = Output.table
) -> None:
    """Show what ``up`` would do and why; exit 3 when changes are pending."""
    from vlab.cli.labs import from_file
    from vlab.engine.drivers import Drivers
    from vlab.engine.lifecycle import preview

    _, lab = from_file(file, topo, as_)
    steps = preview(Drivers.open(), lab).steps
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
