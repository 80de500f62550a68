"""Waiting, in one place: a deadline, a sentence, and what was seen last."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from vlab.errors import WaitError

T = TypeVar("T")

BOOT = 120.0
"""Seconds from a domain's start to its first answer, with KVM or as a container."""
COMMAND = 60.0
"""Seconds a command inside a guest may take."""
SETTLE = 180.0
"""Seconds a guest may take to reach its settings, service starts included."""

FACTOR = {"kvm": 1.0, "none": 1.0, "tcg": 5.0}
"""How much longer the same takes under an accelerator: TCG runs 10 to 50 times slower, but boot is not all computing."""


class NotYet(Exception):
    """Not an error: a probe's answer while the awaited thing has not happened; its text is what was seen."""


def limit(seconds: float, accel: str) -> float:
    """A named time for a guest under ``accel``."""
    return seconds * FACTOR[accel]


def wait_until(
    what: str, probe: Callable[[], T], *, timeout: float, interval: float = 0.02, slowest: float = 0.5,
    growth: float = 1.5, hint: str = "",
) -> T:  # fmt: skip
    """Call ``probe`` until it returns, and return that; it raises ``NotYet`` until then, anything else ends the wait.

    ``interval`` seconds lie between the first calls and grow by ``growth`` to ``slowest``. Raises ``WaitError`` after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return probe()
        except NotYet as seen:
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitError(
                    f"{what}: not within {timeout:g} s", details=[f"last seen: {seen}"], hint=hint
                ) from seen
        time.sleep(min(interval, left))
        interval = min(interval * growth, slowest)
