"""A completed lab → what the plan compares: each node's form, queue and digests. Pure but for the accelerator's cached answer."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from vlab.engine.drivers import Drivers
from vlab.engine.golden import Shape, shape
from vlab.guests import transition
from vlab.guests.settings import Settings
from vlab.host import internet
from vlab.hypervisors import xml
from vlab.hypervisors.kind import kind
from vlab.hypervisors.xml import Element
from vlab.images.artifact import Artifact, Clone
from vlab.images.clone import planned
from vlab.images.recipe import Recipe
from vlab.images.snapshots import MEMORY
from vlab.lvs.settings import for_node
from vlab.plan import Wanted, WantedNode
from vlab.topology.lab import Lab, Node


@dataclass(frozen=True, slots=True)
class Saved:
    """One node's part of a checkpoint: its folder, and the golden that its disk lies over (empty for none)."""

    folder: Path
    golden: str

    @property
    def memory(self) -> Path | None:
        """The save image, None for a container."""
        path = self.folder / MEMORY
        return path if path.exists() else None


@dataclass(frozen=True, slots=True)
class Ground:
    """What a lab's nodes get from this host: ``accel`` for KVM wanters («kvm» or «tcg»), vlab's public SSH key, and the resolver
    of networks with internet access."""

    lab: Lab
    accel: str
    ssh_key: str
    resolver: str


@dataclass(frozen=True)
class Target:
    """Everything a deed needs to know of one node. ``folder`` is its clone's; ``shape`` is the golden that it is restored from, None when
    it boots; ``saved`` is its part of a checkpoint, which comes before both.

    What takes long is made when it is first asked for: nobody asks for the digests of a node that is not there."""

    ground: Ground
    node: Node
    recipe: Recipe
    accel: str
    artifact: Artifact
    folder: Path
    shape: Shape | None = None
    saved: Saved | None = None

    @property
    def clone(self) -> Clone:
        return planned(self.artifact, self.folder)

    def domain(self) -> Element:
        """libvirt's XML, without a mark."""
        return kind(self.node.virt).domain(self.ground.lab, self.node, self.clone, self.accel, self.folder)

    @cached_property
    def digest(self) -> str:
        """Of the domain and what it boots."""
        return xml.digest(self.domain(), self.artifact.digest)

    @cached_property
    def settings(self) -> Settings:
        return for_node(
            self.ground.lab,
            self.node,
            ssh_key=self.ground.ssh_key,
            ready=self.recipe.ready,
            named=self.recipe.named,
            resolver=self.ground.resolver,
        )

    @cached_property
    def settings_digest(self) -> str:
        return transition.digest(self.settings)


class Shapes:
    """The shapes of a lab, each made once: thousands of nodes have the same."""

    def __init__(self, drivers: Drivers, *, cold: bool) -> None:
        self._drivers, self._cold = drivers, cold
        self._made: dict[object, Shape] = {}

    def of(self, node: Node, accel: str, artifact: Artifact) -> Shape | None:
        if self._cold or not kind(node.virt).restorable:
            return None
        key = (node.image, node.virt, node.cpus, node.memory, tuple(nic.mtu for nic in node.nics), accel)
        if key not in self._made:
            self._made[key] = shape(self._drivers, node, accel, artifact)
        return self._made[key]


def targets(drivers: Drivers, lab: Lab, accel: str, ssh_key: str, *, cold: bool = False) -> dict[str, Target]:
    """By node name. ``accel`` is what KVM wanters get: «kvm» or «tcg»; ``cold``: every guest boots, none is restored."""
    ground = Ground(lab, accel, ssh_key, str(internet.resolver(lab)))
    shapes = Shapes(drivers, cold=cold)
    artifacts = {pair: _artifact(drivers, *pair) for pair in {(node.image, node.virt) for node in lab.nodes}}
    clones = drivers.paths.clones(lab.name)

    def target(node: Node) -> Target:
        artifact, own = artifacts[node.image, node.virt], kind(node.virt).accelerator(accel)
        shape = shapes.of(node, own, artifact)
        return Target(ground, node, drivers.recipes[node.image], own, artifact, clones / node.name, shape)

    return {node.name: target(node) for node in lab.nodes}


def _artifact(drivers: Drivers, image: str, virt: str) -> Artifact:
    return drivers.store.planned(drivers.recipes[image], kind(virt).form)


def wanted(
    lab: Lab, made: Mapping[str, Target], there: Container[str], again: Mapping[str, str] | None = None
) -> Wanted:
    """``there``: names of the nodes that run, all others' digests are compared with nothing, and empty; ``again``: nodes that are to be
    made anew though nothing about them changed, and why."""
    reasons = again or {}
    nodes = (_node(target, reasons.get(name, ""), compared=name in there) for name, target in made.items())
    return Wanted(lab, tuple(nodes))


def _node(target: Target, again: str, *, compared: bool) -> WantedNode:
    virt = kind(target.node.virt)
    domain, settings = (target.digest, target.settings_digest) if compared else ("", "")
    golden = target.shape.name if target.shape and not target.saved else ""
    restored = bool(target.saved.memory if target.saved else target.shape)
    return WantedNode(target.node, virt.form, virt.queue, domain, settings, golden, restored, again)
