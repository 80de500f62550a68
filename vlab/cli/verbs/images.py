"""``images``, ``build``, ``rm``: recipes and what is built from them."""

from __future__ import annotations

from typing import Annotated

import typer

from vlab.cli import report
from vlab.cli.app import Output, OutputOption, YesOption, app
from vlab.engine.drivers import Drivers
from vlab.errors import ConflictError, UsageError
from vlab.events import Event
from vlab.images.checkpoints import IMAGES, all_of
from vlab.images.goldens import Golden
from vlab.state import labs_on_disk
from vlab.topology.finding import meant

ImagesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="IMAGE", help="names, as vlab images shows them", show_default=False)
]


@app.command()
def images(output: OutputOption = Output.table) -> None:
    """Recipes, and what is built from them."""
    drivers = Drivers.open()
    built = drivers.store.built()
    rows: list[tuple[object, ...]] = [
        (b.image, b.form, b.digest[:12], _size(b.size), b.made, "yes" if b.current else "stale") for b in built
    ]
    goldens = drivers.goldens.all()
    rows += [
        (g.facts["image"], "golden", g.name.rpartition("-")[2][:12], _size(g.size), g.made, _shape(g)) for g in goldens
    ]
    missing = [name for name in drivers.recipes if name not in {b.image for b in built}]
    if output is Output.json:
        report.as_json(
            {"recipes": sorted(drivers.recipes), "built": report.plain(built), "goldens": report.plain(goldens)}
        )
    else:
        unbuilt = [(name, "-", "-", "-", "not built", "-") for name in missing]
        report.table(("image", "form", "digest", "size", "made", "current"), [*rows, *unbuilt])


def _shape(golden: Golden) -> str:
    facts = golden.facts
    cards = len(facts["nics"].split(", ")) if facts["nics"] else 0
    return f"{facts['form']}, {facts['accel']}, {facts['cpus']} CPU, {_size(int(facts['memory']))}, {cards} NIC"


def _size(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"


@app.command()
def build(
    image: ImagesArgument = None,
    form: Annotated[str, typer.Option("--form", metavar="FORM", help="rootfs, direct, disk, or all of them")] = "all",
) -> None:
    """Build images ahead of time; without a name, all of them."""
    from vlab.images.build import build as build_one
    from vlab.images.build import forms

    drivers = Drivers.open()
    chosen = [(drivers.recipes[name], one) for name in _known(drivers, image) for one in forms(form)]
    with report.progress() as sink:
        for recipe, one in chosen:
            subject = f"build-image/{recipe.name}:{one}"
            if drivers.store.find(recipe, one):
                sink(Event(subject, "done", "already built"))
                continue
            sink(Event(subject, "started"))
            build_one(recipe, one, drivers.store, sink)
            sink(Event(subject, "done"))


def _known(drivers: Drivers, chosen: list[str] | None) -> list[str]:
    unknown = sorted(set(chosen or ()) - set(drivers.recipes))
    if unknown:
        raise UsageError(f"no image is called '{unknown[0]}'", hint=meant(unknown[0], drivers.recipes))
    return chosen or list(drivers.recipes)


@app.command()
def rm(
    image: ImagesArgument = None,
    all_: Annotated[bool, typer.Option("--all", help="every built image")] = False,
    yes: YesOption = False,
) -> None:
    """Remove built images and their golden snapshots; those that a running lab or a checkpoint stands on are refused."""
    drivers = Drivers.open()
    if not image and not all_:
        raise UsageError("name the images, or --all", hint="vlab images")
    chosen = sorted({b.image for b in drivers.store.built()}) if all_ else _known(drivers, image)
    if used := [*_in_use(drivers, chosen), *_saved(drivers, chosen)]:
        raise ConflictError(
            "labs stand on these images", details=used, hint="vlab down running labs first; vlab discard checkpoints"
        )
    if not yes:
        typer.confirm(f"remove {', '.join(chosen) or 'nothing'}?", abort=True)
    for golden in _goldens(drivers, chosen):
        drivers.goldens.remove(golden.name)
    for name in ["all"] if all_ else chosen:
        drivers.store.remove(name)


def _in_use(drivers: Drivers, chosen: list[str]) -> list[str]:
    """Children stand on their parents' layers, so a base is in use where any child of it is."""
    domains, unreadable = drivers.hypervisors.survey()
    users = [(d.mark.node.image, f"{d.mark.lab}/{d.mark.node.name}") for d in domains]
    users += [(d.image, f"{d.lab}/{d.node}, which another version of vlab made") for d in unreadable if d.image]
    known = [f"{image}: {node}" for image, node in users if set(chosen) & _ancestry(drivers, image)]
    return known + [f"unknown: {d.lab}/{d.node}, which another version of vlab made" for d in unreadable if not d.image]


def _goldens(drivers: Drivers, chosen: list[str]) -> list[Golden]:
    return [golden for golden in drivers.goldens.all() if set(chosen) & _ancestry(drivers, golden.facts["image"])]


def _saved(drivers: Drivers, chosen: list[str]) -> list[str]:
    """Checkpoints of machines that were restored from goldens of these images, or booted them."""
    going = set(chosen)
    return [
        f"{lab}: checkpoint {each.name}"
        for lab in labs_on_disk(drivers.paths)
        for each in all_of(drivers.paths, lab)
        if going & {ancestor for image in each.facts[IMAGES].split(",") for ancestor in _ancestry(drivers, image)}
    ]


def _ancestry(drivers: Drivers, image: str) -> set[str]:
    return {recipe.name for recipe in drivers.recipes[image].chain} if image in drivers.recipes else {image}
