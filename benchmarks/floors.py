"""A lab's guests as its floors start them: everything that need not be timed is ready before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import plain_libvirt
from benchmarks.crowd import Guest
from benchmarks.interrupts import held
from benchmarks.plain_libvirt import Created, Restored
from benchmarks.plain_qemu import PlainQemu
from vlab.engine import admission, golden
from vlab.engine.drivers import Drivers
from vlab.events import silent
from vlab.host.mounts import Mounts
from vlab.hypervisors import saveimage, xml
from vlab.hypervisors.kind import kind
from vlab.images import clone
from vlab.images.artifact import Artifact
from vlab.images.build import build
from vlab.images.goldens import Golden
from vlab.topology.lab import Lab, Node, domain_name

ONE_AFTER_ANOTHER, ONE_PER_CORE, ALL_AT_ONCE = "one after another", "one per core", "all at once"
LAB = "bench-floor"
"""The floors' domains are called like those of a lab of this name; they carry no mark."""


@dataclass(frozen=True)
class Prepared:
    """A lab with its images built and its goldens made and checked. ``artifacts`` and ``goldens`` are by node; a node without a golden is
    never restored."""

    drivers: Drivers
    lab: Lab
    accel: str
    artifacts: Mapping[str, Artifact]
    goldens: Mapping[str, Golden]

    @property
    def warm(self) -> bool:
        return bool(self.goldens)


def prepare(drivers: Drivers, lab: Lab) -> Prepared:
    """Build and make what is missing, which takes minutes on a fresh host."""
    accel = admission.accelerator(drivers, lab).name
    artifacts = {pair: build(drivers.recipes[pair[0]], kind(pair[1]).form, drivers.store) for pair in _pairs(lab)}
    by_node = {node.name: artifacts[node.image, node.virt] for node in lab.nodes}
    shapes = {
        node.name: golden.shape(drivers, node, kind(node.virt).accelerator(accel), by_node[node.name])
        for node in lab.nodes
        if kind(node.virt).restorable
    }
    made = {
        shape.name: golden.Making(drivers, shape, silent, "").ensure()
        for shape in {s.name: s for s in shapes.values()}.values()
    }
    return Prepared(drivers, lab, accel, by_node, {name: made[shape.name] for name, shape in shapes.items()})


def _pairs(lab: Lab) -> set[tuple[str, str]]:
    return {(node.image, node.virt) for node in lab.nodes}


@contextmanager
def workplace(drivers: Drivers) -> Iterator[Path]:
    """A folder for the floors' disks on the file system where labs have theirs; what killed runs left goes before, all goes after."""
    folder = drivers.paths.root / LAB
    _clear(folder)
    folder.mkdir(parents=True)
    folder.chmod(0o755)  # libvirt's QEMU user must reach the disks
    try:
        yield folder
    finally:
        with held():
            _clear(folder)


def _clear(folder: Path) -> None:
    plain_libvirt.sweep(domain_name(LAB, ""))
    mounts = Mounts()
    for target in mounts.mounted(folder):
        mounts.unmount(target)
    if folder.exists():
        shutil.rmtree(folder)


def at_once(ways: Sequence[str], count: int) -> dict[str, int]:
    """How many of ``count`` guests start at once in each of these ways; of ways that are the same for so few, the first."""
    numbers = {ONE_AFTER_ANOTHER: 1, ONE_PER_CORE: os.cpu_count() or 1, ALL_AT_ONCE: count}
    by_number = {min(numbers[way], count): way for way in reversed(ways)}
    return {way: number for number, way in sorted(by_number.items())}


def booted(ready: Prepared, folder: Path) -> list[Guest]:
    """The lab's guests for a cold start."""
    return [_booted(ready, node, number, folder) for number, node in enumerate(ready.lab.nodes)]


def restored(ready: Prepared, folder: Path) -> list[Guest]:
    """The lab's guests for a warm start."""
    return [_restored(ready, node, number, folder) for number, node in enumerate(ready.lab.nodes)]


def _booted(ready: Prepared, node: Node, number: int, folder: Path) -> Guest:
    artifact, place = ready.artifacts[node.name], folder / node.name
    if artifact.kernel is None:
        return Created(domain_name(LAB, node.name), _xml(ready, node, number, artifact, place), artifact, place)
    return PlainQemu(node.name, artifact, node.memory >> 20, node.cpus, ready.accel, place)


def _restored(ready: Prepared, node: Node, number: int, folder: Path) -> Guest:
    if node.name not in ready.goldens:
        return _booted(ready, node, number, folder)
    whole, place = ready.goldens[node.name], folder / node.name
    artifact = replace(ready.artifacts[node.name], disk=whole.disk)
    described = _xml(ready, node, number, artifact, place)
    return Restored(domain_name(LAB, node.name), described, artifact, saveimage.read(whole.memory), place)


def _xml(ready: Prepared, node: Node, number: int, artifact: Artifact, folder: Path) -> str:
    """vlab's own XML; the host's ends of the NICs, which stay in the root namespace on no bridge, have names that no lab's have."""
    virt = kind(node.virt)
    nics = tuple(replace(nic, device=f"bench{number}n{index}") for index, nic in enumerate(node.nics))
    alike = replace(node, nics=nics)
    own = virt.accelerator(ready.accel)
    return xml.text(virt.domain(ready.lab, alike, clone.planned(artifact, folder), own, folder))
