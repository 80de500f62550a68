"""Small completed labs for tests of what comes after the topology language."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from vlab.topology.lab import Check, Lab, Network, Nic, Node, RealServer, Service

BACK = Network(
    "back", IPv4Network("10.30.0.0/24"), 1500, internet=False, gateway=IPv4Address("10.30.0.254"), bridge="b0"
)


def nic(node: str, host: int) -> Nic:
    return Nic(
        "back", f"52:54:00:00:00:{host:02x}", IPv4Interface(f"10.30.0.{host}/24"), 1500, f"v-{node}", f"{node}.back"
    )


def node(name: str, host: int, *, virt: str = "container", memory: int = 256 << 20) -> Node:
    return Node(
        name,
        name.rstrip("0123456789"),
        virt,
        "web",
        memory,
        1,
        None,
        None,
        f"uuid-{name}",
        f"{host:032x}",
        (nic(name, host),),
    )


def lab(*nodes: Node, networks: tuple[Network, ...] = (BACK,), services: tuple[Service, ...] = ()) -> Lab:
    return Lab("shop", "shop", networks, nodes or (node("web1", 11), node("web2", 12)), services, ("lvs",))


def service(scheduler: str = "rr", weights: tuple[int, ...] = (1, 1), mode: str = "nat") -> Service:
    servers = tuple(RealServer(f"web{i}", IPv4Address(f"10.30.0.{10 + i}"), 80, w) for i, w in enumerate(weights, 1))
    return Service(
        "www",
        "lvs",
        "back",
        "back",
        IPv4Address("10.30.0.100"),
        80,
        "tcp",
        mode,
        scheduler,
        None,
        Check("tcp", "", 2.0, 3.0),
        servers,
    )
