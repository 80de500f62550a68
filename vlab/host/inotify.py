"""Whether the host lets its containers have the inotify instances that systemd in each of them opens.

The kernel counts them by user, and root of every container is root (inotify(7), ``max_user_instances``: 128 by default).
"""

from __future__ import annotations

from pathlib import Path

EACH = 3
"""What systemd and journald open in one container (counted)."""
FEW = 10
"""So few containers need not be counted: looking at every process takes longer than it is worth."""
LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")


def refuse(containers: int) -> list[str]:
    """One sentence, with its remedy, when so many more containers do not fit; nothing when they do."""
    return shortage(containers, int(LIMIT.read_text()), in_use()) if containers > FEW else []


def shortage(containers: int, limit: int, used: int) -> list[str]:
    """As ``refuse``, for a host that allows ``limit`` instances, ``used`` of which are taken."""
    needed = containers * EACH
    if used + needed <= limit:
        return []
    enough = 1 << (used + needed).bit_length()
    return [
        f"{containers} containers need {needed} inotify instances together, and the host allows root {limit}, of which {used} are in use: "
        f"sysctl -w fs.inotify.max_user_instances={enough}"
    ]


def in_use() -> int:
    """How many instances root's processes have open."""
    return sum(opened(folder) for folder in Path("/proc").glob("[0-9]*/fd"))


def opened(folder: Path) -> int:
    """By one process, whose open files are the links in ``folder``; none when it ended, or is not ours to look at."""
    try:
        return sum(_is_inotify(entry) for entry in folder.iterdir())
    except OSError:
        return 0


def _is_inotify(entry: Path) -> bool:
    try:
        return str(entry.readlink()) == "anon_inode:inotify"
    except OSError:
        return False  # closed meanwhile
