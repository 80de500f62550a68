"""Saved machines on disk: a folder with a manifest that says what is in it and what each file's content was.

A snapshot appears by one rename of a finished folder, and its files are compared with the manifest before anybody runs from them: one cut
short or with a flipped bit would run, and fail later.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlab.images.store import allocated

MANIFEST = "manifest.json"
MEMORY = "memory"
DISK = "disk.qcow2"
TREE = "tree.tar"
_PART = 8 << 20
"""Bytes read and hashed at once. In hashlib's own parts of 256 KiB a golden waits 360 times for the other threads to let go of Python's lock,
up to 5 ms each."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``memory`` is libvirt's save image, ``disk`` the qcow2 that belongs to it; ``sums`` are SHA-256 digests by file name within
    ``path``. ``size`` is bytes on the host's disk, ``made`` local time; ``facts`` say what it is of."""

    name: str
    path: Path
    sums: Mapping[str, str]
    size: int
    made: str
    facts: Mapping[str, str]

    @property
    def memory(self) -> Path:
        return self.path / MEMORY

    @property
    def disk(self) -> Path:
        return self.path / DISK


def seal(unfinished: Path, target: Path, facts: Mapping[str, str]) -> Snapshot:
    """Make ``target`` of a folder with everything in it."""
    files = sorted(path for path in unfinished.rglob("*") if path.is_file())
    sums = {str(path.relative_to(unfinished)): content_sum(path) for path in files}
    manifest = {"sums": sums, "size": allocated(unfinished), "created": time.time(), "facts": dict(facts)}
    (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1))
    unfinished.rename(target)
    found = read(target)
    assert found, "it was written a moment ago"
    return found


def read(path: Path) -> Snapshot | None:
    """The snapshot in a folder, None where there is none, or none that was finished."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(manifest["created"]))
        return Snapshot(path.name, path, manifest["sums"], manifest["size"], made, manifest["facts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def damage(snapshot: Snapshot) -> str:
    """What is wrong with its files, empty when they are as they were written."""
    for part, wanted in snapshot.sums.items():
        try:
            if content_sum(snapshot.path / part) != wanted:
                return f"{snapshot.name} is damaged: its {part} is not what was written"
        except OSError as error:
            return f"{snapshot.name} is damaged: its {part} cannot be read ({error.strerror})"
    return ""


def content_sum(path: Path) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_PART))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()
