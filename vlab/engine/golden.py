"""Golden snapshots: what guests of one shape are restored from instead of booted.

A shape is everything that a saved machine depends on and its clones share: the image, the virtual hardware as libvirt is told it, and the
versions that read and write a save image. What clones do not share (names, UUID, MACs, host keys, CPU weights) is no part of it: the
golden is made by a stand-in, and ``wake`` with the guest's settings turns a restored one into itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Interface
from pathlib import Path
from threading import Event

from vlab.engine.drivers import Drivers
from vlab.errors import ConflictError, GuestError
from vlab.events import Event as Told
from vlab.events import Sink, State
from vlab.guests import wake
from vlab.guests.base import Channel
from vlab.hypervisors import xml
from vlab.hypervisors.kind import kind
from vlab.hypervisors.mark import STAND_IN, Domain, Mark
from vlab.images import checkpoints, clone
from vlab.images.artifact import Artifact
from vlab.images.goldens import DISK, MEMORY, CalledOff, Golden
from vlab.topology.identity import STAND_IN_MAC, node_uuid
from vlab.topology.lab import Lab, Nic, Node

FORMAT = 3
"""Raise when the way goldens are made or woken changes in a manner the other inputs do not show."""


@dataclass(frozen=True, slots=True)
class Shape:
    """``node`` is the stand-in that boots and is saved. ``named`` units wait for the clone's host name, ``warm`` is a shell script that
    runs before the memory is saved (both are the recipe's)."""

    name: str
    node: Node
    accel: str
    artifact: Artifact
    named: tuple[str, ...]
    warm: str


def shape(drivers: Drivers, node: Node, accel: str, artifact: Artifact) -> Shape:
    """What ``node`` can be restored from. Pure but for the versions of libvirt and QEMU."""
    recipe = drivers.recipes[node.image]
    plain = _stand_in(node, "")
    element = kind(node.virt).domain(
        _lab(plain), plain, clone.planned(artifact, Path("/golden")), accel, Path("/golden")
    )
    parts = [
        FORMAT, xml.digest(element, artifact.digest), recipe.named, recipe.warm, drivers.versions(kind(node.virt).uri),
        _processor() if accel == "kvm" else "",
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    # By form, not by virt kind: without KVM, «full» and «emulated» are the same machine.
    name = f"{node.image}-{artifact.form}-{digest}"
    return Shape(name, _stand_in(node, digest), accel, artifact, recipe.named, recipe.warm)


class Making:
    """One golden, found or made, that can be called off: by its maker's side only, as another run may be making the same one."""

    def __init__(self, drivers: Drivers, shape: Shape, sink: Sink, subject: str) -> None:
        self._drivers, self._shape, self._sink, self._subject = drivers, shape, sink, subject
        self._off = Event()
        self._domain: Domain | None = None

    def ensure(self) -> Golden:
        """The golden, checked, or made. Raises what booting a guest raises; nothing half-made stays."""
        store = self._drivers.goldens
        store.sweep()
        made = store.ensure(self._shape.name, self._make, partial(self._tell, "note"), self._off.is_set)
        for old in stale(self._drivers, made):
            store.remove(old.name)
        return made

    def call_off(self) -> None:
        """End the making, or the waiting for another run's: ``ensure`` raises soon."""
        self._off.set()
        if self._domain:
            self._drivers.hypervisors.destroy(self._domain)

    def _tell(self, state: State, text: str) -> None:
        self._sink(Told(self._subject, state, text))

    def _make(self, folder: Path) -> Mapping[str, str]:
        """Boot the stand-in, quiet it, and save it into ``folder``. It dies with this thread, whatever ends that."""
        self._tell("progress", "booting")
        self._domain = domain = self._start(folder)
        try:
            self._save(domain, folder)
        finally:
            self._drivers.hypervisors.destroy(domain)
        for path in folder.iterdir():
            if path.name not in (MEMORY, DISK):
                path.unlink()
        (folder / DISK).chmod(0o444)
        return facts(self._shape)

    def _start(self, folder: Path) -> Domain:
        shape, virt = self._shape, kind(self._shape.node.virt)
        own = clone.make(shape.artifact, folder, self._drivers.mounts)
        element = virt.domain(_lab(shape.node), shape.node, own, shape.accel, folder)
        mark = Mark(STAND_IN, STAND_IN, shape.node, shape.accel, shape.name)
        self._clear()
        return self._drivers.hypervisors.start(virt.uri, xml.marked(element, mark), brief=True)

    def _clear(self) -> None:
        """The stand-in of a maker that was killed dies with its connection, which takes a moment. Nobody else's: this golden is locked."""
        for domain in self._drivers.hypervisors.domains(STAND_IN):
            if domain.mark.node.name == self._shape.node.name:
                self._drivers.hypervisors.destroy(domain)

    def _save(self, domain: Domain, folder: Path) -> None:
        if self._off.is_set():  # it was called off before there was anything to end
            raise CalledOff(f"golden {self._shape.name}: called off")
        channel = self._drivers.channel(domain)
        channel.wait(self._drivers.guest_timeout)
        self._tell("progress", "saving")
        quiet(channel, self._shape, self._drivers.guest_timeout)
        self._drivers.hypervisors.save(domain, folder / MEMORY)


def stale(drivers: Drivers, current: Golden) -> list[Golden]:
    """Older goldens of the same guests, which nothing can find any more and nobody runs on."""
    older = [it for it in drivers.goldens.all() if it.name != current.name and it.facts == current.facts]
    if not older:  # as in most runs: guests wait for this one, and the host's domains may be many
        return []
    try:
        domains = drivers.hypervisors.domains()
    except ConflictError:  # a mark of another version of vlab: who knows what its guest runs on
        return []
    used = {domain.mark.golden for domain in domains} | checkpoints.needed(drivers.paths)
    return [golden for golden in older if golden.name not in used]


def facts(shape: Shape) -> dict[str, str]:
    """What a golden is of, for people; versions are not among them."""
    node = shape.node
    return {
        "image": node.image, "form": shape.artifact.form, "accel": shape.accel, "cpus": str(node.cpus), "memory": str(node.memory),
        "nics": ", ".join(str(nic.mtu) for nic in node.nics),
    }  # fmt: skip


def quiet(channel: Channel, shape: Shape, timeout: float) -> None:
    """Let the stand-in finish its boot and come to rest. Raises ``GuestError`` with the script's output."""
    result = channel.run(["/bin/sh", "-s"], input=wake.quiet(shape.named, shape.warm).encode(), timeout=timeout)
    if result.code:
        raise GuestError(
            f"{shape.name}: the guest to be saved did not come to rest",
            details=[*result.text.splitlines()[-5:], *result.error_text.splitlines()[-10:]],
            hint="vlab up --cold boots without golden snapshots",
        )


def _lab(node: Node) -> Lab:
    return Lab(STAND_IN, STAND_IN, (), (node,), (), ())


def _stand_in(node: Node, digest: str) -> Node:
    """A guest of the same shape under a name of its own; its devices are in the host's root namespace, on no bridge."""
    uuid = node_uuid(STAND_IN, digest)
    nics = tuple(_nic(nic, digest, number) for number, nic in enumerate(node.nics))
    return replace(
        node,
        name=f"g{digest}",
        group=STAND_IN,
        cpu_shares=None,
        cpu_quota=None,
        uuid=uuid,
        machine_id=uuid.replace("-", ""),
        nics=nics,
    )


def _nic(nic: Nic, digest: str, number: int) -> Nic:
    return Nic(
        STAND_IN, f"{STAND_IN_MAC}:{number:02x}", IPv4Interface("0.0.0.0"), nic.mtu, f"vg{digest[:9]}{number}", STAND_IN
    )


def _processor() -> str:
    """The host's processor as the kernel names it: a machine saved under KVM has its features."""
    wanted = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    return "\n".join(line for line in lines if line.split("\t")[0].strip() in wanted)
