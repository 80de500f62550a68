"""Clones: disks over artefacts, roots over layers, made once and thrown away whole."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from vlab.images import clone
from vlab.images.artifact import Artifact
from vlab.run import run

needs_qemu_img = pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is not installed")


class Recorded:
    """The host's mounts, written down."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def overlay(self, layers: Sequence[Path], upper: Path, work: Path, target: Path) -> None:
        assert upper.is_dir() and work.is_dir() and target.is_dir()
        self.calls.append(("overlay", tuple(layers), upper, work, target))

    def unmount(self, target: Path) -> None:
        self.calls.append(("unmount", target))


def disk(folder: Path, name: str) -> Artifact:
    path = folder / name
    run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M"])
    return Artifact("web", "direct", "d", disk=path)


@needs_qemu_img
def test_a_disk_is_kept_until_its_artefact_changes(tmp_path: Path) -> None:
    mounts, folder = Recorded(), tmp_path / "clones" / "web1"
    one, two = disk(tmp_path, "one.qcow2"), disk(tmp_path, "two.qcow2")
    made = clone.make(one, folder, mounts)
    assert made == clone.planned(one, folder)
    assert made.disk is not None
    first = made.disk.stat().st_ino
    assert clone.make(one, folder, mounts) == made
    assert made.disk.stat().st_ino == first
    clone.make(two, folder, mounts)
    assert str(tmp_path / "two.qcow2").encode() in made.disk.read_bytes()
    clone.remove(folder, mounts)
    assert not folder.exists()


def test_a_root_is_an_overlay_mount(tmp_path: Path) -> None:
    mounts, folder = Recorded(), tmp_path / "web1"
    artifact = Artifact("web", "rootfs", "d", layers=(Path("/l2"), Path("/l1")))
    made = clone.make(artifact, folder, mounts)
    assert made.root == folder / "root" and made.disk is None
    clone.remove(folder, mounts)
    clone.remove(folder, mounts)
    assert mounts.calls == [
        ("overlay", (Path("/l2"), Path("/l1")), folder / "upper", folder / "work", folder / "root"),
        ("unmount", folder / "root"),
        ("unmount", folder / "root"),
    ]


def test_what_is_not_qcow2_has_no_backing_file() -> None:
    assert clone.backing(b"", lambda _offset, _size: b"x") == ""
    assert clone.backing(b"\0" * 32, lambda _offset, _size: b"x") == ""
