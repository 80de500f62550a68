"""What vlab keeps on disk: one folder a lab, a journal of intents, and the lab's lock.

The marks on domains and links are the truth about what runs (``hypervisors.mark``, ``host.links``); this folder holds what cannot be
marked — clones, the declared topology, and which run was interrupted where. Losing it loses no lab: ``down`` works from marks.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlab.errors import ConflictError, HostError

DEFAULT_ROOT = "/var/lib/vlab"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things are. ``VLAB_STATE`` moves the root (tests, a second installation)."""

    root: Path

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def goldens(self) -> Path:
        return self.root / "goldens"

    @property
    def labs(self) -> Path:
        return self.root / "labs"

    def lab(self, lab: str) -> Path:
        assert lab not in ("", ".", "..") and "/" not in lab, (
            "what becomes a folder's name, and is deleted, is one word"
        )
        return self.labs / lab

    def clones(self, lab: str) -> Path:
        return self.lab(lab) / "clones"

    def clone(self, lab: str, node: str) -> Path:
        return self.clones(lab) / node

    def checkpoints(self, lab: str) -> Path:
        return self.lab(lab) / "checkpoints"

    def topology(self, lab: str) -> Path:
        return self.lab(lab) / "topology.yaml"

    def journal(self, lab: str) -> Path:
        return self.lab(lab) / "journal.jsonl"

    def lock(self, lab: str) -> Path:
        # Not inside the lab's folder: ``down`` deletes that folder while it holds the lock.
        return self.root / "locks" / f"{lab}.lock"


def paths() -> Paths:
    return Paths(Path(os.environ.get("VLAB_STATE") or DEFAULT_ROOT).absolute())


def labs_on_disk(where: Paths) -> list[str]:
    """Names of the labs that have a folder."""
    return sorted(p.name for p in where.labs.iterdir() if p.is_dir()) if where.labs.is_dir() else []


def declare(where: Paths, lab: str, text: str) -> None:
    """Keep the declared topology beside the lab, written whole or not at all."""
    target = where.topology(lab)
    _make_folder(target.parent)
    fresh = target.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(target)


def declared(where: Paths, lab: str) -> str | None:
    """The topology text ``up`` last accepted for this lab, None if it is not there."""
    target = where.topology(lab)
    return target.read_text() if target.is_file() else None


def forget(where: Paths, lab: str, *, keep: bool = False) -> None:
    """Remove the lab's folder, ``keep`` its checkpoints; the clones in it must be unmounted before."""
    if not (keep and where.checkpoints(lab).is_dir()):
        shutil.rmtree(where.lab(lab), ignore_errors=True)
        return
    for path in where.lab(lab).iterdir():
        if path == where.clones(lab):
            shutil.rmtree(path, ignore_errors=True)
        elif path != where.checkpoints(lab):
            path.unlink()


def kept(where: Paths, lab: str) -> bool:
    """Whether the lab's folder holds checkpoints and nothing else."""
    return [path.name for path in where.lab(lab).iterdir()] == [where.checkpoints(lab).name]


@contextmanager
def locked(where: Paths, lab: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the lab's lock. Raises ``ConflictError`` naming the other run's pid when it is still taken after ``wait`` seconds.

    The kernel drops the lock with its holder, so a killed run leaves none behind.
    """
    target = where.lock(lab)
    _make_folder(target.parent)
    with target.open("a+") as file:
        _take(file.fileno(), target, lab, time.monotonic() + wait)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def busy(where: Paths) -> list[str]:
    """Names of the labs that a run of vlab works on now."""
    return sorted(path.stem for path in (where.root / "locks").glob("*.lock") if _is_held(path))


def _is_held(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _take(descriptor: int, target: Path, lab: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                holder = target.read_text().strip() or "unknown"
                raise ConflictError(
                    f"lab {lab}: another vlab run is working on it (pid {holder})",
                    hint="wait for it, or end it and run the command again",
                ) from error
            time.sleep(0.05)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise HostError(f"vlab may not write to {folder}", hint="run as root, or set VLAB_STATE") from error


@dataclass(frozen=True, slots=True)
class Journal:
    """Append-only JSON lines: what this run meant to do before it did it, and how it went."""

    path: Path

    def write(self, step: str, event: str, text: str = "") -> None:
        _make_folder(self.path.parent)
        line = json.dumps({"at": round(time.time(), 3), "pid": os.getpid(), "step": step, "event": event, "text": text})
        # One write(2) of a short line with O_APPEND is whole or absent, even under kill -9.
        with self.path.open("a") as file:
            file.write(line + "\n")

    def converged(self) -> None:
        """Note that the lab is as declared, whatever earlier runs left open."""
        if self.unfinished():
            self.write("", "converged")

    def read(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines() if line.endswith("}")]

    def kept(self, since: float) -> list[str]:
        """Steps that this process began and did not undo: all, where it was told to end after the last. ``since`` is a ``time.time()`` before
        the run: another process may have had its pid, as in containers, which count from 1."""
        mine = [entry for entry in self.read() if entry["pid"] == os.getpid() and entry["at"] >= round(since, 3)]
        undone = {entry["step"] for entry in mine if entry["event"] == "undone"}
        return [entry["step"] for entry in mine if entry["event"] == "begin" and entry["step"] not in undone]

    def unfinished(self) -> list[str]:
        """Steps that were begun and neither done, undone nor failed, with no converged run after them: where a run was killed."""
        open_steps: dict[str, None] = {}
        for entry in self.read():
            if entry["event"] == "converged":
                open_steps.clear()
            elif entry["event"] == "begin":
                open_steps[entry["step"]] = None
            else:
                open_steps.pop(entry["step"], None)
        return list(open_steps)
