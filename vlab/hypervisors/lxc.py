"""The ``container`` kind: libvirt's LXC driver, systemd as init in namespaces of its own, on the host's kernel."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from vlab.errors import GuestError
from vlab.hypervisors import cgroups, xml
from vlab.hypervisors.kind import VirtKind
from vlab.hypervisors.xml import E, Element
from vlab.images.artifact import Clone
from vlab.images.clone import save_tree
from vlab.topology.lab import Lab, Nic, Node

if TYPE_CHECKING:
    from vlab.guests.base import Channel
    from vlab.guests.namespaces import NamespaceChannel
    from vlab.hypervisors.connection import Hypervisors
    from vlab.hypervisors.mark import Domain


class Container(VirtKind):
    """OS-level virtualisation: no kernel of its own, no devices, a veth pair for each network."""

    name = "container"
    title = "OS-level virtualisation"
    uri = "lxc:///system"
    form = "rootfs"
    queue = "container"
    seeded = True
    shares_host_kernel = True

    def accelerator(self, host: str) -> str:  # noqa: ARG002 - a container runs on the host's kernel whatever it can do
        return "none"

    def cost(self, node: Node) -> int:
        return node.memory

    def domain(self, lab: Lab, node: Node, clone: Clone, accel: str, folder: Path) -> Element:  # noqa: ARG002 - a VM's
        assert clone.root is not None, "a container's clone has a root"
        return E.domain(
            *xml.identity(lab, node),
            *xml.memory(node),
            xml.vcpu(node),
            *xml.cputune(node, _cores(node), scope=""),
            E.os(E.type("exe", arch="x86_64"), *_init()),
            E.features(E.privnet()),
            E.clock(offset="utc"),
            # A restart by libvirt would put new veth ends into the root namespace, where nobody adopts them.
            *xml.lifecycle(reboot="destroy"),
            E.devices(_root(clone.root), *(_nic(nic, i) for i, nic in enumerate(node.nics)), E.console(type="pty")),
            type="lxc",
        )

    def channel(self, domain: Domain, hypervisors: Hypervisors) -> Channel:  # noqa: ARG002 - needs no libvirt
        return self._namespaces(domain)

    def freeze(self, domain: Domain, hypervisors: Hypervisors) -> None:  # noqa: ARG002 - needs no libvirt
        self._signal(domain, "STOP")

    def thaw(self, domain: Domain, hypervisors: Hypervisors) -> None:  # noqa: ARG002 - needs no libvirt
        with contextlib.suppress(GuestError):
            self._signal(domain, "CONT")

    def _signal(self, domain: Domain, name: str) -> None:
        """To every process in the container but its init, which does nothing by itself."""
        self._namespaces(domain).run(["/bin/sh", "-c", f"kill -s {name} -- -1"])

    def capture(self, domain: Domain, hypervisors: Hypervisors, clone: Path, folder: Path) -> None:  # noqa: ARG002 - files only
        save_tree(clone, folder)

    def console(self, domain: Domain) -> list[str]:
        """A root shell: a container's console would ask for a password that nobody has."""
        return list(self._namespaces(domain).shell())

    def _namespaces(self, domain: Domain) -> NamespaceChannel:
        from vlab.guests.namespaces import NamespaceChannel

        return NamespaceChannel(domain.mark.node.name, domain.name, domain.pid)


def _init() -> list[Element]:
    return [E.init("/bin/sh"), E.initarg("-c"), E.initarg(cgroups.ENTER)]


def _cores(node: Node) -> float:
    """A container sees every core of the host, so ``cpus`` is a cap on time: without it the limit would be words."""
    return float(node.cpus) if node.cpu_quota is None else min(float(node.cpus), node.cpu_quota)


def _root(path: Path) -> Element:
    return E.filesystem(E.source(dir=str(path)), E.target(dir="/"), type="mount", accessmode="passthrough")


def _nic(nic: Nic, index: int) -> Element:
    return xml.interface(nic, E.guest(dev=f"eth{index}"))
