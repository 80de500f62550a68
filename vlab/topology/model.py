"""A topology as its author writes it: pydantic models, frozen, strict, nothing unknown let through. Pure.

What one value may be is in ``fields``; what values may be together is in ``rules``. ``addressing`` turns a valid topology
into a ``Lab``. The descriptions reach editors through ``schema``, the examples also the hints for missing keys.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlab.topology import fields
from vlab.topology.family import Address
from vlab.topology.ports import PortRange
from vlab.topology.tunnels import GUE_PORT, TUNNELS
from vlab.topology.units import MIB
from vlab.topology.values import refusal

DEFAULT_MEMORY = 256 * MIB


class Keys(BaseModel):
    """A mapping of the language: known keys only."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Network(Keys):
    """One bridge in the lab's own network namespace."""

    subnet: fields.Subnet = Field(description="IPv4 subnet of the network, /8 to /30", examples=["10.20.0.0/24"])
    subnet6: fields.Subnet6 | None = Field(
        default=None,
        description="IPv6 subnet of the network besides the IPv4 one, /32 to /80; hosts have the digits of their IPv4 host number",
        examples=["'fd00:20::/64'"],
    )
    mtu: fields.Mtu = Field(default=1500, description="largest packet of every interface on the network, in bytes")
    internet: fields.Flag = Field(default=False, description="guests reach the internet through the lab's gateway")
    routed: fields.Flag = Field(
        default=False, description="the lab's gateway forwards between this network and the other routed ones"
    )
    gateway: fields.Address | None = Field(
        default=None, description="the lab's own address on the network; the last usable one where left out"
    )
    gateway6: fields.Address6 | None = Field(
        default=None,
        description="the lab's own IPv6 address on the network; it has the gateway's digits where left out",
    )

    def holds(self, address: Address) -> bool:
        """Whether ``address`` lies in the network's subnet of its family."""
        return address in self.subnet or (self.subnet6 is not None and address in self.subnet6)


class NodeOverride(Keys):
    """What one node of a group has of its own."""

    memory: fields.Memory | None = Field(default=None, description="memory of this node")
    cpus: fields.Cpus | None = Field(default=None, description="virtual CPUs of this node")
    cpu_shares: fields.CpuShares | None = Field(default=None, description="CPU weight of this node; 1024 is normal")
    cpu_quota: fields.CpuQuota | None = Field(default=None, description="CPU cap of this node, in cores")
    addresses: dict[str, fields.Address] = Field(
        default={}, description="pinned addresses, by network", examples=["{back: 10.30.0.11}"]
    )
    addresses6: dict[str, fields.Address6] = Field(
        default={}, description="pinned IPv6 addresses, by network", examples=["{back: 'fd00:30::11'}"]
    )
    macs: dict[str, fields.Mac] = Field(
        default={}, description="pinned MAC addresses, by network", examples=["{back: 52:54:00:12:34:56}"]
    )


class Group(Keys):
    """Guests that are alike: web1, web2, …"""

    count: fields.Count = Field(default=1, description="how many nodes the group has")
    virt: fields.Virt = Field(default="para", description="how the nodes are virtualised")
    image: fields.Name = Field(description="the recipe in images/ that the nodes are cloned from", examples=["web"])
    networks: fields.Names = Field(description="the networks each node is on: eth0, eth1, …", examples=["[back]"])
    memory: fields.Memory = Field(default=DEFAULT_MEMORY, description="memory of each node")
    cpus: fields.Cpus = Field(default=1, description="virtual CPUs of each node")
    cpu_shares: fields.CpuShares | None = Field(default=None, description="CPU weight of each node; 1024 is normal")
    cpu_quota: fields.CpuQuota | None = Field(
        default=None, description="CPU cap of each node, in cores: 0.5 is half a core"
    )
    addresses: dict[str, fields.Address] = Field(
        default={},
        description="by network, the first node's pinned address; the others count up from it",
        examples=["{back: 10.30.0.11}"],
    )
    addresses6: dict[str, fields.Address6] = Field(
        default={},
        description="by network, the first node's pinned IPv6 address; the others count up from it, in hexadecimal",
        examples=["{back: 'fd00:30::11'}"],
    )
    nodes: dict[str, NodeOverride] = Field(
        default={}, description="what single nodes have of their own, by node", examples=["{web2: {memory: 512 MiB}}"]
    )


class Login(Keys):
    """An account of a database server that a check logs in with."""

    user: fields.User = Field(description="the account's name", examples=["lab"])
    password: fields.Password = Field(description="its password; a lab's, not a secret", examples=["lab"])
    database: fields.Database | None = Field(
        default=None, description="database to open; none where left out", examples=["lab"]
    )


class Check(Keys):
    """How the director finds out whether a real server works. One of: ``tcp`` connects, ``http`` expects status 200,
    ``udp`` expects no ICMP error, ``dns`` asks for a name, ``login`` logs in to MariaDB or MySQL, ``misc`` runs a program."""

    tcp: fields.Flag = Field(default=False, description="connect to the real server's port")
    http: fields.HttpPath = Field(default="", description="path that must answer with status 200", examples=["/health"])
    udp: fields.Flag = Field(default=False, description="send a datagram; an answer «port unreachable» is a failure")
    dns: fields.DnsName = Field(
        default="", description="name whose address a DNS server must know", examples=["www.example.org"]
    )
    login: Login | None = Field(
        default=None, description="log in to a MariaDB or MySQL server", examples=["{user: lab, password: lab}"]
    )
    misc: fields.Command = Field(
        default=(),
        description="program in the director that exits with 0; {address} and {port} are the real server's",
        examples=["/usr/lib/vlab/my-check {address} {port}"],
    )
    port: fields.Port | None = Field(
        default=None, description="port to ask; the service's own, each of them, where left out", examples=["80"]
    )
    every: fields.Every = Field(default=2.0, description="time between two checks")
    timeout: fields.Timeout = Field(default=3.0, description="how long one check may take")

    @model_validator(mode="after")
    def one_kind(self) -> Self:
        if len(kinds := self._kinds()) > 1:
            hint = "keep one; an HTTP check connects too" if set(kinds) == {"tcp", "http"} else "keep one"
            raise refusal(f"is both {kinds[0]} and {kinds[1]}", hint)
        return self

    def _kinds(self) -> list[str]:
        return [name for name in ("tcp", "http", "udp", "dns", "login", "misc") if getattr(self, name)]

    @property
    def kind(self) -> str:
        """The check that is asked for, empty where none is."""
        return next(iter(self._kinds()), "")


class Persistence(Keys):
    """How long a client stays with its real server, and who counts as one client."""

    timeout: fields.WholeSeconds = Field(
        description="time after the client's last connection has ended", examples=["300 s"]
    )
    netmask: fields.Netmask | None = Field(
        default=None,
        description="prefix length of a client: 24 keeps a /24 together (IPv6: 1 to 128); its whole address where left out",
        examples=["24"],
    )


class Tunnel(Keys):
    """What mode tun wraps packets in; a bare word stands for the type alone."""

    type: fields.TunnelType = Field(description="ipip, gre, or gue (IP in UDP)", examples=["gue"])
    port: fields.UdpPort = Field(default=GUE_PORT, description="the real servers' UDP port (gue only)")
    checksum: fields.Checksum = Field(
        default="none", description="none, full (UDP's own), or remote (left to the real server; gue only)"
    )

    @model_validator(mode="after")
    def port_of_udp(self) -> Self:
        if not TUNNELS[self.type].udp and (foreign := sorted(self.model_fields_set - {"type"})):
            raise refusal(f"{self.type} has no {' and no '.join(foreign)}", "remove it, or use type: gue")
        return self


class Service(Keys):
    """One VIP and port, or several ports, that the director spreads over real servers."""

    vip: fields.Vip = Field(
        description="the virtual address clients use; an IPv6 one makes it an IPv6 service", examples=["10.20.0.100"]
    )
    port: fields.Port | None = Field(default=None, description="the port clients use", examples=["80"])
    ports: fields.Ports = Field(
        default=(), description="several ports instead of one: numbers and ranges", examples=['[80, 443, "8000-8010"]']
    )
    fwmark: fields.Mark | None = Field(
        default=None,
        description="firewall mark that makes all ports one service in the kernel, or auto: a persistent client is on one "
        "real server with all of them",
        examples=["auto"],
    )
    protocol: fields.Protocol = Field(default="tcp", description="tcp or udp")
    mode: fields.Mode = Field(description="how the director forwards", examples=["nat"])
    snat: fields.Flag = Field(
        default=False,
        description="rewrite the source of requests too, so that replies come back to the director (nat only)",
    )
    tunnel: Annotated[Tunnel | None, fields.Short({name: {"type": name} for name in TUNNELS}, other="type")] = Field(
        default=None, description="what packets are wrapped in; ipip where left out (tun only)", examples=["gue"]
    )
    scheduler: fields.Scheduler = Field(default="wlc", description="how the kernel picks a real server")
    scheduler_flags: fields.SchedulerFlags = Field(
        default=(), description="what the scheduler does differently", examples=["[sh-fallback]"]
    )
    one_packet: fields.Flag = Field(
        default=False, description="schedule each datagram by itself, whatever the client sent before (udp only)"
    )
    real_servers: fields.NameOrNames = Field(description="a group, or a list of groups and nodes", examples=["web"])
    real_port: fields.Port | None = Field(
        default=None, description="the real servers' port, where it is another (nat only)"
    )
    weight: fields.Weight = Field(default=1, description="weight of every real server; 0 takes no new connections")
    weights: dict[str, fields.Weight] = Field(
        default={}, description="weights of single real servers, by node", examples=["{web2: 3}"]
    )
    drained: fields.NameOrNames = Field(
        default=(),
        description="real servers that take no new connections for now, their weight kept",
        examples=["[web2]"],
    )
    upper_threshold: fields.Threshold = Field(
        default=0, description="connections at which a real server gets no more; 0 for no limit", examples=["100"]
    )
    upper_thresholds: dict[str, fields.Threshold] = Field(
        default={}, description="upper thresholds of single real servers, by node", examples=["{web2: 50}"]
    )
    lower_threshold: fields.Threshold = Field(
        default=0,
        description="connections below which a full real server gets new ones again; 0 for three quarters of the upper one",
        examples=["80"],
    )
    lower_thresholds: dict[str, fields.Threshold] = Field(
        default={}, description="lower thresholds of single real servers, by node", examples=["{web2: 40}"]
    )
    persistence: Annotated[Persistence, fields.PersistenceForm] | None = Field(
        default=None, description="how long a client stays with its real server; not at all where left out"
    )
    sorry_server: fields.NodeName | None = Field(
        default=None, description="node that answers while too few real servers are up", examples=["sorry1"]
    )
    quorum: fields.Quorum = Field(
        default=1, description="total weight of live real servers below which the sorry server answers", examples=["2"]
    )
    check: Annotated[Check, fields.Short({"tcp": {"tcp": True}, "udp": {"udp": True}})] = Field(
        default=Check(),
        description="the director's health check; tcp or udp, as the protocol, where left out",
        examples=["{http: /health}"],
    )

    @model_validator(mode="after")
    def some_port(self) -> Self:
        if self.port is None and not self.ports:
            raise refusal("key 'port' is missing", "write port: 80, or ports: [80, 443]")
        return self

    @property
    def check_kind(self) -> str:
        """The check that is asked for; where none is, the simplest one of the protocol, which is called like it."""
        return self.check.kind or self.protocol

    @property
    def port_ranges(self) -> tuple[PortRange, ...]:
        """Every port, as it was written."""
        return self.ports if self.port is None else (PortRange(self.port, self.port),)

    @property
    def kernel_services(self) -> int:
        """How many services it is to ip_vs: one a port, or one of all with a firewall mark."""
        return 1 if self.fwmark is not None else sum(map(len, self.port_ranges))


class Director(Keys):
    """An LVS director: a VM that forwards the traffic of its services."""

    count: fields.DirectorCount = Field(
        default=1, description="1, or 2 for a pair: one is active, the other takes over when it fails (VRRP)"
    )
    sync: fields.Flag | None = Field(
        default=None,
        description="a pair's active director tells the other of its connections, so that they survive; true where left out",
        examples=["false"],
    )
    preempt: fields.Flag | None = Field(
        default=None,
        description="the pair's first node takes over again once it is back; false where left out: that would be one more outage",
        examples=["true"],
    )
    vrid: fields.Vrid | None = Field(
        default=None,
        description="the pair's VRRP router id; derived from lab and director where left out",
        examples=["51"],
    )
    inner_vip: dict[str, fields.Address] = Field(
        default={},
        description="by network, the pair's floating address there, to which nat real servers route; derived where left out",
        examples=["{back: 10.30.0.1}"],
    )
    inner_vip6: dict[str, fields.Address6] = Field(
        default={},
        description="likewise in IPv6; where left out and needed, the digits of the IPv4 one",
        examples=["{back: 'fd00:30::1'}"],
    )
    virt: fields.Virt = Field(default="para", description="how the director is virtualised; not container")
    image: fields.Name = Field(default="director", description="the recipe in images/ that the director is cloned from")
    networks: fields.Names = Field(description="the networks the director is on", examples=["[front, back]"])
    memory: fields.Memory = Field(default=DEFAULT_MEMORY, description="memory of the director")
    cpus: fields.Cpus = Field(default=1, description="virtual CPUs of the director")
    cpu_shares: fields.CpuShares | None = Field(default=None, description="CPU weight of the director; 1024 is normal")
    cpu_quota: fields.CpuQuota | None = Field(default=None, description="CPU cap of the director, in cores")
    addresses: dict[str, fields.Address] = Field(
        default={},
        description="pinned addresses, by network; of a pair the first node's, and the next one is the second's",
        examples=["{back: 10.30.0.11}"],
    )
    addresses6: dict[str, fields.Address6] = Field(
        default={}, description="pinned IPv6 addresses, by network", examples=["{back: 'fd00:30::11'}"]
    )
    macs: dict[str, fields.Mac] = Field(
        default={},
        description="pinned MAC addresses, by network; not for a pair",
        examples=["{back: 52:54:00:12:34:56}"],
    )
    services: dict[fields.Name, Service] = Field(
        default={},
        description="what the director balances, by name",
        examples=["{www: {vip: 10.20.0.100, port: 80, mode: nat, real_servers: web}}"],
    )


class Topology(Keys):
    """One lab."""

    vlab: fields.Version = Field(description="version of the language", examples=["1"])
    name: fields.LabName = Field(description="name of the lab", examples=["my-lab"])
    accel: fields.Accelerator = Field(
        default="auto", description="what runs full and para guests: auto (KVM where it works, else TCG), kvm, or tcg"
    )
    networks: dict[fields.Name, Network] = Field(
        min_length=1, description="networks by name", examples=["{front: {subnet: 10.20.0.0/24}}"]
    )
    groups: dict[fields.Name, Group] = Field(
        min_length=1,
        description="groups of guests by name",
        examples=["{web: {count: 3, image: web, networks: [front]}}"],
    )
    directors: dict[fields.Name, Director] = Field(
        default={}, description="LVS directors by name", examples=["{lvs: {networks: [front, back]}}"]
    )
