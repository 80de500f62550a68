"""Cold ``vlab up`` of web-db beside its floor, in one run: the same VMs by plain QEMU, all at once and one per core.

    .venv/bin/python -m benchmarks.cold_up [ROUNDS [TOPOLOGY]]

The floor has no containers: benchmarks/vms.yaml is web-db's machines alone, the like-for-like pair.

Prints each round and the ratio of the medians. The requirement: at most 1.3 × the better floor.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.plain_qemu import Vm, seconds
from vlab.engine.drivers import Drivers
from vlab.hypervisors.kind import kind
from vlab.images.build import build
from vlab.images.recipe import catalogue
from vlab.topology.addressing import complete
from vlab.topology.lab import Lab
from vlab.topology.parse import load

FILE = Path(__file__).resolve().parents[1] / "topologies" / "web-db.yaml"
LAB = "bench-cold"
PROGRAM = [sys.executable, "-c", "from vlab.cli.main import main; main()"]


def vlab(*words: str) -> float:
    began = time.monotonic()
    subprocess.run([*PROGRAM, *words], check=True, capture_output=True)
    return time.monotonic() - began


def machines(lab: Lab) -> list[Vm]:
    """The lab's VMs; building what is missing is not timed."""
    drivers = Drivers.open()
    for node in lab.nodes:
        build(drivers.recipes[node.image], kind(node.virt).form, drivers.store)
    direct = [node for node in lab.nodes if kind(node.virt).form == "direct"]
    return [Vm(n.name, drivers.store.planned(catalogue()[n.image], "direct"), n.memory >> 20) for n in direct]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    file = sys.argv[2] if len(sys.argv) > 2 else str(FILE)
    vms, cores = machines(complete(load(file))), os.cpu_count() or 1
    times: dict[str, list[float]] = {
        "floor, all at once": [],
        f"floor, {cores} at once": [],
        "vlab up": [],
        "no-op up": [],
        "down": [],
    }
    for _ in range(rounds):
        times["floor, all at once"].append(seconds(vms, len(vms)))
        times[f"floor, {cores} at once"].append(seconds(vms, cores))
        times["vlab up"].append(vlab("up", file, "--as", LAB, "--no-verify"))
        times["no-op up"].append(vlab("up", file, "--as", LAB))
        times["down"].append(vlab("down", LAB))
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, found in times.items():
        print(f"{name:22} median {medians[name]:6.1f} s   {' '.join(f'{s:.1f}' for s in found)}")
    floor = min(medians["floor, all at once"], medians[f"floor, {cores} at once"])
    print(f"up / floor: {medians['vlab up'] / floor:.2f}  ({len(vms)} VMs, {cores} cores)")


if __name__ == "__main__":
    main()
