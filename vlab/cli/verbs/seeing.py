"""``status``, ``ls``, ``audit``, ``verify``, ``explain``, ``doctor``: what is, what is left, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from vlab.cli import report, views
from vlab.cli.app import LabArgument, Output, OutputOption, TopologyOption, app, is_file, node_name
from vlab.engine.drivers import Drivers
from vlab.engine.status import Status
from vlab.topology.lab import Lab


@app.command()
def status(lab: LabArgument = "", topo: TopologyOption = None, output: OutputOption = Output.table) -> None:
    """Nodes, addresses, services and real servers of a lab; exit 1 unless all of it runs."""
    from vlab.cli.labs import lab_name

    drivers = Drivers.open()
    found = views.status_of(drivers, lab_name(drivers, lab or str(topo or "")))
    if output is Output.json:
        report.as_json(report.plain(found))
    else:
        views.show_status(found)
    if found.state != "running":
        raise typer.Exit(1)


@app.command()
def ls(output: OutputOption = Output.table) -> None:
    """All labs of this host."""
    from vlab.engine.labs import lab_names

    drivers = Drivers.open()
    names = lab_names(drivers)
    unreadable = {domain.lab: domain for domain in drivers.hypervisors.survey()[1] if domain.lab in names}
    rows = [_unreadable_row(name) if name in unreadable else _row(views.status_of(drivers, name)) for name in names]
    columns = ("lab", "state", "accel", "nodes", "networks", "services", "active")
    if output is Output.json:
        report.as_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        report.table(columns, [["-" if cell is None else cell for cell in row] for row in rows])
    for domain in unreadable.values():
        report.note(f"{domain.lab}: {domain.error()}")


def _row(found: Status) -> tuple[object, ...]:
    counts = (len(found.nodes), len(found.networks), len(found.services))
    return found.lab, found.state, found.accel, *counts, found.active


def _unreadable_row(lab: str) -> tuple[object, ...]:
    """Of a lab of another version of vlab nothing is known but that it is there."""
    return lab, "unreadable", None, None, None, None, None


@app.command()
def audit(output: OutputOption = Output.table) -> None:
    """Anything of ours on this host that belongs to no running lab; exit 1 if there is any."""
    from vlab.engine.audit import audit as leftovers

    found = leftovers(Drivers.open())
    if output is Output.json:
        report.as_json(report.plain(found))
    elif found:
        report.table(("what", "name", "lab", "to remove it"), [(i.kind, i.name, i.lab, i.fix) for i in found])
    else:
        report.say("nothing is left over")
    if found:
        raise typer.Exit(1)


def _declared(drivers: Drivers, lab: str, topo: object) -> Lab:
    """The declaration to hold a lab against: the file given, or what its last ``up`` declared."""
    from vlab.cli.files import declared_lab, from_file
    from vlab.cli.labs import lab_name

    if topo or is_file(lab):
        return from_file(lab if is_file(lab) else str(topo), None, "" if is_file(lab) else lab)[1]
    return declared_lab(drivers, lab_name(drivers, lab))


@app.command()
def verify(
    lab: LabArgument = "",
    topo: TopologyOption = None,
    output: OutputOption = Output.table,
    failover: Annotated[
        bool, typer.Option("--failover", help="instead: kill a pair's active director under load, and measure")
    ] = False,
) -> None:
    """Send real requests and compare the split, the director's table and every guest's settings with the file; exit 1 on any failure."""
    drivers = Drivers.open()
    if failover:
        _verify_failover(drivers, lab, topo, output)
        return
    declared = _declared(drivers, lab, topo)
    checks = views.verified(drivers, declared)
    passed = bool(checks) and all(check.ok for check in checks)
    if output is Output.json:
        report.as_json({"lab": declared.name, "ok": passed, "checks": report.plain(checks)})
    else:
        views.show_checks(declared.name, checks)
    if not passed:
        raise typer.Exit(1)


def _verify_failover(drivers: Drivers, lab: str, topo: object, output: Output) -> None:
    from vlab.cli import failovers, interrupts
    from vlab.cli.files import declaration, from_file
    from vlab.cli.labs import lab_name

    if topo or is_file(lab):
        text, declared = from_file(lab if is_file(lab) else str(topo), None, "" if is_file(lab) else lab)
    else:
        text, declared = declaration(drivers, lab_name(drivers, lab))
    interrupts.working_on(declared.name)
    checks, measured = failovers.proved(drivers, declared, text)
    passed = all(check.ok for check in checks)
    if output is Output.json:
        plain = report.plain(measured)
        report.as_json({"lab": declared.name, "ok": passed, "checks": report.plain(checks), "failover": plain})
    else:
        failovers.show(declared.name, checks, measured)
    if not passed:
        raise typer.Exit(1)


@app.command()
def explain(
    what: Annotated[str, typer.Argument(metavar="NODE|SERVICE", help="a node (or lab/node) or a service")],
    topo: TopologyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """What was set where, and why the forwarding mode needs it."""
    from vlab.lvs.explain import explain as explained

    name = node_name(what)
    rows = explained(_declared(Drivers.open(), name.lab, topo), name.node)
    if output is Output.json:
        report.as_json(report.plain(rows))
    else:
        report.table(("on", "setting", "why"), [(row.subject, row.setting, row.why) for row in rows])


@app.command()
def doctor(output: OutputOption = Output.table) -> None:
    """Everything that will stop or slow a lab on this host, each with its fix; exit 5 if something will stop it."""
    from vlab.host.probes import doctor as findings

    drivers = Drivers.open()
    found = findings(drivers.paths.root)
    if output is Output.json:
        report.as_json(report.plain(found))
    else:
        report.table(("probe", "", "found", "fix"), [(f.id, f.level, f.what, f.fix) for f in found])
    if any(f.level == "fail" for f in found):
        raise typer.Exit(5)
