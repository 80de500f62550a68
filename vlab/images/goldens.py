"""Where golden snapshots lie: the memory and the disk of a guest that has booted, saved at one moment, for others to be restored from.

One folder a golden, named by what it is of and the hash of everything that it depends on, so a stale one is never found. It appears by one
rename of a finished folder. Its maker holds that name's lock, so goldens of different shapes are made side by side, and a maker killed at any
moment leaves a folder that the next one, or ``sweep``, throws away. Before guests are restored from it, its content is compared with what was
written: a golden cut short or with a flipped bit would run, and fail later.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from vlab.errors import GuestError
from vlab.images import snapshots
from vlab.images.snapshots import DISK, MANIFEST, MEMORY, damage
from vlab.images.snapshots import Snapshot as Golden

__all__ = ["DISK", "MEMORY", "CalledOff", "Golden", "Goldens", "damage"]


POLL = 0.05


class CalledOff(GuestError):
    """Nobody waits for the golden any more."""


class Goldens:
    """The goldens under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        return self.root / name

    def find(self, name: str) -> Golden | None:
        """The golden of this name, None when there is none."""
        return snapshots.read(self.path(name))

    def all(self) -> list[Golden]:
        found = (
            snapshots.read(path.parent) for path in sorted(self.root.glob(f"*/{MANIFEST}")) if not _hidden(path.parent)
        )
        return [golden for golden in found if golden]

    def ensure(
        self,
        name: str,
        make: Callable[[Path], Mapping[str, str]],
        note: Callable[[str], None],
        off: Callable[[], bool] = lambda: False,
    ) -> Golden:
        """The golden of this name, found whole, or made by ``make``, which fills an empty folder and returns the facts.

        One that is damaged is made again. Waits while somebody else makes it, until ``off`` says that nobody wants it any more: ``CalledOff``.
        """
        with self._lock(name, off):
            found = self.find(name)
            problem = damage(found) if found else ""
            if found and not problem:
                return found
            if problem:
                note(f"golden {problem}: it is made again")
            self._discard(self.path(name))  # also one whose manifest cannot be read: it would be in the way
            return self._made(name, make)

    def remove(self, name: str) -> None:
        with self._lock(name, lambda: False):
            self._discard(self.path(name))

    def sweep(self) -> None:
        """Throw away what killed makers left."""
        for path in self.root.glob("tmp-*"):
            with suppress(CalledOff), self._lock(path.name.removeprefix("tmp-"), lambda: True):
                pass

    def _made(self, name: str, make: Callable[[Path], Mapping[str, str]]) -> Golden:
        unfinished = self._unfinished(name)
        unfinished.mkdir(mode=0o755)
        try:
            facts = make(unfinished)
            return snapshots.seal(unfinished, self.path(name), facts)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _unfinished(self, name: str) -> Path:
        return self.root / f"tmp-{name}"

    def _discard(self, path: Path) -> None:
        """Hide it first: who looks meanwhile sees all of it or nothing."""
        hidden = self._unfinished(path.name)
        with suppress(FileNotFoundError):
            path.rename(hidden)
            shutil.rmtree(hidden)

    @contextmanager
    def _lock(self, name: str, off: Callable[[], bool]) -> Iterator[None]:
        """Hold a golden's name alone; what a dead maker of it left is gone then. The kernel drops the lock with its holder."""
        folder = self.root / ".locks"
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.root.chmod(0o755)  # libvirt's QEMU user must reach the disks
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            while not _taken(descriptor):
                if off():
                    raise CalledOff(f"golden {name}: another run is making it, and this one was called off")
                time.sleep(POLL)
            shutil.rmtree(self._unfinished(name), ignore_errors=True)
            yield
        finally:
            os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _hidden(path: Path) -> bool:
    return path.name.startswith(("tmp-", "."))
