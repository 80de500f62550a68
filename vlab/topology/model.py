"""A topology as its author writes it: pydantic models, frozen, strict, nothing unknown let through. Pure.

What one value may be is in ``fields``; what values may be together is in ``rules``. ``addressing`` turns a valid topology
into a ``Lab``. The descriptions reach editors through ``schema``, the examples also the hints for missing keys.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlab.topology import fields
from vlab.topology.units import MIB
from vlab.topology.values import refusal

DEFAULT_MEMORY = 256 * MIB


class Keys(BaseModel):
    """A mapping of the language: known keys only."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Network(Keys):
    """One bridge in the lab's own network namespace."""

    subnet: fields.Subnet = Field(description="IPv4 subnet of the network, /8 to /30", examples=["10.20.0.0/24"])
    mtu: fields.Mtu = Field(default=1500, description="largest packet of every interface on the network, in bytes")
    internet: fields.Flag = Field(default=False, description="guests reach the internet through the lab's gateway")
    gateway: fields.Address | None = Field(
        default=None, description="the lab's own address on the network; the last usable one where left out"
    )


class NodeOverride(Keys):
    """What one node of a group has of its own."""

    memory: fields.Memory | None = Field(default=None, description="memory of this node")
    cpus: fields.Cpus | None = Field(default=None, description="virtual CPUs of this node")
    cpu_shares: fields.CpuShares | None = Field(default=None, description="CPU weight of this node; 1024 is normal")
    cpu_quota: fields.CpuQuota | None = Field(default=None, description="CPU cap of this node, in cores")
    addresses: dict[str, fields.Address] = Field(
        default={}, description="pinned addresses, by network", examples=["{back: 10.30.0.11}"]
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
    nodes: dict[str, NodeOverride] = Field(
        default={}, description="what single nodes have of their own, by node", examples=["{web2: {memory: 512 MiB}}"]
    )


class Check(Keys):
    """How the director finds out whether a real server works: ``tcp`` connects, ``http`` expects status 200."""

    tcp: fields.Flag = Field(default=False, description="connect to the real server's port")
    http: fields.HttpPath = Field(default="", description="path that must answer with status 200", examples=["/health"])
    every: fields.Every = Field(default=2.0, description="time between two checks")
    timeout: fields.Timeout = Field(default=3.0, description="how long one check may take")

    @model_validator(mode="after")
    def one_kind(self) -> Self:
        if self.tcp and self.http:
            raise refusal("is both tcp and http", "keep one; an HTTP check connects too")
        return self

    @property
    def kind(self) -> str:
        return "http" if self.http else "tcp"


class Service(Keys):
    """One VIP and port that the director spreads over real servers."""

    vip: fields.Address = Field(description="the virtual address clients use", examples=["10.20.0.100"])
    port: fields.Port = Field(description="the port clients use", examples=["80"])
    protocol: fields.Protocol = Field(default="tcp", description="tcp or udp")
    mode: fields.Mode = Field(description="how the director forwards", examples=["nat"])
    scheduler: fields.Scheduler = Field(default="wlc", description="how the kernel picks a real server")
    real_servers: fields.NameOrNames = Field(description="a group, or a list of groups and nodes", examples=["web"])
    real_port: fields.Port | None = Field(
        default=None, description="the real servers' port, where it is another (nat only)"
    )
    weight: fields.Weight = Field(default=1, description="weight of every real server; 0 takes no new connections")
    weights: dict[str, fields.Weight] = Field(
        default={}, description="weights of single real servers, by node", examples=["{web2: 3}"]
    )
    persistence: fields.Persistence | None = Field(
        default=None, description="how long a client stays with its real server; not at all where left out"
    )
    check: Annotated[Check, fields.Short({"tcp": {"tcp": True}})] = Field(
        default=Check(tcp=True), description="the director's health check", examples=["{http: /health}"]
    )


class Director(Keys):
    """An LVS director: a VM that forwards the traffic of its services."""

    count: fields.DirectorCount = Field(default=1, description="1 in this version")
    virt: fields.Virt = Field(default="para", description="how the director is virtualised; not container")
    image: fields.Name = Field(default="director", description="the recipe in images/ that the director is cloned from")
    networks: fields.Names = Field(description="the networks the director is on", examples=["[front, back]"])
    memory: fields.Memory = Field(default=DEFAULT_MEMORY, description="memory of the director")
    cpus: fields.Cpus = Field(default=1, description="virtual CPUs of the director")
    cpu_shares: fields.CpuShares | None = Field(default=None, description="CPU weight of the director; 1024 is normal")
    cpu_quota: fields.CpuQuota | None = Field(default=None, description="CPU cap of the director, in cores")
    addresses: dict[str, fields.Address] = Field(
        default={}, description="pinned addresses, by network", examples=["{back: 10.30.0.11}"]
    )
    macs: dict[str, fields.Mac] = Field(
        default={}, description="pinned MAC addresses, by network", examples=["{back: 52:54:00:12:34:56}"]
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
