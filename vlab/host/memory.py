"""Whether the host has the memory that a lab's guests need together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

GIB = 2**30
RESERVE = GIB // 4
"""What the host itself keeps, in bytes, when guests are about to fill it."""


def refuse(needed: Sequence[int]) -> list[str]:
    """One sentence when guests that need these amounts (bytes each) do not fit into the host now; nothing when they do."""
    return shortage(needed, available())


def shortage(needed: Sequence[int], free: int) -> list[str]:
    """As ``refuse``, for ``free`` bytes of available memory."""
    total = sum(needed)
    if total + RESERVE <= free or not needed:
        return []
    guests = (
        f"{len(needed)} guests need {show(total)} of memory together"
        if len(needed) > 1
        else f"one guest needs {show(total)} of memory"
    )
    return [f"{guests}, and the host has {show(free)} available, of which it keeps {show(RESERVE)}"]


def available() -> int:
    """Bytes the kernel says new work can have without swapping (MemAvailable)."""
    return parse(Path("/proc/meminfo").read_text(), "MemAvailable")


def parse(meminfo: str, field: str) -> int:
    """Bytes of one field of ``/proc/meminfo``. Raises ``KeyError``."""
    lines = (line.partition(":") for line in meminfo.splitlines())
    return int({name: value for name, _, value in lines}[field].split()[0]) * 1024


def show(count: int) -> str:
    """«2.5 GiB», «256 MiB»: a size that people compare at a glance."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"
