"""The mark every domain of ours carries in ``<metadata>``: enough for ``down``, ``status`` and ``audit`` with the state
directory and the topology file gone."""

from __future__ import annotations

from dataclasses import dataclass

from vlab.errors import ConflictError
from vlab.topology.lab import Node, Service

NAMESPACE = "https://vlab.invalid/xmlns/1"
PREFIX = "vlab"


STAND_IN = "_golden"
"""The lab in the mark of a golden in the making; no lab can be called so. It is gone before anybody restores from it."""


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
    golden: str = ""


@dataclass(frozen=True, slots=True)
class Domain:
    """A libvirt domain of ours as found. ``state`` is libvirt's word: running, paused, shutoff, crashed … ``pid`` is the
    init process of a container and QEMU's of a VM, 0 when not running."""

    name: str
    uri: str
    state: str
    pid: int
    mark: Mark


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A domain whose mark another version of vlab wrote: enough to name it and to take it away. ``image`` is what its node is made of,
    empty where that cannot be told; ``why`` says what is wrong with the mark."""

    name: str
    uri: str
    state: str
    lab: str
    image: str
    why: str

    @property
    def node(self) -> str:
        """From the domain's name, in which no part holds a dot."""
        return self.name.rpartition(".")[2]

    def error(self) -> ConflictError:
        """What to tell whoever cannot go on without the mark."""
        return ConflictError(
            f"domain {self.name} carries a mark that this version of vlab cannot read",
            details=[self.why],
            hint=f"vlab down {self.lab} removes lab {self.lab}; the vlab that made it can read it",
        )
