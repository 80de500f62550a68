"""Labs up and down, beside their floors: what the benchmarks of VMs, of containers and of both have in common.

In each round the floors and ``vlab`` take turns, so what else the host does meanwhile falls on all of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks import command, floors, footprint
from benchmarks.case import Case
from benchmarks.command import Failed, vlab
from benchmarks.crowd import Guest, seconds
from benchmarks.floors import Prepared
from benchmarks.rows import Row
from vlab.engine import admission
from vlab.engine.drivers import Drivers
from vlab.errors import HostError
from vlab.images.recipe import catalogue
from vlab.plan import Observed
from vlab.topology.addressing import complete
from vlab.topology.lab import Lab
from vlab.topology.parse import Source, parse

Rows = Generator[Row, None, None]


@dataclass(frozen=True, slots=True)
class Start:
    """How to start a lab: ``words`` for ``vlab up``, and the ``floor``, called ``by``, that is held against it, in each of its ``ways``."""

    variant: str
    words: tuple[str, ...]
    by: str
    ways: tuple[str, ...]
    floor: Callable[[Prepared, Path], list[Guest]]


class LabCase(Case):
    """A benchmark of a lab of ``size`` guests. Its name is also its lab's, behind «bench-»."""

    starts: tuple[Start, ...]

    def topology(self, size: int) -> str:
        """The file's text."""
        raise NotImplementedError  # each case has its own

    def lacks(self, size: int) -> str:
        """What ``up`` would refuse the lab for, as its floors would only fail at it."""
        try:
            admission.refuse(self._lab(size), Observed())
        except HostError as error:
            return " ".join(error.details)
        return ""

    def measure(self, size: int, rounds: int) -> Rows:
        ready = floors.prepare(self._drivers, self._lab(size))
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(self.topology(size))
            file.flush()
            for number in range(1, rounds + 1):
                for start in self.starts:
                    yield from self._floors(start, ready, number)
                    yield from self._start(start, file.name, size, number)

    def _floors(self, start: Start, ready: Prepared, number: int) -> Rows:
        size = len(ready.lab.nodes)
        for way, at_once in floors.at_once(start.ways, size).items():
            with floors.workplace(ready.drivers) as folder:
                took = seconds(start.floor(ready, folder), at_once)
            yield Row(self.name, f"{start.by}, {way}", size, number, took, floor_for=start.variant)

    def _start(self, start: Start, file: str, size: int, number: int) -> Rows:
        name = f"bench-{self.name}"
        with command.lab(name):
            up = vlab("up", file, "--as", name, *start.words)
            taken = footprint.of(self._drivers, name)
            yield Row(self.name, start.variant, size, number, up.seconds, up.cpu_seconds, *taken)
            if start is self.starts[-1]:
                yield from self._afterwards(file, name, size, number)

    def _afterwards(self, file: str, name: str, size: int, number: int) -> Rows:
        again = vlab("up", file, "--as", name)
        if "nothing to do" not in again.output:
            raise Failed(f"the second up of {name} changed something:\n{again.output}")
        yield Row(self.name, "up again", size, number, again.seconds, again.cpu_seconds)
        down = vlab("down", name)
        yield Row(self.name, "down", size, number, down.seconds, down.cpu_seconds)

    @cached_property
    def _drivers(self) -> Drivers:
        return Drivers.open()

    def _lab(self, size: int) -> Lab:
        text = self.topology(size)
        return complete(parse(Source(self.name, text), images=catalogue()), floors.LAB)
