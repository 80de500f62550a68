"""How much of the time somebody on this host waited for a processor (Documentation/accounting/psi.rst)."""

from __future__ import annotations

import time
from pathlib import Path

PRESSURE = Path("/proc/pressure/cpu")


class Gauge:
    """The share of the time since it was made, or was last read, in which some task was ready to run and had no processor."""

    def __init__(self, file: Path = PRESSURE) -> None:
        self._file = file
        self._stalled, self._at = self._now()

    def age(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self._at

    def read(self) -> float:
        """0 to 1; 0 where the kernel does not keep account of it."""
        stalled, at = self._now()
        share = (stalled - self._stalled) / max(at - self._at, 1e-3)
        self._stalled, self._at = stalled, at
        return min(max(share, 0.0), 1.0)

    def _now(self) -> tuple[float, float]:
        try:
            return stalled(self._file.read_text()), time.monotonic()
        except OSError:  # CONFIG_PSI is off, or psi=0
            return 0.0, time.monotonic()


def stalled(text: str) -> float:
    """Seconds since the host's boot in which some task waited: «some avg10=… total=MICROSECONDS»."""
    words = next((line for line in text.splitlines() if line.startswith("some ")), "total=0").split()
    return int(words[-1].removeprefix("total=")) / 1e6
