"""``up`` and ``down``."""

from __future__ import annotations

import sys
import tempfile
import time
from typing import TYPE_CHECKING, Annotated

import typer

from vlab import state
from vlab.cli import interrupts, report, views
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
from vlab.errors import UsageError, VerifyError, VlabError
from vlab.lvs import resting
from vlab.topology.lab import Lab

if TYPE_CHECKING:
    from vlab.cli.copies import Ended


@app.command()
def up(
    file: FileArgument = "",
    topo: TopologyOption = None,
    as_: AsOption = "",
    timeout: TimeoutOption = GUEST_TIMEOUT,
    output: OutputOption = Output.table,
    keep: Annotated[bool, typer.Option("--keep", help="after a failure keep what was made, for a look")] = False,
    verify: Annotated[bool, typer.Option(help="send traffic afterwards and compare")] = True,
    cold: Annotated[bool, typer.Option("--cold", help="boot every machine instead of restoring it")] = False,
) -> None:
    """Make the lab as the file says. A second run changes only what differs."""
    from vlab.cli.files import all_from_file

    drivers = Drivers.open(guest_timeout=timeout)
    made = all_from_file(file, topo, names(as_))
    if len(made) > 1:
        flags = {"--keep": keep, "--no-verify": not verify, "--cold": cold}
        words = ["--timeout", str(timeout), *(flag for flag, given in flags.items() if given)]
        _up_copies(drivers, made[0][0], [lab for _, lab in made], words, output)
        return
    text, lab = made[0]
    shown = _up_one(drivers, text, lab, keep=keep, verify=verify, cold=cold, output=output)
    if output is Output.json:
        report.as_json(shown)


def _up_copies(drivers: Drivers, text: str, labs: list[Lab], words: list[str], output: Output) -> None:
    """Copies of one topology side by side. What they share is made first, once; whether they all fit is asked before."""
    from vlab.cli import copies
    from vlab.engine import admission, lifecycle

    admission.refuse_together(labs, drivers.hypervisors.labs())
    with report.progress() as sink:
        lifecycle.prepare(drivers, labs[0], sink, cold="--cold" in words)
    with tempfile.NamedTemporaryFile("w", prefix="vlab-", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        ended = copies.each("up", [lab.name for lab in labs], [file.name, "-o", "json", *words])
    if output is Output.json:
        report.as_json([each.shown for each in ended])
    else:
        report.table(("lab", "state", "nodes", "checks", "seconds"), [_copy_row(each) for each in ended])
    for each in ended:
        if each.code:
            report.note(f"{each.lab}: {each.told}")
    raise typer.Exit(copies.worst(ended))


def _copy_row(ended: Ended) -> tuple[object, ...]:
    if not ended.shown:
        return ended.lab, "failed", "", "", f"{ended.seconds:.1f}"
    status, checks = ended.shown["status"], ended.shown["verify"]
    good = sum(check["ok"] for check in checks)
    return ended.lab, status["state"], len(status["nodes"]), f"{good} of {len(checks)} ok", f"{ended.seconds:.1f}"


def _up_one(drivers: Drivers, text: str, lab: Lab, *, keep: bool, verify: bool, cold: bool, output: Output) -> object:
    from vlab.engine import lifecycle

    since, began = time.time(), time.monotonic()
    interrupts.working_on(lab.name)
    before = _with_drained(drivers, lab.name)
    try:
        with report.progress() as sink:
            outcome = lifecycle.up(drivers, lab, text, sink, keep=keep, start=lifecycle.Start(cold=cold))
    except BaseException as error:
        if not interrupts.count():
            raise
        report.note(_after_interrupt(drivers, lab.name, since))
        # A signal that came in the middle of libvirt's C code arrives as a SystemError.
        raise KeyboardInterrupt from error
    report.note(_summary(lab, outcome, time.monotonic() - began))
    for told in resting.woken(before, lab) if before else []:
        report.note(f"{lab.name}: {told}")
    if verify and outcome.plan and lab.services:
        checks, found = views.proved(drivers, lab)
    else:
        checks, found = [], views.status_of(drivers, lab.name)
    if output is Output.table:
        views.show_status(found)
        views.show_checks(lab.name, checks)
    if not all(check.ok for check in checks):
        raise VerifyError(f"lab {lab.name} runs, but does not behave as declared", hint=f"vlab verify {lab.name}")
    return {"status": report.plain(found), "verify": report.plain(checks)}


def _with_drained(drivers: Drivers, lab: str) -> Lab | None:
    """The lab as it was declared until now, None where no server of it rests."""
    from vlab.cli.files import declared_lab

    if "drained" not in (state.declared(drivers.paths, lab) or ""):
        return None
    try:
        return declared_lab(drivers, lab)
    except VlabError:  # declared by another version of vlab
        return None


def _after_interrupt(drivers: Drivers, lab: str, since: float) -> str:
    """What a run that was called off says of its lab: of what is there, not of what should be. It began at ``since`` (``time.time``)."""
    from vlab.engine.observe import observe_any
    from vlab.plan import remove

    left = [step.subject for step in remove(observe_any(drivers, lab)).steps]
    if not left:
        return f"{lab}: nothing of it is left"
    if not state.Journal(drivers.paths.journal(lab)).kept(since):
        return f"{lab}: what this run made is undone; what was there before may still run\n(hint: vlab status {lab})"
    return f"{lab}: not undone: {', '.join(dict.fromkeys(left))}\n(hint: vlab down {lab} removes it)"


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
    keep: Annotated[bool, typer.Option("--keep", help="keep its checkpoints, for vlab restore")] = False,
    as_: AsOption = "",
    yes: YesOption = False,
) -> None:
    """Remove a lab and every trace of it, by the marks it carries."""
    from vlab.cli.labs import lab_name, refuse_bad_names
    from vlab.engine.labs import lab_names

    drivers = Drivers.open()
    chosen = lab_names(drivers) if all_ else names(as_) or [lab_name(drivers, lab or str(topo or ""))]
    refuse_bad_names(chosen)
    if all_ and len(chosen) > 1 and not yes:
        _confirm(chosen)
    if len(chosen) > 1:
        _down_many(chosen, keep=keep)
    elif chosen:
        _down_one(drivers, chosen[0], keep=keep)
    else:
        report.note("no lab is there")


def _down_many(chosen: list[str], *, keep: bool) -> None:
    from vlab.cli import copies

    ended = copies.each("down", chosen, ["--keep"] if keep else [])
    for each in ended:
        report.note(f"{each.lab}: {each.told}" if each.code else f"{each.lab}: gone ({each.seconds:.1f} s)")
    if code := copies.worst(ended):
        raise typer.Exit(code)


def _confirm(chosen: list[str]) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"this would remove {len(chosen)} labs: {', '.join(chosen)}", hint="add -y")
    typer.confirm(f"remove {', '.join(chosen)}?", abort=True)


def _down_one(drivers: Drivers, name: str, *, keep: bool) -> None:
    from vlab.engine import lifecycle

    began = time.monotonic()
    interrupts.working_on(name)
    try:
        with report.progress() as sink:
            lifecycle.down(drivers, name, sink, keep=keep)
    except BaseException as error:
        if not interrupts.count():
            raise
        report.note(f"{name}: not all of it is gone\n(hint: vlab down {name} removes the rest)")
        raise KeyboardInterrupt from error
    report.note(f"{name}: gone ({time.monotonic() - began:.1f} s)")
