"""Sizes and durations as people write them: «256 MiB», «2 s». Pure.

``ValueError`` messages are sentences for the user, in the form «has no unit»; the second argument is the hint.
"""

from __future__ import annotations

import re
from fractions import Fraction

SIZES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
"""Bytes in each unit."""

DURATIONS = {"ms": Fraction(1, 1000), "s": Fraction(1), "min": Fraction(60), "h": Fraction(3600)}
"""Seconds in each unit."""

MIB = SIZES["MiB"]

_QUANTITY = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([A-Za-z]*)", re.ASCII)
_MEANT_SIZE = {"k": "KiB", "ki": "KiB", "kb": "kB", "m": "MiB", "mi": "MiB", "g": "GiB", "gi": "GiB", "t": "TiB"}
_MEANT_SIZE |= {unit.lower(): unit for unit in SIZES}
_MEANT_DURATION = {"sec": "s", "secs": "s", "second": "s", "seconds": "s", "m": "min", "mins": "min", "minute": "min"}
_MEANT_DURATION |= {"minutes": "min", "hour": "h", "hours": "h", "msec": "ms"}
_MEANT_DURATION |= {unit.lower(): unit for unit in DURATIONS}


def size(text: str) -> int:
    """Bytes of «256 MiB». Raises ``ValueError(message, hint)``."""
    number, factor = _quantity(text, {unit: Fraction(n) for unit, n in SIZES.items()}, _MEANT_SIZE, "MiB")
    return int(number * factor)


def duration(text: str) -> float:
    """Seconds of «2 s» or «500 ms». Raises ``ValueError(message, hint)``."""
    number, factor = _quantity(text, DURATIONS, _MEANT_DURATION, "s")
    return float(number * factor)


def _quantity(text: str, units: dict[str, Fraction], near: dict[str, str], usual: str) -> tuple[Fraction, Fraction]:
    match = _QUANTITY.fullmatch(text.strip())
    if not match:
        raise ValueError("is not a number with a unit", f"like 2 {usual}")
    number, unit = match.groups()
    if not unit:
        raise ValueError("has no unit", f"write {number} {usual}")
    if unit not in units:
        meant = near.get(unit.lower())
        raise ValueError(
            f"has an unknown unit '{unit}'", f"write {number} {meant}" if meant else f"units: {', '.join(units)}"
        )
    return Fraction(number), units[unit]


def show_size(count: int) -> str:
    """«256 MiB» for 268435456: the largest binary unit that gives a whole number, else MiB with one decimal."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count and count % SIZES[unit] == 0:
            return f"{count // SIZES[unit]} {unit}"
    return f"{count / MIB:.1f} MiB"


def show_duration(seconds: float) -> str:
    """«2 s», «500 ms»."""
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"
