"""The three kinds that QEMU runs: ``emulated``, ``full`` and ``para``. They differ in accelerator, devices and how they boot.

Machine type is ``q35``: the director booted to its agent in 4.8 and 4.5 s (TCG, direct boot) where ``pc`` took 5.4 and 5.7, and it
has SATA of its own.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from vlab.hypervisors import xml
from vlab.hypervisors.kind import VirtKind
from vlab.hypervisors.xml import E, Element
from vlab.images.artifact import Clone
from vlab.images.clone import save_disk
from vlab.images.snapshots import MEMORY
from vlab.topology.lab import Lab, Nic, Node

if TYPE_CHECKING:
    from vlab.guests.base import Channel
    from vlab.hypervisors.connection import Hypervisors
    from vlab.hypervisors.mark import Domain

TCG_CACHE = 64
"""MiB of translated code. QEMU's own default grows to 1 GiB of host memory a guest; 64 booted as fast (measured)."""

OVERHEAD = 96 << 20
"""Bytes that QEMU takes beside the guest's memory: itself, device models, translated code."""

_DOMAIN_TYPE = {"kvm": "kvm", "tcg": "qemu"}


class Qemu(VirtKind):
    """What the three have in common. Not a kind itself: it has no name."""

    uri = "qemu:///system"
    queue = "vm"
    restorable = True
    disk_bus: ClassVar[tuple[str, str]]
    nic_model: ClassVar[str]

    def accelerator(self, host: str) -> str:
        return host if self.wants_kvm else "tcg"

    def cost(self, node: Node) -> int:
        return node.memory + OVERHEAD

    def domain(self, lab: Lab, node: Node, clone: Clone, accel: str, folder: Path) -> Element:
        own = self.accelerator(accel)
        return E.domain(
            *xml.identity(lab, node),
            E.genid(),
            *xml.memory(node),
            xml.vcpu(node),
            *xml.cputune(node, node.cpu_quota, scope="global_"),
            self.boot(node, clone),
            _features(own),
            _cpu(own),
            E.clock(offset="utc"),
            *xml.lifecycle(reboot="restart"),
            E.devices(*self._devices(node, clone, folder)),
            type=_DOMAIN_TYPE[own],
        )

    def boot(self, node: Node, clone: Clone) -> Element:
        """The ``<os>`` element."""
        raise NotImplementedError

    def own_devices(self) -> list[Element]:
        """What only this kind has."""
        raise NotImplementedError

    def _devices(self, node: Node, clone: Clone, folder: Path) -> list[Element]:
        device, bus = self.disk_bus
        assert clone.disk is not None, f"a clone for {self.name} has a disk"
        return [
            xml.disk(clone.disk, device=device, bus=bus),
            *(self._nic(nic) for nic in node.nics),
            *_serial(folder),
            _agent(),
            E.controller(type="usb", model="none"),
            *self.own_devices(),
        ]

    def _nic(self, nic: Nic) -> Element:
        return xml.interface(nic, E.model(type=self.nic_model))

    def channel(self, domain: Domain, hypervisors: Hypervisors) -> Channel:
        from vlab.guests.agent import AgentChannel

        return AgentChannel(domain.mark.node.name, partial(hypervisors.agent, domain))

    def freeze(self, domain: Domain, hypervisors: Hypervisors) -> None:
        hypervisors.suspend(domain)

    def thaw(self, domain: Domain, hypervisors: Hypervisors) -> None:
        hypervisors.resume(domain)

    def capture(self, domain: Domain, hypervisors: Hypervisors, clone: Path, folder: Path) -> None:
        hypervisors.capture(domain, folder / MEMORY, self.disk_bus[0])
        save_disk(clone, folder)

    def console(self, domain: Domain) -> list[str]:
        return ["virsh", "--quiet", "-c", self.uri, "console", "--force", domain.name]


class Emulated(Qemu):
    """Hardware emulation: every instruction and device in software, on any host."""

    name = "emulated"
    title = "hardware emulation"
    form = "disk"
    disk_bus = ("sda", "sata")
    nic_model = "e1000"

    def boot(self, node: Node, clone: Clone) -> Element:  # noqa: ARG002 - the disk has its own boot loader
        return E.os(_machine(), E.boot(dev="hd"), E.bios(useserial="no"))

    def own_devices(self) -> list[Element]:
        return [E.memballoon(model="none")]


class Full(Emulated):
    """Full virtualisation: an unmodified guest with the same emulated devices, its instructions run by KVM."""

    name = "full"
    title = "full virtualisation"
    wants_kvm = True


class Para(Qemu):
    """Para-virtualisation: a guest that knows, with virtio devices and a kernel loaded by QEMU itself."""

    name = "para"
    title = "para-virtualisation"
    form = "direct"
    seeded = True
    wants_kvm = True
    disk_bus = ("vda", "virtio")
    nic_model = "virtio"

    def boot(self, node: Node, clone: Clone) -> Element:
        artifact = clone.boot
        assert artifact.kernel and clone.initrd, "a direct boot has a kernel and an initrd"
        # Known from the first instruction, so the journal and host name need no correction later.
        cmdline = f"{artifact.cmdline} systemd.hostname={node.name} systemd.machine_id={node.machine_id}".strip()
        return E.os(_machine(), E.kernel(str(artifact.kernel)), E.initrd(str(clone.initrd)), E.cmdline(cmdline))

    def _devices(self, node: Node, clone: Clone, folder: Path) -> list[Element]:
        return on_root_bus([*super()._devices(node, clone, folder), E.controller(type="virtio-serial", index="0")])

    def _nic(self, nic: Nic) -> Element:
        # vhost wants /dev/vhost-net, and brings nothing where the guest itself is what is slow.
        return xml.interface(nic, E.model(type=self.nic_model), E.driver(name="qemu"))

    def own_devices(self) -> list[Element]:
        return [E.memballoon(model="virtio"), E.rng(E.backend("/dev/urandom", model="random"), model="virtio")]


ROOT_SLOTS = 28
_PCI = ("disk", "interface", "memballoon", "rng")
"""Elements that are PCI devices where they are virtio's."""


def on_root_bus(devices: list[Element]) -> list[Element]:
    """The devices, each PCI one in a slot of the root bus. libvirt's own choice is a root port for each and one to spare, and
    an emulated CPU needs a third of a second to bring those up. More devices than slots are left to libvirt."""
    found = [d for d in devices if d.tag in _PCI or (d.tag == "controller" and d.get("type") == "virtio-serial")]
    for slot, device in enumerate(found if len(found) <= ROOT_SLOTS else [], start=2):
        device.append(E.address(type="pci", domain="0x0000", bus="0x00", slot=f"{slot:#04x}", function="0x0"))
    return devices


def _machine() -> Element:
    return E.type("hvm", arch="x86_64", machine="q35")


def _features(accel: str) -> Element:
    tcg = [E.tcg(E("tb-cache", str(TCG_CACHE), unit="MiB"))] if accel == "tcg" else []
    return E.features(E.acpi(), E.apic(), E.vmport(state="off"), *tcg)


def _cpu(accel: str) -> Element:
    """KVM: the host's own. TCG: ``qemu64``, which booted six guests in 161 s where Nehalem took 193 s; never ``maximum``
    with features taken away, on which systemd's mount namespaces failed."""
    if accel == "kvm":
        return E.cpu(mode="host-passthrough", migratable="on", check="none")
    return E.cpu(E.model("qemu64", fallback="forbid"), mode="custom", match="exact", check="none")


def _serial(folder: Path) -> list[Element]:
    """A terminal for ``vlab console`` whose output is recorded too, for ``vlab logs`` of a guest that never answered."""
    log = E.log(file=str(folder / "console.log"), append="off")
    return [
        E.serial(log, E.target(port="0", type="isa-serial"), type="pty"),
        E.console(E.target(type="serial", port="0"), type="pty"),
    ]


def _agent() -> Element:
    """The guest agent's channel: virtio-serial in every kind, as libvirt's agent API knows no other. ``emulated`` and ``full``
    keep their promise of emulated devices for disk and network; this one is vlab's own door."""
    return E.channel(E.target(type="virtio", name="org.qemu.guest_agent.0"), type="unix")
