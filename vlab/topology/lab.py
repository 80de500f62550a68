"""A completed topology: every address, MAC and device name decided. Pure, frozen, the only form the rest of vlab sees.

``addressing.complete(topology, name)`` makes it; kinds, plan, engine and cli read it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from vlab.topology.family import Address, Interface, endpoint, is_six, literal
from vlab.topology.ports import PortRange, show_ports


@dataclass(frozen=True, slots=True)
class Network:
    """One bridge. ``gateway`` is the lab namespace's own address on it, which nothing in the lab routes through
    unless ``internet`` or ``routed`` is on; ``bridge`` is the device's name (at most 15 characters). ``subnet6`` and ``gateway6``
    are None on a network without IPv6."""

    name: str
    subnet: IPv4Network
    mtu: int
    internet: bool
    gateway: IPv4Address
    bridge: str
    routed: bool = False
    subnet6: IPv6Network | None = None
    gateway6: IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """One interface of a node. ``device`` is the host side (tap or veth, at most 15 characters, unique on the host);
    ``altname`` is its readable name inside the lab's namespace («web1.back»); ``address6`` is None without IPv6."""

    network: str
    mac: str
    address: IPv4Interface
    mtu: int
    device: str
    altname: str
    address6: IPv6Interface | None = None

    @property
    def addresses(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """Its own addresses, IPv4 first."""
        return (self.address,) if self.address6 is None else (self.address, self.address6)


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

    def address_like(self, other: Address, network: str) -> Address:
        """The node's address on ``network`` of the same family as ``other``. Raises ``KeyError``, also where it has none."""
        nic = self.nic(network)
        if not is_six(other):
            return nic.address.ip
        if nic.address6 is None:
            raise KeyError(network)
        return nic.address6.ip


@dataclass(frozen=True, slots=True)
class Login:
    """An account that a check logs in with; ``database`` is empty for none."""

    user: str
    password: str
    database: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A director's health check. ``kind`` is «tcp», «http», «udp», «dns», «login» or «misc»; ``path`` is http's, ``name`` dns',
    ``command`` misc's, whose words may hold {address} and {port}; ``every`` in seconds (keepalived's delay_loop), ``timeout``
    in seconds (connect_timeout); ``port`` is None for the service's own."""

    kind: str
    path: str
    every: float
    timeout: float
    port: int | None = None
    name: str = ""
    login: Login | None = None
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RealServer:
    """``address`` is the node's address the director forwards to; weight 0 is quiesced. ``drained`` is the weight that a
    drained server, whose ``weight`` is 0, will have again; None for all others. ``port`` 0 is the port that the client used: of a
    service with a firewall mark. ``upper`` and ``lower`` are ipvs' thresholds, 0 for none."""

    node: str
    address: Address
    port: int
    weight: int
    drained: int | None = None
    upper: int = 0
    lower: int = 0


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What a tun service wraps packets in. ``port`` and ``checksum`` are gue's: the UDP port, and «none», «full» or «remote»."""

    type: str
    port: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Service:
    """``network`` is the network of the VIP; ``inner_network`` the one that director and real servers share.
    ``persistence`` is ipvs' timeout in seconds, None for none; ``netmask`` the prefix length that makes one client of many.
    ``protocol`` is «tcp» or «udp».

    ``ports`` is empty where ``port`` is the only one, and without a mark; else ``port`` is the first of them. With ``fwmark`` all
    of them are one service in the kernel, without it each is one of its own: ``each``. ``quorum`` is the weight of live real
    servers below which ``sorry_server`` answers instead of them.

    ``snat`` says that the director rewrites the source of requests too; ``tunnel`` is set in mode tun only."""

    name: str
    director: str
    network: str
    inner_network: str
    vip: Address
    port: int
    protocol: str
    mode: str
    scheduler: str
    persistence: int | None
    check: Check
    real_servers: tuple[RealServer, ...]
    ports: tuple[PortRange, ...] = ()
    fwmark: int | None = None
    netmask: int = 32
    scheduler_flags: tuple[str, ...] = ()
    one_packet: bool = False
    sorry_server: RealServer | None = None
    quorum: int = 1
    snat: bool = False
    tunnel: Tunnel | None = None

    @property
    def servers(self) -> tuple[RealServer, ...]:
        """Everyone whom the director may forward to: real servers, then the sorry server."""
        return (*self.real_servers, *([self.sorry_server] if self.sorry_server else []))

    @property
    def port_ranges(self) -> tuple[PortRange, ...]:
        return self.ports or (PortRange(self.port, self.port),)

    @property
    def shown_ports(self) -> str:
        """«80» or «80,443,8000-8010»."""
        return show_ports(self.port_ranges)

    def each(self) -> tuple[Service, ...]:
        """The service as the kernel has it: one for each port, or itself where a firewall mark makes one of them."""
        if self.fwmark is not None or not self.ports:
            return (self,)
        return tuple(self._on(port) for ports in self.ports for port in ports)

    def _on(self, port: int) -> Service:
        servers = tuple(replace(server, port=port) for server in self.real_servers)
        sorry = replace(self.sorry_server, port=port) if self.sorry_server else None
        return replace(self, port=port, ports=(), real_servers=servers, sorry_server=sorry)

    @property
    def endpoint(self) -> str:
        """Where clients find it: «10.20.0.100:80» or «[fd00:20::100]:80». Of several ports the first."""
        return endpoint(self.vip, self.port)

    @property
    def shown_endpoint(self) -> str:
        """With every port."""
        return f"{literal(self.vip)}:{self.shown_ports}"


@dataclass(frozen=True, slots=True)
class Floating:
    """An address that the active director of a pair has. ``inner`` is true of the pair's own one there, which real servers route to,
    false of a VIP.

    With the subnet's prefix length, unlike a single director's VIP (/32, /128): where a pair becomes one director or one a pair,
    keepalived takes its address away after the other was put there, and must not mean the same one."""

    network: str
    address: Interface
    inner: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """Two nodes as one director: VRRP gives all of ``floating`` to one of them, the active one; ``nodes`` are in order of
    priority. ``sync``: the active one tells the other of its connections. ``preempt``: the first takes over again once it is
    back. ``vrid`` is the router id on every network."""

    director: str
    nodes: tuple[str, ...]
    vrid: int
    sync: bool
    preempt: bool
    floating: tuple[Floating, ...]

    def inner(self, network: str, like: Address) -> Address | None:
        """The floating address, of the family of ``like``, that real servers on ``network`` route to."""
        mine = (it.address for it in self.floating if it.inner and it.network == network)
        return next((address.ip for address in mine if is_six(address) == is_six(like)), None)

    @property
    def networks(self) -> tuple[str, ...]:
        """Those with a floating address, each once."""
        return tuple(dict.fromkeys(it.network for it in self.floating))


@dataclass(frozen=True)
class Lab:
    """``name`` is the lab's (``--as`` or the topology's own), ``topology`` the file's ``name``; ``accel`` is «auto», «kvm» or «tcg».

    No slots: what is looked up for each of thousands of nodes is kept beside the fields."""

    name: str
    topology: str
    networks: tuple[Network, ...]
    nodes: tuple[Node, ...]
    services: tuple[Service, ...]
    directors: tuple[str, ...]
    accel: str = "auto"
    pairs: tuple[Pair, ...] = ()

    @property
    def namespace(self) -> str:
        return namespace(self.name)

    def network(self, name: str) -> Network:
        """Raises ``KeyError``."""
        return self._networks[name]

    def node(self, name: str) -> Node:
        """Raises ``KeyError``."""
        return self._nodes[name]

    @cached_property
    def _networks(self) -> dict[str, Network]:
        return {network.name: network for network in self.networks}

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}


def namespace(lab: str) -> str:
    """The host network namespace of a lab."""
    return f"vlab-{lab}"


def domain_name(lab: str, node: str) -> str:
    """The libvirt domain of a node; a dot cannot occur in either name, so no two labs can collide."""
    return f"vlab-{lab}.{node}"
