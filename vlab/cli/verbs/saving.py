"""``warm``, ``save``, ``restore``, ``reset``, ``checkpoints``, ``discard``: guests that need not boot, and labs as they were."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from vlab.cli import interrupts, report, views
from vlab.cli.app import FileArgument, LabArgument, Output, OutputOption, TimeoutOption, TopologyOption, app
from vlab.engine.drivers import GUEST_TIMEOUT, Drivers
from vlab.engine.lifecycle import Start
from vlab.errors import UsageError
from vlab.state import Paths, labs_on_disk
from vlab.topology.lab import Lab

LabWord = Annotated[str, typer.Argument(metavar="LAB", help="a lab's name")]
NameWord = Annotated[str, typer.Argument(metavar="NAME", help="the checkpoint's name")]


@app.command()
def warm(file: FileArgument = "", topo: TopologyOption = None, timeout: TimeoutOption = GUEST_TIMEOUT) -> None:
    """Make ahead what «up» restores a topology's machines from."""
    from vlab.cli.files import from_file
    from vlab.engine import lifecycle

    began = time.monotonic()
    _, lab = from_file(file, topo)
    with report.progress() as sink:
        made = lifecycle.prepare(Drivers.open(guest_timeout=timeout), lab, sink)
    report.note(f"{lab.name}: {len(made)} golden snapshots, {time.monotonic() - began:.1f} s")


@app.command()
def save(lab: LabWord, name: NameWord) -> None:
    """Keep a running lab as it is: machines with their memory, containers with their files."""
    from vlab.cli.files import declared_lab
    from vlab.cli.labs import lab_name, refuse_bad_names
    from vlab.engine import lifecycle

    began = time.monotonic()
    drivers = Drivers.open()
    refuse_bad_names([lab, name])
    with report.progress() as sink:
        made = lifecycle.save(drivers, declared_lab(drivers, lab_name(drivers, lab)), name, sink)
    report.note(f"{lab}: saved as {made.name}, {made.size / 2**20:.0f} MiB, {time.monotonic() - began:.1f} s")


@app.command()
def restore(lab: LabWord, name: NameWord, timeout: TimeoutOption = GUEST_TIMEOUT) -> None:
    """Bring a lab back to a checkpoint, whether it runs or not; what it is now is lost."""
    from vlab.cli.files import lab_of
    from vlab.cli.labs import refuse_bad_names
    from vlab.images import checkpoints

    drivers = Drivers.open(guest_timeout=timeout)
    refuse_bad_names([lab, name])
    _refuse_unknown(drivers.paths, lab)
    checkpoint = checkpoints.find(drivers.paths, lab, name)
    text = (checkpoint.path / checkpoints.TOPOLOGY).read_text()
    again = lab_of(text, lab, f"{lab} (as saved in {name})")
    why = f"back to checkpoint {name}"
    _again(drivers, again, text, Start(again={node.name: why for node in again.nodes}, checkpoint=checkpoint))


@app.command()
def reset(
    word: Annotated[
        str, typer.Argument(metavar="NODE|LAB", help="a node (LAB/NODE where several labs have it), or a lab")
    ],
    cold: Annotated[bool, typer.Option("--cold", help="boot machines instead of restoring them")] = False,
    timeout: TimeoutOption = GUEST_TIMEOUT,
) -> None:
    """Bring a node, or all of a lab, back to what it was just after «up»; the others run on."""
    from vlab.cli.files import declaration
    from vlab.cli.labs import lab_or_node

    drivers = Drivers.open(guest_timeout=timeout)
    name, nodes = lab_or_node(drivers, word)
    text, lab = declaration(drivers, name)
    chosen = nodes or [node.name for node in lab.nodes]
    _again(drivers, lab, text, Start(cold=cold, again=dict.fromkeys(chosen, "reset")))


def _again(drivers: Drivers, lab: Lab, text: str, start: Start) -> None:
    from vlab.engine import lifecycle

    began = time.monotonic()
    interrupts.working_on(lab.name)
    with report.progress() as sink:
        outcome = lifecycle.up(drivers, lab, text, sink, start=start)
    report.note(f"{lab.name}: {len(outcome.plan.steps)} steps in {time.monotonic() - began:.1f} s")
    views.show_status(views.status_of(drivers, lab.name))


def _refuse_unknown(paths: Paths, lab: str) -> None:
    """Raise ``UsageError`` for a lab that has no folder, and so no checkpoints."""
    known = labs_on_disk(paths)
    if lab not in known:
        raise UsageError(f"no lab is called '{lab}'", hint=f"known: {', '.join(known) or 'none'}")


@app.command()
def checkpoints(lab: LabArgument = "", output: OutputOption = Output.table) -> None:
    """The checkpoints of a lab, or of all."""
    from vlab.images.checkpoints import all_of

    paths = Drivers.open().paths
    if lab:
        _refuse_unknown(paths, lab)
    found = [(name, each) for name in ([lab] if lab else labs_on_disk(paths)) for each in all_of(paths, name)]
    if output is Output.json:
        report.as_json([{"lab": name, "name": c.name, "made": c.made, "size": c.size} for name, c in found])
    else:
        report.table(
            ("lab", "name", "made", "size"), [(n, c.name, c.made, f"{c.size / 2**20:.0f} MiB") for n, c in found]
        )


@app.command()
def discard(lab: LabWord, name: NameWord) -> None:
    """Remove a checkpoint."""
    from vlab import state
    from vlab.cli.labs import refuse_bad_names
    from vlab.images.checkpoints import remove

    paths = Drivers.open().paths
    refuse_bad_names([lab, name])
    _refuse_unknown(paths, lab)
    with state.locked(paths, lab):
        remove(paths, lab, name)
    report.note(f"{lab}: checkpoint {name} is gone")
