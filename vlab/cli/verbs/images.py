"""``images``, ``build``, ``rm``: recipes and what is built from them."""

from __future__ import annotations

from typing import Annotated

import typer

from vlab.cli import report
from vlab.cli.app import Output, OutputOption, YesOption, app
from vlab.engine.drivers import Drivers
from vlab.errors import ConflictError, UsageError

ImagesArgument = Annotated[list[str] | None, typer.Argument(metavar="[IMAGE…]", show_default=False)]


@app.command()
def images(output: OutputOption = Output.table) -> None:
    """Recipes, and what is built from them."""
    drivers = Drivers.open()
    built = drivers.store.built()
    rows = [(b.image, b.form, b.digest[:12], _size(b.size), b.made, "yes" if b.current else "stale") for b in built]
    missing = [name for name in drivers.recipes if name not in {b.image for b in built}]
    if output is Output.json:
        report.as_json({"recipes": sorted(drivers.recipes), "built": report.plain(built)})
    else:
        unbuilt = [(name, "-", "-", "-", "not built", "-") for name in missing]
        report.table(("image", "form", "digest", "size", "made", "current"), [*rows, *unbuilt])


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
    with report.progress() as sink:
        for name in _known(drivers, image):
            for one in forms(form):
                build_one(drivers.recipes[name], one, drivers.store, sink)


def _known(drivers: Drivers, chosen: list[str] | None) -> list[str]:
    unknown = sorted(set(chosen or ()) - set(drivers.recipes))
    if unknown:
        raise UsageError(
            f"no image is called {', '.join(unknown)}", details=[f"known: {', '.join(sorted(drivers.recipes))}"]
        )
    return chosen or list(drivers.recipes)


@app.command()
def rm(
    image: ImagesArgument = None,
    all_: Annotated[bool, typer.Option("--all", help="every built image")] = False,
    yes: YesOption = False,
) -> None:
    """Remove built images; those that a running lab stands on are refused."""
    drivers = Drivers.open()
    if not image and not all_:
        raise UsageError("name the images, or --all", hint="vlab images")
    chosen = sorted({b.image for b in drivers.store.built()}) if all_ else _known(drivers, image)
    if used := _in_use(drivers, chosen):
        raise ConflictError("running labs stand on these images", details=used, hint="vlab down them first")
    if not yes:
        typer.confirm(f"remove {', '.join(chosen) or 'nothing'}?", abort=True)
    for name in ["all"] if all_ else chosen:
        drivers.store.remove(name)


def _in_use(drivers: Drivers, chosen: list[str]) -> list[str]:
    """Children stand on their parents' layers, so a base is in use where any child of it is."""
    users = [(d.mark.node.image, f"{d.mark.lab}/{d.mark.node.name}") for d in drivers.hypervisors.domains()]
    return [f"{image}: {node}" for image, node in users if set(chosen) & _ancestry(drivers, image)]


def _ancestry(drivers: Drivers, image: str) -> set[str]:
    return {recipe.name for recipe in drivers.recipes[image].chain} if image in drivers.recipes else {image}
