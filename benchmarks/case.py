"""What a benchmark is: a class with a ``name`` in a module of ``benchmarks.cases``, found by being there."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Generator
from typing import ClassVar

from benchmarks.rows import Row


class Case:
    """``title`` is a line for the report; ``sizes`` are measured one after another, ``quick`` instead of them in a trial.
    One that is ``privileged`` is run as root, and by nobody else meanwhile."""

    name: ClassVar[str] = ""
    title: ClassVar[str]
    sizes: ClassVar[tuple[int, ...]]
    quick: ClassVar[tuple[int, ...]]
    privileged: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        if cls.name:
            _CASES[cls.name] = cls()

    def lacks(self, size: int) -> str:  # noqa: ARG002 - most need nothing
        """Why this host cannot measure ``size`` now, empty when it can."""
        return ""

    def measure(self, size: int, rounds: int) -> Generator[Row, None, None]:
        """Each row as it is measured. Closing it cleans up."""
        raise NotImplementedError  # each case has its own


_CASES: dict[str, Case] = {}


def cases() -> dict[str, Case]:
    """Every benchmark, by name."""
    package = importlib.import_module("benchmarks.cases")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_CASES.items()))
