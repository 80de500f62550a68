"""Files that a clone has before it first boots, on top of what its image holds: its settings and its SSH host key.

A container finds them in its upper tree; a direct boot in a cpio archive behind the image's initrd, from which its init copies
them to the root disk. A guest so prepared is settled when it is up: no command has to be run in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vlab.guests.settings import File
from vlab.images.initrd import DIRECTORY, REGULAR, Entry, cpio

FOLDER = "seed"
"""Where the initrd has them; its init copies what is below to the root."""

_PRIVATE = {"root": 0o700, "root/.ssh": 0o700}


def folders(files: Sequence[File]) -> list[tuple[str, int]]:
    """The folders that hold ``files``, parents first, without leading slash, and their modes: both ways of seeding give an
    existing folder of the guest the mode named here."""
    found = {str(parent) for file in files for parent in PurePosixPath(file.path.lstrip("/")).parents} - {"."}
    return [(path, _PRIVATE.get(path, 0o755)) for path in sorted(found)]


def into_tree(files: Sequence[File], tree: Path) -> None:
    """Write ``files`` into an overlay's upper tree."""
    for path, mode in folders(files):
        (tree / path).mkdir(exist_ok=True)
        (tree / path).chmod(mode)
    for file in files:
        target = tree / file.path.lstrip("/")
        target.touch(mode=0o600)
        target.write_text(file.content)
        target.chmod(file.mode)


def archive(files: Sequence[File]) -> bytes:
    """``files`` as a cpio archive for the kernel to unpack after the image's own initrd."""
    return cpio([
        Entry(FOLDER, DIRECTORY | 0o755),
        *(Entry(f"{FOLDER}/{path}", DIRECTORY | mode) for path, mode in folders(files)),
        *(Entry(f"{FOLDER}/{f.path.lstrip('/')}", REGULAR | f.mode, f.content.encode()) for f in files),
    ])  # fmt: skip
