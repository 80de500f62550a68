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

_VIRT_MEANT = {
    "emulated": ("tcg", "emulation", "qemu"),
    "full": ("hvm", "fullvirt"),
    "para": ("kvm", "virtio", "paravirt", "pv", "vm"),
    "container": ("lxc", "os", "docker", "ct"),
}
VIRT_SYNONYMS = {word: name for name, words in _VIRT_MEANT.items() for word in words}

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

_SCHEDULERS_MEANT = {
    "rr": ("round-robin", "roundrobin", "round_robin"),
    "lc": ("leastconn", "least-conn", "least_conn"),
    "wlc": ("wls", "wleastconn"),
    "sh": ("source", "ip_hash"),
    "mh": ("maglev",),
    "twos": ("random",),
}
SCHEDULER_SYNONYMS = {word: name for name, words in _SCHEDULERS_MEANT.items() for word in words}

WEIGHT_BLIND = frozenset({"rr", "lc"})
"""Schedulers that look at a weight only to see whether it is 0."""

BY_DESTINATION = frozenset({"dh", "lblc", "lblcr"})
"""Schedulers that choose by destination address, which is one and the same for every client of a VIP."""

SCHEDULER_FLAGS = {
    "sh-fallback": "sh takes another real server where the client's own is down",
    "sh-port": "sh hashes the client's port as well",
    "mh-fallback": "mh takes another real server where the client's own is down",
    "mh-port": "mh hashes the client's port as well",
}
"""Each belongs to the scheduler before the dash."""

ACCELERATORS = {
    "auto": "KVM where it works, else TCG",
    "kvm": "KVM, or an error where it does not work",
    "tcg": "emulation, even where KVM works",
}
ACCELERATOR_SYNONYMS = {"qemu": "tcg", "none": "tcg", "hw": "kvm", "yes": "auto"}

PROTOCOLS = {"tcp": "TCP", "udp": "UDP"}
