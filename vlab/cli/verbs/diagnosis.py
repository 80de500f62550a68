"""``check``, ``fault inject``, ``fault clear``: what is wrong with a running lab, and breaking it on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vlab.cli import report
from vlab.cli.app import LabArgument, NodeOption, Output, OutputOption, app, family, fault, names
from vlab.engine.drivers import Drivers
from vlab.errors import UsageError
from vlab.topology.lab import Lab

if TYPE_CHECKING:
    from vlab.diagnosis.rule import Rule
    from vlab.engine.diagnosis import Checked

ListOption = Annotated[bool, typer.Option("--list", help="show the rules instead")]
LabWord = Annotated[str, typer.Argument(metavar="LAB", help="a lab's name", show_default=False)]


def _declared(lab: str) -> tuple[Drivers, Lab]:
    from vlab.cli.files import declared_lab
    from vlab.cli.labs import lab_name

    drivers = Drivers.open()
    return drivers, declared_lab(drivers, lab_name(drivers, lab))


@app.command()
def check(lab: LabArgument = "", list_: ListOption = False, output: OutputOption = Output.table) -> None:
    """Look for what people get wrong with LVS, in the running lab; exit 1 if anything is found."""
    if list_:
        _show_rules(output)
        return
    from vlab.engine.diagnosis import check as checked

    found = checked(*_declared(lab))
    if output is Output.json:
        report.as_json({"lab": found.lab, "ok": found.ok, **report.plain(found)})
    else:
        _show(found)
    if not found.ok:
        raise typer.Exit(1)


def _show(found: Checked) -> None:
    from vlab.diagnosis.rule import rules

    if found.findings:
        report.table(
            ("rule", "severity", "at", "found"),
            [(f.rule, f.severity, f.subject, "\n".join(f.evidence)) for f in found.findings],
        )
    for finding in found.findings:
        report.say(f"{finding.rule} at {finding.subject}: {finding.why}")
        for line in finding.fix:
            report.say(f"  fix: {line}")
    for node, why in found.unread.items():
        report.say(f"not looked at: {why}" if node in why else f"not looked at: {node}: {why}")
    count = len(found.findings)
    report.say(f"{found.lab}: {count or 'no'} finding{'' if count == 1 else 's'}, {len(rules())} rules")


def _show_rules(output: Output) -> None:
    from vlab.diagnosis.rule import rules

    if output is Output.json:
        report.as_json([_plain(rule) for rule in rules()])
    else:
        report.table(
            ("rule", "severity", "what is wrong", "what is probed"),
            [(r.id, r.severity, r.title, r.probes) for r in rules()],
        )


def _plain(rule: Rule) -> dict[str, object]:
    return {key: getattr(rule, key) for key in ("id", "number", "severity", "title", "probes", "why", "needs")}


@family(fault).command("inject")
def inject(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="a rule of vlab check --list", show_default=False)] = "",
    lab: LabWord = "",
    node: NodeOption = "",
    list_: Annotated[bool, typer.Option("--list", help="show what can be broken in the lab, and where")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Break exactly what a rule of «check» looks for, in the running lab."""
    if list_:
        _show_places(_declared(lab or rule)[1], output)
        return
    if not rule:
        raise UsageError("which rule is to be broken?", hint="vlab fault inject --list")
    from vlab.diagnosis.rule import rule as known
    from vlab.engine.injection import inject as broken

    known(rule)
    for each in broken(*_declared(lab), rule, names(node)):
        report.note(f"{each.rule} is broken at {each.place or 'the host side of the lab'}; vlab fault clear mends it")


def _show_places(lab: Lab, output: Output) -> None:
    from vlab.diagnosis.rule import rules

    rows = [(rule, [place or "(host side)" for place in rule.victims(lab)]) for rule in rules()]
    if output is Output.json:
        report.as_json(
            [{"rule": rule.id, "title": rule.title, "places": places, "needs": rule.needs} for rule, places in rows]
        )
    else:
        report.table(
            ("rule", "what it breaks", "where"),
            [(rule.id, rule.title, ", ".join(places) or f"not here: needs {rule.needs}") for rule, places in rows],
        )


@family(fault).command("clear")
def clear(lab: LabWord = "", output: OutputOption = Output.table) -> None:
    """Mend everything that «fault inject» broke."""
    from vlab.engine.injection import clear as mended

    drivers, declared = _declared(lab)
    with report.progress() as sink:
        found = mended(drivers, declared, sink)
    if output is Output.json:
        report.as_json([{"rule": each.rule, "place": each.place} for each in found])
    elif not found:
        report.note(f"{declared.name}: nothing is broken on purpose")
    for each in found if output is Output.table else []:
        report.note(f"{each.rule} at {each.place or 'the host side of the lab'}: mended")
