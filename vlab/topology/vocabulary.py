"""The closed word lists of the language, with what people write instead. Data only.

Forwarding modes are not here: ``mode_rules`` knows them, one class a mode.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlab.topology.units import MIB


@dataclass(frozen=True, slots=True)
class Virt:
    """What the language must know of a virt kind. ``least_memory`` is in bytes. ``no_director`` is the reason why a director
    cannot be of this kind, empty where it can."""

    title: str
    least_memory: int
    no_director: str = ""


VIRT_KINDS = {
    "emulated": Virt("hardware emulation (QEMU TCG, emulated devices)", 128 * MIB),
    "full": Virt("full virtualisation (KVM, emulated devices)", 128 * MIB),
    "para": Virt("para-virtualisation (KVM, virtio devices)", 128 * MIB),
    "container": Virt(
        "OS-level (libvirt-LXC, the host's kernel)", 64 * MIB, no_director="a container cannot load the kernel's ip_vs"
    ),
}

VIRT_SYNONYMS = {
    **{"tcg": "emulated", "emulation": "emulated", "qemu": "emulated", "hvm": "full", "kvm": "para", "virtio": "para"},
    **{"paravirt": "para", "vm": "para", "lxc": "container", "os": "container", "docker": "container", "ct": "container"},
}

SCHEDULERS = {
    "rr": "round robin",
    "wrr": "weighted round robin",
    "lc": "least connections",
    "wlc": "weighted least connections",
    "fo": "weighted failover: the heaviest server that is up",
    "ovf": "overflow: the heaviest server until it is full",
    "lblc": "locality-based least connections, by destination",
    "lblcr": "locality-based least connections with replication",
    "dh": "hash of the destination address",
    "sh": "hash of the source address",
    "mh": "Maglev hash of the source address",
    "sed": "shortest expected delay",
    "nq": "never queue: an idle server first, else sed",
    "twos": "the less loaded of two random servers",
}

SCHEDULER_SYNONYMS = {
    **{"round-robin": "rr", "roundrobin": "rr", "round_robin": "rr", "wls": "wlc", "leastconn": "lc", "least-conn": "lc"},
    **{"least_conn": "lc", "source": "sh", "ip_hash": "sh", "maglev": "mh", "random": "twos"},
}

WEIGHT_BLIND = frozenset({"rr", "lc"})
"""Schedulers that look at a weight only to see whether it is 0."""

BY_DESTINATION = frozenset({"dh", "lblc", "lblcr"})
"""Schedulers that choose by destination address, which is one and the same for every client of a VIP."""

PROTOCOLS = {"tcp": "TCP", "udp": "UDP"}
