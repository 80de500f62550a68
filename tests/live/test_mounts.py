"""Overlay mounts in libvirt's mount namespace, whichever that is here, and gone again. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlab.errors import HostError
from vlab.host import mounts
from vlab.host.mounts import Mounts

pytestmark = pytest.mark.live

FOLDERS = ("base", "web", "upper", "work", "root")


@pytest.fixture(params=["plain", "od:d, na\\me"])
def clone(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder with two layers and room for a clone; nothing is mounted under it afterwards."""
    folder = tmp_path / str(request.param)
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    (folder / "base" / "who").write_text("base")
    (folder / "base" / "only-base").write_text("base")
    (folder / "web" / "who").write_text("web")
    yield folder
    for path in Mounts().mounted(folder):
        Mounts().unmount(path)


def overlay(folder: Path) -> None:
    Mounts().overlay([folder / "web", folder / "base"], folder / "upper", folder / "work", folder / "root")


def seen_by_libvirt(path: Path) -> str:
    """The text of a file, read by a process in libvirt's mount namespace."""
    pid = mounts.libvirt_namespace() or os.getpid()
    done = subprocess.run(["nsenter", "-m", "-t", str(pid), "cat", str(path)], capture_output=True, check=True)
    return done.stdout.decode()


def test_libvirt_sees_the_overlay_and_it_goes(clone: Path) -> None:
    overlay(clone)
    assert seen_by_libvirt(clone / "root" / "who") == "web"
    assert seen_by_libvirt(clone / "root" / "only-base") == "base"
    assert Mounts().mounted(clone) == [clone / "root"]
    Mounts().unmount(clone / "root")
    assert Mounts().mounted(clone) == []


def test_mounting_and_unmounting_twice_changes_nothing(clone: Path) -> None:
    overlay(clone)
    overlay(clone)
    pid = mounts.libvirt_namespace() or os.getpid()
    table = mounts.parse_mountinfo(Path(f"/proc/{pid}/mountinfo").read_text(errors="surrogateescape"))
    assert [m.target for m in table].count(clone / "root") == 1
    Mounts().unmount(clone / "root")
    Mounts().unmount(clone / "root")
    assert Mounts().mounted(clone) == []


def test_other_layers_replace_the_mount(clone: Path) -> None:
    overlay(clone)
    Mounts().overlay([clone / "base"], clone / "upper", clone / "work", clone / "root")
    assert seen_by_libvirt(clone / "root" / "who") == "base"


def test_mounts_left_in_our_own_namespace_go_too(clone: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", str(clone / "root")], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(clone / "root")], check=True)
    overlay(clone)
    assert Mounts().mounted(clone) == [clone / "root"]
    Mounts().unmount(clone / "root")
    assert Mounts().mounted(clone) == []


def test_a_busy_mount_is_detached(clone: Path) -> None:
    overlay(clone)
    pid = mounts.libvirt_namespace() or os.getpid()
    command = ["nsenter", "-m", "-t", str(pid), "sh", "-c", 'cd "$0" && echo in && exec sleep 60', str(clone / "root")]
    user = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert user.stdout is not None
        user.stdout.readline()
        Mounts().unmount(clone / "root")
        assert Mounts().mounted(clone) == []
    finally:
        user.kill()
        user.communicate()


def test_a_layer_that_is_missing_is_an_error_with_its_name(clone: Path) -> None:
    with pytest.raises(HostError, match="cannot mount an overlay") as caught:
        Mounts().overlay([clone / "no-such-layer"], clone / "upper", clone / "work", clone / "root")
    assert "no-such-layer" in str(caught.value)


def test_our_own_thread_stays_in_its_mount_namespace(clone: Path) -> None:
    before = Path("/proc/thread-self/ns/mnt").readlink()
    overlay(clone)
    assert Path("/proc/thread-self/ns/mnt").readlink() == before
