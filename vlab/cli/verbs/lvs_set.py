"""``lvs set``: another mode, scheduler, weight or persistence in a running lab."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from vlab.cli import changing, report
from vlab.cli.app import Output, OutputOption, family, lvs
from vlab.cli.changing import Asked
from vlab.engine import change
from vlab.engine.drivers import Drivers
from vlab.errors import UsageError
from vlab.lvs import resting
from vlab.plan import Plan
from vlab.topology import document
from vlab.topology.document import Plain
from vlab.topology.edit import Change
from vlab.topology.finding import meant
from vlab.topology.lab import Lab, Service

GONE = ("", "none", "off")
"""What takes a key away."""

OPTIONS = "--mode, --scheduler, --weight, --persistence, --set"


@family(lvs).command("set")
def set_(
    service: Annotated[str, typer.Argument(metavar="[LAB/]SERVICE", help="a service of a running lab")],
    mode: Annotated[str, typer.Option("--mode", help="another forwarding mode", show_default=False)] = "",
    scheduler: Annotated[str, typer.Option("--scheduler", help="another scheduler", show_default=False)] = "",
    weight: Annotated[
        list[str] | None, typer.Option("--weight", metavar="[NODE=]N", help="a weight, of one real server or of all")
    ] = None,
    persistence: Annotated[
        str, typer.Option("--persistence", metavar="TIME", help="like '300 s'; none for none", show_default=False)
    ] = "",
    keys: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="any other key of the service, as in the file"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print plan and diff, change nothing")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Change a service of a running lab, restarting nobody, and print the diff that would make it permanent in the file."""
    began = time.monotonic()
    drivers = Drivers.open()
    name, wanted = _meant(drivers, service)
    text, lab = changing.declared(drivers, name)
    found = _service(lab, wanted)
    words = {"mode": mode, "scheduler": scheduler, "persistence": persistence}
    wishes = list(asked(found, words, weight or [], keys or []))
    if not wishes:
        raise UsageError(f"nothing to change in {wanted}", hint=f"say what: {OPTIONS}")
    proposal = changing.propose(text, name, wishes)
    for node in resting.drained(found):
        if any(each.change.path[-2:] == ("weights", node) for each in wishes):
            report.note(f"{node} is drained: its weight counts after vlab undrain {name}/{node}")
    if dry_run:
        steps = change.preview(drivers, proposal)
    else:
        steps = changing.done(drivers, proposal, [found.name]).plan
        report.note(
            f"{name}: {len(steps.steps)} steps in {time.monotonic() - began:.1f} s"
            if steps
            else f"{name}: nothing to do"
        )
    _show(name, steps, changing.difference(proposal), output, dry_run=dry_run)


def _show(lab: str, steps: Plan, diff: str, output: Output, *, dry_run: bool) -> None:
    if output is Output.json:
        plan = [{"id": s.id, "action": s.action, "subject": s.subject, "why": s.why} for s in steps.steps]
        report.as_json({"lab": lab, "dry_run": dry_run, "plan": plan, "diff": diff})
        return
    if dry_run and steps:
        report.table(("step", "on", "why"), [(s.action, s.subject, s.why) for s in steps.steps])
    for line in diff.splitlines():
        report.say(line)


def _meant(drivers: Drivers, word: str) -> tuple[str, str]:
    """The lab and the service of «lab/www» or «www». Raises ``UsageError`` when it is not there or is in several labs."""
    from vlab.cli.labs import lab_name

    lab, _, service = word.rpartition("/")
    if lab:
        return lab_name(drivers, lab), service
    known = [(d.mark.lab, each.name) for d in drivers.hypervisors.survey()[0] for each in d.mark.services]
    labs = sorted({name for name, each in known if each == service})
    if len(labs) > 1:
        names = ", ".join(f"{name}/{service}" for name in labs)
        raise UsageError(f"{service} is in several labs", details=[names], hint=f"say which: {labs[0]}/{service}")
    if not labs:
        near = meant(service, dict.fromkeys(each for _, each in known))
        raise UsageError(f"no service called '{service}' runs", hint=near or "vlab status")
    return labs[0], service


def _service(lab: Lab, name: str) -> Service:
    for service in lab.services:
        if service.name == name:
            return service
    hint = meant(name, [service.name for service in lab.services]) or f"vlab status {lab.name}"
    raise UsageError(f"lab {lab.name} has no service '{name}'", hint=hint)


def asked(service: Service, words: dict[str, str], weights: list[str], keys: list[str]) -> Iterator[Asked]:
    """The changes of ``service`` that the options ask for; ``words`` are by key, empty where not given. Raises ``UsageError``."""
    path = resting.path_of(service)
    for key, word in words.items():
        if word:
            yield Asked(Change((*path, key), None if word in GONE else _value(word)), f"--{key} {word}")
    for word in weights:
        node, named, number = word.rpartition("=")
        where = (*path, "weights", node) if named else (*path, "weight")
        yield Asked(Change(where, _value(number)), f"--weight {word}")
    for word in keys:
        key, given, value = word.partition("=")
        if not key or not given:
            raise UsageError(
                f"--set {word}: what is to be set?", hint="write --set KEY=VALUE; nothing behind = takes the key away"
            )
        yield Asked(Change((*path, *key.split(".")), _value(value) if value else None), f"--set {word}")


def _value(word: str) -> Plain:
    """The word as the file would read it. Raises ``UsageError``."""
    found = document.read(f"value: {word}")
    data = document.plain(found.root) if found.root else None
    if found.problems or not isinstance(data, dict) or list(data) != ["value"] or data["value"] is None:
        reason = found.problems[0].message if found.problems else "it says nothing"
        raise UsageError(f"'{word}' is no value: {reason}", hint="write it as in the file, quoted for the shell")
    return data["value"]
