"""Overlay roots of containers, mounted where libvirt sees them.

A libvirtd that runs in a mount namespace of its own (as ``bootstrap`` starts it on hosts with a hybrid cgroup tree) sees no mount made
outside, so vlab mounts inside that namespace, and looks in both when it unmounts. Entering costs a thread, not a process.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vlab.errors import HostError
from vlab.host import syscalls
from vlab.host.namespace import in_fresh_thread

T = TypeVar("T")

DAEMONS = ("virtlxcd", "libvirtd")
"""Who starts containers: the modular daemon where it runs, else the one for everything."""
PID_FOLDERS = (Path("/run"), Path("/run/libvirt"))
OWN = Path("/proc/self/ns/mnt")
PAGE = os.sysconf("SC_PAGE_SIZE")
BUSY_FOR = 0.5
STACK = 64


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo. ``source`` of an overlay of ours is a digest of what it is made of."""

    target: Path
    filesystem: str
    source: str


class Mounts:
    """Every method is idempotent, works with and without a private mount namespace, and when libvirt is gone.

    libvirtd is looked up at each call: it may have been restarted, into another namespace, since the last.
    """

    def overlay(self, layers: Sequence[Path], upper: Path, work: Path, target: Path) -> None:
        """Mount an overlay of ``layers`` (topmost first, read-only) and ``upper`` on ``target``; all four must exist.

        What else is mounted there is taken away first. Raises ``HostError`` with the kernel's reason.
        """
        options = overlay_options(layers, upper, work)
        source = f"vlab-{hashlib.sha256(options.encode()).hexdigest()[:12]}"
        wanted = Mount(target, "overlay", source)
        if len(os.fsencode(options)) >= PAGE:
            raise HostError(f"{len(layers)} image layers do not fit into one overlay mount", details=[options])
        _in(libvirt_namespace(), lambda: _mount(wanted, options))

    def unmount(self, target: Path) -> None:
        """Take every mount off ``target``, in libvirt's mount namespace and in vlab's own."""
        for pid in _places():
            if _at(target, _table(pid)):
                _in(pid, lambda: _unmount(target))

    def mounted(self, under: Path) -> list[Path]:
        """Mount points at or under ``under``, in either namespace, the deepest first."""
        found = {m.target for pid in _places() for m in _table(pid) if m.target.is_relative_to(under)}
        return sorted(found, key=lambda path: (-len(path.parts), path))


def libvirt_namespace() -> int | None:
    """The pid of the libvirt daemon whose mount namespace is another than ours, None when it is ours or no daemon runs."""
    for daemon in DAEMONS:
        if pid := _pid(daemon):
            return pid if _identity(f"/proc/{pid}/ns/mnt") not in (None, _identity(str(OWN))) else None
    return None


def overlay_options(layers: Sequence[Path], upper: Path, work: Path) -> str:
    """Overlayfs' mount options, with the characters escaped that it gives a meaning."""
    lower = ":".join(re.sub(r"([\\:,])", r"\\\1", str(layer)) for layer in layers)
    return ",".join([f"lowerdir={lower}", f"upperdir={_escaped(upper)}", f"workdir={_escaped(work)}"])


def parse_mountinfo(text: str) -> list[Mount]:
    """/proc/<pid>/mountinfo as data, in the order of mounting."""
    return [_parse_line(line) for line in text.splitlines()]


def _escaped(path: Path) -> str:
    return re.sub(r"([\\,])", r"\\\1", str(path))


def _parse_line(line: str) -> Mount:
    place, _, what = line.partition(" - ")
    filesystem, source = what.split(" ")[:2]
    return Mount(Path(_unescaped(place.split(" ")[4])), filesystem, _unescaped(source))


def _unescaped(word: str) -> str:
    """The kernel writes blanks and backslashes as octal numbers."""
    raw = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), os.fsencode(word))
    return os.fsdecode(raw)


def _pid(daemon: str) -> int | None:
    """The pid in the daemon's pid file, if that process is the daemon (the file outlives it)."""
    for folder in PID_FOLDERS:
        try:
            pid = int((folder / f"{daemon}.pid").read_text())
            if Path(f"/proc/{pid}/comm").read_text().strip() == daemon:
                return pid
        except (OSError, ValueError):
            continue
    return None


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a link of /proc that only stat itself can follow
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _places() -> list[int | None]:
    """libvirt's mount namespace, where it is another, and ours (None)."""
    pid = libvirt_namespace()
    return [None] if pid is None else [pid, None]


def _table(pid: int | None) -> list[Mount]:
    try:
        return parse_mountinfo(Path(f"/proc/{pid or 'self'}/mountinfo").read_text(errors="surrogateescape"))
    except (FileNotFoundError, ProcessLookupError):
        return []


def _at(target: Path, table: Sequence[Mount]) -> list[Mount]:
    return [found for found in table if found.target == target]


def _in(pid: int | None, deed: Callable[[], T]) -> T:
    """Run ``deed`` in a thread that has entered the mount namespace of ``pid`` (None: ours)."""

    def entered() -> T:
        if pid is not None:
            _enter(pid)
        return deed()

    return in_fresh_thread(entered)


def _enter(pid: int) -> None:
    try:
        descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Only a thread that shares root and working directory with no other may change its mount namespace.
            syscalls.unshare(syscalls.CLONE_FS)
            syscalls.setns(descriptor, syscalls.CLONE_NEWNS)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostError(f"cannot enter libvirt's mount namespace: {error}", hint="run vlab as root") from error


def _mount(wanted: Mount, options: str) -> None:
    # /proc/thread-self: this thread is in another mount namespace than the process.
    found = _at(wanted.target, parse_mountinfo(Path("/proc/thread-self/mountinfo").read_text(errors="surrogateescape")))
    if found == [wanted]:
        return
    if found:
        _unmount(wanted.target)
    try:
        syscalls.mount(wanted.source, str(wanted.target), "overlay", 0, options)
    except OSError as error:
        raise HostError(f"cannot mount an overlay: {error}", details=[options], hint=_hint(error)) from error


def _hint(error: OSError) -> str:
    hints = {errno.EPERM: "run vlab as root", errno.ENODEV: "the kernel has no overlayfs; modprobe overlay"}
    return hints.get(error.errno or 0, "")


def _unmount(target: Path) -> None:
    """Take off every mount on ``target``; one that stays busy is detached, and goes when its last user does."""
    deadline = time.monotonic() + BUSY_FOR
    for _ in range(STACK):
        try:
            syscalls.umount(str(target), syscalls.MNT_DETACH if time.monotonic() > deadline else 0)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            if error.errno != errno.EBUSY:
                raise HostError(f"cannot unmount {target}: {error}", hint="run vlab as root") from error
            time.sleep(BUSY_FOR / 10)
