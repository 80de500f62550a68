"""How many guests start at once: by what each costs and by what the host has left."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from vlab.engine.room import COSTS, Room
from vlab.host.pressure import Gauge, stalled

IDLE, TEXT = (
    0.0,
    "some avg10=1.00 avg60=2.84 avg300=4.29 total=3271530030\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
)


class Readings:
    """A gauge that shows one reading after another, each a long time after the one before."""

    def __init__(self, *shares: float) -> None:
        self.shares = list(shares)

    def age(self) -> float:
        return 60.0

    def read(self) -> float:
        return self.shares.pop(0)


def at_once(room: Room, *queues: str) -> Counter[str]:
    """What starts when any number of these queues wait, in turns."""
    starting: Counter[str] = Counter()
    while fitting := [queue for queue in queues if room.fits(starting, queue)]:
        starting[fitting[0]] += 1
    return starting


@pytest.mark.parametrize(
    ("accel", "cores", "queue", "count"),
    [
        ("tcg", 2, "vm", 2), ("tcg", 2, "restore", 4), ("tcg", 2, "container", 4), ("tcg", 1, "vm", 1), ("tcg", 8, "vm", 8),
        ("kvm", 2, "vm", 8), ("none", 2, "container", 4),
    ],
)  # fmt: skip
def test_an_idle_host_is_filled(accel: str, cores: int, queue: str, count: int) -> None:
    assert at_once(Room(accel, Readings(IDLE), cores), queue) == {queue: count}


@pytest.mark.parametrize("accel", COSTS)
def test_kinds_share_the_cores(accel: str) -> None:
    starting = at_once(Room(accel, Readings(IDLE), 4), "vm", "restore", "container")
    assert 4 - max(COSTS[accel].values()) < sum(COSTS[accel][name] * count for name, count in starting.items()) <= 4.01


def test_a_busy_host_gets_fewer_and_never_none() -> None:
    assert at_once(Room("tcg", Readings(0.5), 4), "vm") == {"vm": 3}
    assert at_once(Room("tcg", Readings(1.0), 4), "vm") == {"vm": 2}
    assert at_once(Room("tcg", Readings(0.3), 2), "vm") == {"vm": 2}
    assert at_once(Room("tcg", Readings(1.0), 1), "vm") == {"vm": 1}
    assert Room("tcg", Readings(1.0), 1).fits(Counter(vm=1, settle=9), "settle")


def test_it_grows_when_the_host_gets_quiet_and_does_not_shrink_by_its_own_load() -> None:
    room = Room("tcg", Readings(1.0, 0.9, 0.1, 0.1), 4)
    seen = []
    for _ in range(3):
        room.look()
        seen.append(room.capacity)
    assert seen == [2.0, 3.0, 4.0]
    room.look()  # full: nothing is read any more
    assert room.capacity == 4.0


def test_the_kernel_tells_how_long_somebody_waited(tmp_path: Path) -> None:
    assert stalled(TEXT) == 3271.530030
    file = tmp_path / "cpu"
    file.write_text(TEXT)
    gauge = Gauge(file)
    assert gauge.read() == 0.0
    file.write_text(TEXT.replace("3271530030", "9999999999"))
    assert gauge.read() == 1.0


def test_a_kernel_without_that_account_counts_as_idle(tmp_path: Path) -> None:
    assert Gauge(tmp_path / "none").read() == 0.0
