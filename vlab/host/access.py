"""What libvirt's QEMU user may open, decided from owner, group and mode alone."""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = Path("/etc/libvirt/qemu.conf")
USUAL = ("libvirt-qemu", "qemu")


@dataclass(frozen=True, slots=True)
class User:
    """A user with all groups it is in."""

    name: str
    uid: int
    gids: frozenset[int]

    def may(self, file: os.stat_result, rights: int) -> bool:
        """Whether the mode grants all of ``rights``, given as the bits for others (``S_IROTH | S_IXOTH``)."""
        if self.uid == 0:
            return True
        shift = 6 if file.st_uid == self.uid else 3 if file.st_gid in self.gids else 0
        return (stat.S_IMODE(file.st_mode) >> shift) & rights == rights


def qemu_user() -> User | None:
    """The user libvirt runs QEMU as: its configuration's, else the distribution's. None when there is none."""
    set_by_hand = configured(CONFIGURATION.read_text()) if os.access(CONFIGURATION, os.R_OK) else ""
    for name in (set_by_hand, *USUAL):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))
    return None


def configured(text: str) -> str:
    """The ``user`` that a qemu.conf sets, empty when it sets none."""
    found = re.search(r'^\s*user\s*=\s*"\+?([^"]+)"', text, re.MULTILINE)
    return found.group(1) if found else ""


def closed_parent(user: User, path: Path) -> Path | None:
    """The topmost folder on the way to ``path`` that ``user`` may not enter; None when the way is open as far as it exists."""
    way = [folder for folder in (*reversed(path.parents), path) if folder.is_dir()]
    return first_closed(user, [(folder, folder.stat()) for folder in way])


def first_closed(user: User, way: Iterable[tuple[Path, os.stat_result]]) -> Path | None:
    """The first folder of ``way`` whose mode does not let ``user`` in."""
    return next((folder for folder, found in way if not user.may(found, stat.S_IXOTH)), None)
