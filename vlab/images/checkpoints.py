"""Checkpoints of labs on disk: every node of a lab as it was at one moment, in a folder of its own, and the topology as it was declared.

A machine's disk is copied without what it lies over, so a checkpoint needs the golden snapshot or the image that is below.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlab.errors import UsageError
from vlab.images import snapshots
from vlab.images.snapshots import Snapshot
from vlab.state import Paths, labs_on_disk

TOPOLOGY = "topology.yaml"
NEEDS = "needs"
"""The fact that names, with commas, the goldens that a checkpoint's disks lie over."""
IMAGES = "images"
"""The fact that names, with commas, the images of its nodes."""


def all_of(paths: Paths, lab: str) -> list[Snapshot]:
    """The lab's checkpoints, oldest first."""
    found = (snapshots.read(path.parent) for path in paths.checkpoints(lab).glob(f"*/{snapshots.MANIFEST}"))
    return sorted((each for each in found if each), key=lambda each: each.path.stat().st_mtime)


def find(paths: Paths, lab: str, name: str) -> Snapshot:
    """Raises ``UsageError`` when there is none of this name."""
    known = {each.name: each for each in all_of(paths, lab)}
    if name not in known:
        raise UsageError(
            f"lab {lab} has no checkpoint '{name}'", hint=f"known: {', '.join(known) or 'none'}; vlab save makes one"
        )
    return known[name]


def needed(paths: Paths) -> set[str]:
    """Names of the goldens that any lab's checkpoint lies over."""
    kept = (each for lab in labs_on_disk(paths) for each in all_of(paths, lab))
    return {name for each in kept for name in each.facts.get(NEEDS, "").split(",") if name}


@contextmanager
def making(paths: Paths, lab: str, name: str, facts: dict[str, str]) -> Iterator[Path]:
    """An empty folder that becomes the checkpoint when the block ends well; what killed runs left is gone before. Under the lab's lock."""
    folder = paths.checkpoints(lab)
    for left in folder.glob("tmp-*"):
        shutil.rmtree(left)
    if (folder / name).exists():
        raise UsageError(
            f"lab {lab} has a checkpoint '{name}' already", hint=f"vlab discard {lab} {name}, or take another name"
        )
    unfinished = folder / f"tmp-{name}"
    unfinished.mkdir(mode=0o755, parents=True)
    try:
        yield unfinished
        snapshots.seal(unfinished, folder / name, facts)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def remove(paths: Paths, lab: str, name: str) -> None:
    """Raises ``UsageError`` when there is none of this name."""
    found = find(paths, lab, name)
    hidden = found.path.with_name(f"tmp-{name}")
    found.path.rename(hidden)
    shutil.rmtree(hidden)
    if not any(paths.checkpoints(lab).iterdir()):
        paths.checkpoints(lab).rmdir()
