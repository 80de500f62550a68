"""The mark every domain of ours carries in ``<metadata>``: enough for ``down``, ``status`` and ``audit`` with the state
directory and the topology file gone."""

from __future__ import annotations

from dataclasses import dataclass

from vlab.topology.lab import Node, Service

NAMESPACE = "https://vlab.invalid/xmlns/1"
PREFIX = "vlab"


@dataclass(frozen=True, slots=True)
class Mark:
    """``digest`` is of the domain as generated (it changes only when the domain must be made again); ``settings`` is the
    digest of the ``Settings`` last applied inside the guest, empty before that. ``services`` is filled on directors only,
    with every service the director serves; ``accel`` is «kvm», «tcg» or «none» (containers)."""

    lab: str
    topology: str
    node: Node
    accel: str
    digest: str
    settings: str = ""
    services: tuple[Service, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """A libvirt domain of ours as found. ``state`` is libvirt's word: running, paused, shutoff, crashed … ``pid`` is the
    init process of a container and QEMU's of a VM, 0 when not running."""

    name: str
    uri: str
    state: str
    pid: int
    mark: Mark
