"""A completed topology: every address, MAC and device name decided. Pure, frozen, the only form the rest of vlab sees.

``addressing.complete(topology, name)`` makes it; kinds, plan, engine and cli read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network


@dataclass(frozen=True, slots=True)
class Network:
    """One bridge. ``gateway`` is the lab namespace's own address on it, which nothing in the lab routes through
    unless ``internet`` is on; ``bridge`` is the device's name (at most 15 characters)."""

    name: str
    subnet: IPv4Network
    mtu: int
    internet: bool
    gateway: IPv4Address
    bridge: str


@dataclass(frozen=True, slots=True)
class Nic:
    """One interface of a node. ``device`` is the host side (tap or veth, at most 15 characters, unique on the host);
    ``altname`` is its readable name inside the lab's namespace («web1.back»)."""

    network: str
    mac: str
    address: IPv4Interface
    mtu: int
    device: str
    altname: str


@dataclass(frozen=True, slots=True)
class Node:
    """One guest. ``memory`` is in bytes; ``cpu_shares`` is libvirt's weight (1024 is normal); ``cpu_quota`` is in cores
    (0.5 is half a core), None for no cap. ``uuid`` is stable for (lab, node). ``group`` is the group's or director's name."""

    name: str
    group: str
    virt: str
    image: str
    memory: int
    cpus: int
    cpu_shares: int | None
    cpu_quota: float | None
    uuid: str
    machine_id: str
    nics: tuple[Nic, ...]

    def nic(self, network: str) -> Nic:
        """The node's interface on ``network``. Raises ``KeyError``."""
        for nic in self.nics:
            if nic.network == network:
                return nic
        raise KeyError(network)

    def address(self, network: str) -> IPv4Address:
        return self.nic(network).address.ip


@dataclass(frozen=True, slots=True)
class Check:
    """A director's health check. ``kind`` is «tcp» or «http»; ``path`` only for http; ``every`` in seconds
    (keepalived's delay_loop), ``timeout`` in seconds (connect_timeout)."""

    kind: str
    path: str
    every: float
    timeout: float


@dataclass(frozen=True, slots=True)
class RealServer:
    """``address`` is the node's address the director forwards to; weight 0 is quiesced."""

    node: str
    address: IPv4Address
    port: int
    weight: int


@dataclass(frozen=True, slots=True)
class Service:
    """``network`` is the network of the VIP; ``inner_network`` the one that director and real servers share.
    ``persistence`` is ipvs' timeout in seconds, None for none. ``protocol`` is «tcp» or «udp»."""

    name: str
    director: str
    network: str
    inner_network: str
    vip: IPv4Address
    port: int
    protocol: str
    mode: str
    scheduler: str
    persistence: int | None
    check: Check
    real_servers: tuple[RealServer, ...]


@dataclass(frozen=True, slots=True)
class Lab:
    """``name`` is the lab's (``--as`` or the topology's own), ``topology`` the file's ``name``; ``accel`` is «auto», «kvm» or «tcg»."""

    name: str
    topology: str
    networks: tuple[Network, ...]
    nodes: tuple[Node, ...]
    services: tuple[Service, ...]
    directors: tuple[str, ...]
    accel: str = "auto"

    @property
    def namespace(self) -> str:
        return namespace(self.name)

    def network(self, name: str) -> Network:
        return next(network for network in self.networks if network.name == name)

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def group(self, name: str) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.group == name)

    def services_of(self, node: Node) -> tuple[Service, ...]:
        """The services for which ``node`` is a real server."""
        return tuple(s for s in self.services if any(r.node == node.name for r in s.real_servers))


def namespace(lab: str) -> str:
    """The host network namespace of a lab."""
    return f"vlab-{lab}"


def domain_name(lab: str, node: str) -> str:
    """The libvirt domain of a node; a dot cannot occur in either name, so no two labs can collide."""
    return f"vlab-{lab}.{node}"
