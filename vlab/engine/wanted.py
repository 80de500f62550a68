"""A completed lab → what the plan compares: each node's form, queue and digests. Pure but for the accelerator's cached answer."""

from __future__ import annotations

from dataclasses import dataclass

from vlab.engine.drivers import Drivers
from vlab.guests import transition
from vlab.guests.settings import Settings
from vlab.host import internet
from vlab.hypervisors import xml
from vlab.hypervisors.kind import kind
from vlab.images.artifact import Artifact, Clone
from vlab.images.clone import planned
from vlab.lvs.settings import for_node
from vlab.plan import Wanted, WantedNode
from vlab.topology.lab import Lab, Node


@dataclass(frozen=True, slots=True)
class Target:
    """Everything a deed needs to know of one node."""

    node: Node
    accel: str
    artifact: Artifact
    clone: Clone
    settings: Settings
    digest: str

    @property
    def settings_digest(self) -> str:
        return transition.digest(self.settings)


@dataclass(frozen=True, slots=True)
class Ground:
    """What a lab's nodes get from this host: ``accel`` for KVM wanters («kvm» or «tcg»), vlab's public SSH key, and the resolver
    of networks with internet access."""

    accel: str
    ssh_key: str
    resolver: str


def targets(drivers: Drivers, lab: Lab, accel: str, ssh_key: str) -> dict[str, Target]:
    """By node name. ``accel`` is what KVM wanters get: «kvm» or «tcg»."""
    ground = Ground(accel, ssh_key, str(internet.resolver(lab)))
    artifacts = {pair: _artifact(drivers, *pair) for pair in {(node.image, node.virt) for node in lab.nodes}}
    return {n.name: _target(drivers, lab, n, artifacts[n.image, n.virt], ground) for n in lab.nodes}


def _artifact(drivers: Drivers, image: str, virt: str) -> Artifact:
    return drivers.store.planned(drivers.recipes[image], kind(virt).form)


def _target(drivers: Drivers, lab: Lab, node: Node, artifact: Artifact, ground: Ground) -> Target:
    virt = kind(node.virt)
    own = virt.accelerator(ground.accel)
    folder = drivers.paths.clone(lab.name, node.name)
    clone = planned(artifact, folder)
    element = virt.domain(lab, node, clone, own, folder)
    ready = drivers.recipes[node.image].ready
    settings = for_node(lab, node, ssh_key=ground.ssh_key, ready=ready, resolver=ground.resolver)
    return Target(node, own, artifact, clone, settings, xml.digest(element, artifact.digest))


def wanted(lab: Lab, made: dict[str, Target]) -> Wanted:
    return Wanted(lab, tuple(_node(target) for target in made.values()))


def _node(target: Target) -> WantedNode:
    virt = kind(target.node.virt)
    return WantedNode(target.node, virt.form, virt.queue, target.digest, target.settings_digest)
