"""Domain XML that every virt kind shares: one small function per element, in lxml's ``E``, and the mark in ``<metadata>``.

The order of elements and attributes is fixed, so golden files and digests stay still. Nothing here talks to libvirt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Protocol

from lxml import etree
from lxml.builder import ElementMaker  # type: ignore[import-not-found] # lxml-stubs knows lxml.etree only

from vlab.hypervisors.mark import NAMESPACE, PREFIX, Mark
from vlab.plain import from_element, to_element
from vlab.topology.lab import Lab, Nic, Node, domain_name

PERIOD = 100_000
"""The scheduler's period in microseconds; quotas are shares of it."""

Element = etree._Element


class Maker(Protocol):
    """lxml's ``E`` as a type: ``E.name("text", child, key="value")``; ``E("odd-name", …)`` where Python cannot spell it."""

    def __call__(self, tag: str, *children: Element | str, **attributes: str) -> Element: ...

    def __getattr__(self, tag: str) -> Callable[..., Element]: ...


E: Maker = ElementMaker()


def mark_element(mark: Mark) -> Element:
    """The mark as libvirt keeps it: one element in vlab's own XML namespace."""
    return to_element(mark, "mark", NAMESPACE, PREFIX)


def read_mark(element: Element) -> Mark:
    """The mark of ``mark_element``. Raises ``ValueError``, ``TypeError`` or ``KeyError`` when it is another version's."""
    return from_element(Mark, element)


def marked(domain: Element, mark: Mark) -> str:
    """The domain's XML text with the mark in its ``<metadata>``."""
    made = deepcopy(domain)
    place = made.find("metadata")
    assert place is not None, "identity() makes the element"
    place.append(mark_element(mark))
    return text(made)


def text(element: Element) -> str:
    """XML text, indented, as ``virsh dumpxml`` would show it."""
    made = deepcopy(element)
    etree.indent(made)
    return etree.tostring(made, encoding="unicode") + "\n"


def digest(domain: Element, boot: str = "") -> str:
    """SHA-256 of the domain as generated, without any mark, and of ``boot``, the digest of the artefact it boots: it changes
    only when the guest must be made again."""
    return hashlib.sha256(etree.tostring(domain, method="c14n") + b"\0" + boot.encode()).hexdigest()


def identity(lab: Lab, node: Node) -> list[Element]:
    """Name, UUID, what people see in ``virsh list --title``, and the place of the mark."""
    return [
        E.name(domain_name(lab.name, node.name)),
        E.uuid(node.uuid),
        E.title(f"vlab: {node.name} of {lab.name}"),
        E.metadata(),
    ]


def memory(node: Node) -> list[Element]:
    return [E.memory(str(node.memory), unit="b"), E.currentMemory(str(node.memory), unit="b")]


def vcpu(node: Node) -> Element:
    return E.vcpu(str(node.cpus), placement="static")


def cputune(node: Node, cores: float | None, *, scope: str) -> list[Element]:
    """The CPU weight, and the cap of the whole guest at ``cores`` cores; nothing when neither is asked for.

    ``scope`` is «global_» for QEMU, where a bare ``quota`` is one virtual CPU's; LXC knows only the bare one."""
    parts = [] if node.cpu_shares is None else [E.shares(str(node.cpu_shares))]
    if cores is not None:
        quota = max(1000, round(cores * PERIOD))  # the kernel's smallest
        parts += [E(f"{scope}period", str(PERIOD)), E(f"{scope}quota", str(quota))]
    return [E.cputune(*parts)] if parts else []


def memory_snapshot(path: Path, disk: str) -> Element:
    """libvirt's snapshot of memory alone; whoever asks copies the ``disk``."""
    return E.domainsnapshot(E.memory(snapshot="external", file=str(path)), E.disks(E.disk(name=disk, snapshot="no")))


def lifecycle(*, reboot: str) -> list[Element]:
    """A guest that stops is gone: domains are transient, and what is missing is made again by the next ``up``."""
    return [E.on_poweroff("destroy"), E.on_reboot(reboot), E.on_crash("destroy")]


def disk(path: Path, *, device: str, bus: str) -> Element:
    """A qcow2 overlay that is thrown away with its lab: ``unsafe`` never waits for the host's disk."""
    return E.disk(
        E.driver(name="qemu", type="qcow2", cache="unsafe", discard="unmap"),
        E.source(file=str(path)),
        E.target(dev=device, bus=bus),
        type="file",
        device="disk",
    )


def interface(nic: Nic, *details: Element) -> Element:
    """A NIC whose host side libvirt creates in the root namespace, for ``host.links`` to move into the lab's.

    ``ethernet`` is the one type that leaves bridging to us."""
    return E.interface(
        E.mac(address=nic.mac), E.target(dev=nic.device), *details, E.mtu(size=str(nic.mtu)), type="ethernet"
    )
