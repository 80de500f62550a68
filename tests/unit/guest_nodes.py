"""Nodes, clones and marks for tests of what the virt kinds make."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from vlab.hypervisors.mark import Mark
from vlab.images.artifact import Artifact, Clone, Form
from vlab.images.clone import planned
from vlab.topology.lab import Check, Lab, Network, Nic, Node, RealServer, Service

FRONT = Network(
    "front", IPv4Network("10.20.0.0/24"), 1500, internet=False, gateway=IPv4Address("10.20.0.254"), bridge="vb-1"
)
BACK = Network(
    "back", IPv4Network("10.30.0.0/24"), 1600, internet=False, gateway=IPv4Address("10.30.0.254"), bridge="vb-2"
)

FOLDER = Path("/state/labs/shop/clones/web1")


def nic(network: Network, host: int) -> Nic:
    address = IPv4Interface(f"{network.subnet.network_address + host}/{network.subnet.prefixlen}")
    mac = f"52:54:00:00:{int(network.subnet.network_address) >> 16 & 0xFF:02x}:{host:02x}"
    return Nic(network.name, mac, address, network.mtu, f"v{network.name}{host}", f"web1.{network.name}")


WEB1 = Node(
    "web1", "web", "para", "web", 256 << 20, 1, None, None, "5d7f2c8e-5f0e-4d66-9b8e-0d6f5f2b7a01", "a" * 32, (nic(BACK, 11),)
)  # fmt: skip
TUNED = replace(WEB1, cpus=2, cpu_shares=512, cpu_quota=0.5, nics=(nic(FRONT, 11), nic(BACK, 11)))

WWW = Service(
    "www", "lvs", "front", "back", IPv4Address("10.20.0.100"), 80, "tcp", "nat", "wlc", 300, Check("http", "/health", 2.5, 3.0),
    (RealServer("web1", IPv4Address("10.30.0.11"), 80, 1), RealServer("web2", IPv4Address("10.30.0.12"), 80, 0)),
)  # fmt: skip

LAB = Lab("shop", "web-db", (FRONT, BACK), (WEB1,), (WWW,), ("lvs",))
MARK = Mark("shop", "web-db", WEB1, "tcg", "d" * 64, "s" * 64, (WWW,))


def clone(form: Form) -> Clone:
    """Where a built image and a clone of it would be."""
    images = Path("/state/images/web")
    made = {
        "direct": Artifact("web", form, "e" * 64, (), images / "disk.qcow2", images / "kernel", images / "initrd", "root=LABEL=root ro"),
        "disk": Artifact("web", form, "f" * 64, (), images / "disk.qcow2"),
        "rootfs": Artifact("web", form, "0" * 64, (images / "root", images / "base")),
    }[form]  # fmt: skip
    return planned(made, FOLDER)
