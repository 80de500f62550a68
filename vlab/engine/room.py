"""How many guests may be starting at once: each start fills some of a processor, and what others on this host need is not ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

# Cores that one guest fills while it starts, by queue and accelerator. Under TCG a boot fills its core, and more boots than cores make the
# whole lab slower (design §10); a restore waits half of its time for libvirt's questions to QEMU; under KVM boots wait for disks more than
# for processors. Four containers at once on two cores were as fast as eight.
COSTS: Mapping[str, Mapping[str, float]] = {
    "tcg": {"vm": 1.0, "restore": 0.5, "container": 0.5},
    "kvm": {"vm": 0.25, "restore": 0.25, "container": 0.5},
}

EASE = 0.2
"""A share of waiting below which the host has room for more than we use."""

WINDOW = 1.0
"""Seconds that a look back must cover: vlab's own start-up work comes in bursts."""


class Measure(Protocol):
    def age(self) -> float: ...

    def read(self) -> float: ...


class Room:
    """CPU for starting guests. It begins with what others leave: all cores where nobody waits, half of them where somebody always does, as
    the kernel shares fairly. It grows as the host gets quieter, and does not shrink, since from now on it is our own guests that wait."""

    def __init__(self, accel: str, gauge: Measure, cores: int | None = None) -> None:
        self._costs = COSTS["kvm" if accel == "kvm" else "tcg"]
        self._cores = float(cores or os.cpu_count() or 1)
        self._gauge = gauge
        self.capacity = float(max(1, round(self._cores * (1 - gauge.read() / 2))))

    def fits(self, starting: Mapping[str, int], queue: str) -> bool:
        """Whether one more of ``queue`` may start beside ``starting`` (by queue, how many). Steps of no known queue cost nothing."""
        cost = self._costs.get(queue)
        used = sum(self._costs[name] * count for name, count in starting.items() if name in self._costs)
        return cost is None or not used or used + cost <= self.capacity + 0.01

    def look(self) -> None:
        """Look at the host again."""
        if self.capacity < self._cores and self._gauge.age() >= WINDOW and self._gauge.read() < EASE:
            self.capacity = min(self._cores, self.capacity + 1)
