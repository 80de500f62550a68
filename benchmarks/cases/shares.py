"""Where the processor time of one warm `up` goes: to vlab, to libvirt, to which guests."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from pathlib import Path

from benchmarks import command
from benchmarks.case import Case
from benchmarks.cases.web_db import FILE
from benchmarks.command import vlab
from benchmarks.rows import Row
from vlab.engine.drivers import Drivers

LAB = "bench-shares"
TICKS = os.sysconf("SC_CLK_TCK")
DAEMONS = ("libvirtd", "virtqemud", "virtlxcd", "virtlogd")


class Shares(Case):
    name = "shares"
    title = (
        "`topologies/web-db.yaml` from goldens that are there: **processor seconds**, not time, by who used them until `up` came back, "
        "without and with verification. A guest's are all of its QEMU's or its container's. «up» is the time."
    )
    sizes = (8,)
    quick = (8,)

    def measure(self, size: int, rounds: int) -> Generator[Row, None, None]:
        drivers = Drivers.open()
        vlab("warm", str(FILE))
        for number in range(1, rounds + 1):
            for variant, words in (("up --no-verify", ("--no-verify",)), ("up", ())):
                with command.lab(LAB):
                    before = daemons()
                    done = vlab("up", str(FILE), "--as", LAB, *words)
                    used = {"vlab": done.cpu_seconds, "libvirt": daemons() - before, **guests(drivers)}
                yield Row(self.name, variant, size, number, done.seconds, done.cpu_seconds)
                for who, spent in used.items():
                    yield Row(self.name, f"{variant}: {who}", size, number, spent)


def guests(drivers: Drivers) -> Mapping[str, float]:
    """Processor seconds of each group of the lab's guests since they were started."""
    spent: dict[str, float] = {}
    for domain in drivers.hypervisors.domains(LAB):
        group = domain.mark.node.group
        spent[group] = spent.get(group, 0.0) + drivers.hypervisors.statistics(domain).cpu_seconds
    return spent


def daemons() -> float:
    """Processor seconds of libvirt's own processes since they were started."""
    return sum(map(_spent, Path("/proc").glob("[0-9]*")))


def _spent(process: Path) -> float:
    try:
        if (process / "comm").read_text().strip() not in DAEMONS:
            return 0.0
        words = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended meanwhile
        return 0.0
    return (int(words[11]) + int(words[12])) / TICKS
