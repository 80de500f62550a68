"""A node's own disk or root, made over an artefact that many nodes share and nobody writes to.

A VM gets a qcow2 overlay, a container an overlayfs whose mount is made by ``host.mounts``. All of it lies in the node's clone
folder; throwing the clone away is removing that folder. Nothing secret is in an artefact: host keys come with the settings.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from vlab.guests.settings import File
from vlab.images.artifact import Artifact, Clone
from vlab.images.seed import archive, into_tree
from vlab.images.snapshots import DISK, TREE
from vlab.run import run

_QCOW2 = b"QFI\xfb"


class Mounts(Protocol):
    """What clones need of the host: overlay mounts where libvirt sees them. Both are idempotent."""

    def overlay(self, layers: Sequence[Path], upper: Path, work: Path, target: Path) -> None: ...

    def unmount(self, target: Path) -> None: ...


def planned(artifact: Artifact, folder: Path) -> Clone:
    """The clone that ``make`` will leave in ``folder``. Pure."""
    if artifact.disk is None:
        return Clone(artifact, root=folder / "root")
    return Clone(artifact, disk=folder / DISK, initrd=folder / "initrd" if artifact.initrd else None)


def make(artifact: Artifact, folder: Path, mounts: Mounts, seed: Sequence[File] = ()) -> Clone:
    """Make the clone, or return it when it is there and stands on this very artefact.

    ``seed`` files are in the guest before anything starts in it, where its form can be seeded: a boot from the disk's own boot
    loader goes without. ``folder`` is the node's own. Its content is kept from run to run until ``remove``; a disk of
    another artefact is replaced.
    """
    _make_folder(folder)
    clone = planned(artifact, folder)
    if clone.disk is not None:
        assert artifact.disk is not None
        _overlay_disk(artifact.disk, clone.disk)
    else:
        _overlay_root(artifact, folder, mounts, seed)
    _write_initrd(clone, seed)
    return clone


def save_disk(folder: Path, into: Path) -> None:
    """Copy the disk of a clone whose guest is paused. What it lies over is not copied."""
    _copy(folder / DISK, into / DISK)


def save_tree(folder: Path, into: Path) -> None:
    """Copy what a container has changed of its root: its overlay's upper tree, with the marks of what it has deleted."""
    run(["tar", "-C", str(folder / "upper"), *_WHOLE, "-cf", str(into / TREE), "."])


def revive(artifact: Artifact, saved: Path, folder: Path, mounts: Mounts) -> Clone:
    """Make the clone in ``folder`` that ``save_disk`` or ``save_tree`` copied into ``saved``."""
    _make_folder(folder)
    clone = planned(artifact, folder)
    if clone.disk is not None:
        _copy(saved / DISK, clone.disk)
    else:
        (folder / "upper").mkdir(mode=0o755, exist_ok=True)
        run(["tar", "-C", str(folder / "upper"), *_WHOLE, "-xpf", str(saved / TREE)])
        _overlay_root(artifact, folder, mounts, ())
    _write_initrd(clone, ())
    return clone


_WHOLE = ("--xattrs", "--xattrs-include=*", "--numeric-owner", "--sparse")
"""overlayfs keeps «this folder hides the one below» in an extended attribute."""


def _copy(source: Path, target: Path) -> None:
    run(["cp", "--reflink=auto", "--sparse=always", str(source), str(target)])


def _make_folder(folder: Path) -> None:
    # libvirt's QEMU user must reach the disk.
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)


def _write_initrd(clone: Clone, seed: Sequence[File]) -> None:
    if clone.initrd is not None:
        assert clone.boot.initrd is not None
        clone.initrd.touch(mode=0o600)  # it holds the guest's host key
        clone.initrd.write_bytes(clone.boot.initrd.read_bytes() + archive(seed))


def remove(folder: Path, mounts: Mounts) -> None:
    """Unmount and delete a clone; a folder that is not there is fine."""
    mounts.unmount(folder / "root")
    if folder.exists():
        shutil.rmtree(folder)


def backing(header: bytes, read: Callable[[int, int], bytes]) -> str:
    """The backing file named in a qcow2 header, empty when it has none. ``read(offset, size)`` reads the file."""
    if len(header) < 20 or not header.startswith(_QCOW2):
        return ""
    offset, size = struct.unpack_from(">QI", header, 8)
    return read(offset, size).decode() if offset else ""


def _overlay_disk(base: Path, disk: Path) -> None:
    if disk.exists() and _backing_of(disk) == str(base):
        return
    unfinished = disk.with_name(f"{disk.name}.tmp")
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base), str(unfinished)])
    unfinished.replace(disk)


def _backing_of(disk: Path) -> str:
    with disk.open("rb") as file:

        def read(offset: int, size: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        return backing(read(0, 32), read)


def _overlay_root(artifact: Artifact, folder: Path, mounts: Mounts, seed: Sequence[File]) -> None:
    upper, work, root = folder / "upper", folder / "work", folder / "root"
    for part in (upper, work, root):
        part.mkdir(mode=0o755, exist_ok=True)
    into_tree(seed, upper)
    mounts.overlay(artifact.layers, upper, work, root)
