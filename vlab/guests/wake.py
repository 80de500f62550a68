"""From a booted guest to a golden snapshot, and from a restored guest to one of its own: the scripts for both. Pure.

The counterpart inside the guest is /usr/lib/vlab/wake (``images/base/wake``).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from vlab.guests.settings import Settings, Unit

WAKE = "/usr/lib/vlab/wake"
ENTROPY_WORD = 3
ENTROPY = 32
"""Bytes for the kernel's random generator: as many as its key has."""


ORDERS, RESULT = "/run/vlab-wake", "/run/vlab-woken"
"""Where the program that waits in a golden takes its orders from, and where it leaves how it went."""
END = "#end"
MOST = 40_000
"""Bytes of orders: a pipe holds 64 KiB, and the agent does not wait for a reader."""

# What will run in each restored guest is read into its memory once, here.
_REHEARSAL = f"""\
ip -batch - </dev/null
chmod --version >/dev/null
{WAKE} --serve {ORDERS} {RESULT} </dev/null >/dev/null 2>&1
"""


def quiet(named: Sequence[str], warm: str) -> str:
    """sh: wait until the boot has ended, stop what must not start under another's name, run the image's own warm-up, write all to disk."""
    stop = f"systemctl stop -- {' '.join(quote(unit) for unit in named)}\n" if named else ""
    # «degraded» is an answer too: a foreign image may have failed units, and they fail in a cold boot as well.
    return (
        f"set -eu\n[ -x {WAKE} ]\nsystemctl is-system-running --wait >/dev/null || :\n{stop}{warm}\n{_REHEARSAL}sync\n"
    )


def restored(ready: Sequence[str], named: Sequence[str]) -> Settings:
    """What a restored guest has of its settings: nothing, but for services that run already."""
    return Settings("", "", units=tuple(Unit(unit) for unit in ready if unit not in named))


def script(wanted: Settings) -> str:
    """sh: the restored guest gets random numbers, time, names and MACs of its own. To be composed right before it is sent, as it tells the
    time."""
    return f"set -eu\n{WAKE} {' '.join(quote(word) for word in _words(wanted))} </dev/null\n"


@dataclass(frozen=True, slots=True)
class Orders:
    """For the program that waits in the golden; ``token`` comes back in its result, which is another run's otherwise."""

    text: bytes
    token: str


def orders(wanted: Settings, script: str) -> Orders:
    """As ``script``, and the script that is to run then. To be composed right before it is sent."""
    words = _words(wanted)
    return Orders(f"{' '.join(words)}\n{script}{END}\n".encode(), words[ENTROPY_WORD])


def _words(wanted: Settings) -> list[str]:
    macs = (link.mac.lower() for link in wanted.links)
    return [wanted.hostname, wanted.machine_id, f"{time.time():.3f}", secrets.token_hex(ENTROPY), *macs]
