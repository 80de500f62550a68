"""Completed labs for the tests of ``vlab.lvs``: web-db of the design, and one lab a forwarding mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from vlab.topology.addressing import complete
from vlab.topology.lab import Check, Floating, Lab, Network, Nic, Node, Pair, RealServer, Service, Tunnel
from vlab.topology.parse import Source, load, parse

FRONT = Network("front", IPv4Network("10.20.0.0/24"), 1500, False, IPv4Address("10.20.0.254"), "vb-front")  # noqa: FBT003 - internet
BACK = Network("back", IPv4Network("10.30.0.0/24"), 1500, False, IPv4Address("10.30.0.254"), "vb-back")  # noqa: FBT003 - internet
HTTP = Check("http", "/health", 3.0, 2.0)
TCP = Check("tcp", "", 2.5, 2.0)
UDP = Check("udp", "", 2.5, 2.0)


def node(name: str, image: str, virt: str, **hosts: int) -> Node:
    """A node on the networks named by the keywords, at that host number of each."""
    nics = tuple(nic(name, network, host) for network, host in hosts.items())
    number = sum(map(ord, name))
    group = name.rstrip("0123456789")
    return Node(
        name, group, virt, image, 256 << 20, 1, None, None, f"uuid-{name}", f"{number:032x}", nics
    )  # fmt: skip


def nic(name: str, network: str, host: int) -> Nic:
    prefix = {"front": "10.20.0", "back": "10.30.0"}[network]
    mac = f"52:54:00:{prefix.split('.')[1]}:{sum(map(ord, name)) % 100:02d}:{host:02x}"
    return Nic(network, mac, IPv4Interface(f"{prefix}.{host}/24"), 1500, f"t-{name}", f"{name}.{network}")


def service(
    name: str, mode: str, servers: Sequence[Node], *, vip: str, port: int = 80, scheduler: str = "wlc",
    persistence: int | None = None, check: Check = HTTP, weights: Mapping[str, int] | None = None,
    network: str = "front", inner: str = "back", protocol: str = "tcp",
) -> Service:  # fmt: skip
    given = weights or {}
    real = tuple(RealServer(n.name, n.address(inner), port, given.get(n.name, 1)) for n in servers)
    return Service(
        name, "lvs", network, inner, IPv4Address(vip), port, protocol, mode, scheduler, persistence, check, real
    )  # fmt: skip


WEB = [node(f"web{i}", "web", "para", back=10 + i) for i in (1, 2, 3)]
DB = [node(f"db{i}", "db", "container", back=20 + i) for i in (1, 2, 3)]
CLIENT = node("client1", "client", "container", front=10)
DIRECTOR = node("lvs1", "director", "para", front=2, back=2)


def lab(name: str, nodes: Sequence[Node], *services: Service, networks: tuple[Network, ...] = (FRONT, BACK)) -> Lab:
    return Lab(name, name, networks, tuple(nodes), services, ("lvs",))


def web_db() -> Lab:
    www = service("www", "nat", WEB, vip="10.20.0.100")
    sql = service(
        "sql", "dr", DB, vip="10.30.0.200", port=3306, scheduler="lc", check=TCP, network="back", persistence=300
    )
    return lab("web-db", [*WEB, *DB, CLIENT, DIRECTOR], www, sql)


def direct() -> Lab:
    """Director, client and real servers on one network, weights, one server quiesced."""
    servers = [node(f"web{i}", "web", "container", front=10 + i) for i in (1, 2, 3)]
    www = service(
        "www", "dr", servers, vip="10.20.0.100", scheduler="wrr", inner="front", weights={"web1": 3, "web3": 0}
    )
    return lab("dr", [*servers, node("client1", "client", "container", front=30), node("lvs1", "director", "para", front=2)],
               www, networks=(FRONT,))  # fmt: skip


def tunnel() -> Lab:
    """Real servers take requests from the tunnel on back and answer on front; two services share one VIP."""
    servers = [node(f"web{i}", "web", "para", front=10 + i, back=10 + i) for i in (1, 2)]
    www = service("www", "tun", servers, vip="10.20.0.100", scheduler="rr")
    tls = service("tls", "tun", servers, vip="10.20.0.100", port=443, scheduler="rr", check=TCP)
    return lab("tun", [*servers, CLIENT, DIRECTOR], www, tls)


def mixed() -> Lab:
    """Every mode, and UDP, at one director; web1 serves by NAT and by DR."""
    www = service("www", "nat", WEB[:2], vip="10.20.0.100")
    inside = service("inside", "dr", WEB[:1], vip="10.30.0.200", network="back", check=TCP)
    names = service("names", "dr", DB[:1], vip="10.30.0.201", port=53, protocol="udp", network="back", check=UDP)
    return lab("mixed", [*WEB[:2], *DB[:1], CLIENT, DIRECTOR], www, inside, names)


def pair(*, sync: bool = True, preempt: bool = False) -> Lab:
    """Two nodes as one director, with a nat service and one by dr: VIPs and the inner address float."""
    floating = (
        Floating("front", IPv4Interface("10.20.0.100/24"), inner=False),
        Floating("back", IPv4Interface("10.30.0.200/24"), inner=False),
        Floating("back", IPv4Interface("10.30.0.4/24"), inner=True),
    )
    www = service("www", "nat", WEB, vip="10.20.0.100", scheduler="rr")
    sql = service("sql", "dr", DB, vip="10.30.0.200", port=3306, scheduler="rr", check=TCP, network="back")
    made = lab("pair", [*WEB, *DB, CLIENT, DIRECTOR, node("lvs2", "director", "para", front=3, back=3)], www, sql)
    return replace(made, pairs=(Pair("lvs", ("lvs1", "lvs2"), 51, sync, preempt, floating),))


def routed() -> Lab:
    """Real servers on back alone; the lab's gateway leads their answers to clients on front. Each serves by every mode."""
    networks = replace(FRONT, routed=True), replace(BACK, routed=True)
    www = service("www", "nat", WEB[:2], vip="10.20.0.100")
    direct = service("direct", "dr", WEB[:2], vip="10.20.0.101")
    wrapped = service("wrapped", "tun", WEB[:2], vip="10.20.0.102")
    return lab("routed", [*WEB[:2], *DB[:1], CLIENT, DIRECTOR], www, direct, wrapped, networks=networks)


def wrapped() -> Lab:
    """The tunnels that are not ipip, at once on the same real servers, which are on back alone."""
    networks = replace(FRONT, routed=True), replace(BACK, routed=True)
    udp = replace(
        service("udp", "tun", WEB[:2], vip="10.20.0.100"), tunnel=Tunnel("gue", 6080, "remote")
    )  # fmt: skip
    gre = replace(service("gre", "tun", WEB[:2], vip="10.20.0.101"), tunnel=Tunnel("gre", 6080, "none"))
    return lab("wrapped", [*WEB[:2], CLIENT, DIRECTOR], udp, gre, networks=networks)


def full_nat() -> Lab:
    """Clients and real servers on one network, and on two: the director rewrites the source."""
    servers = [node(f"web{i}", "web", "container", front=10 + i) for i in (1, 2)]
    beside = replace(service("beside", "nat", servers, vip="10.20.0.100", inner="front"), snat=True)
    behind = replace(service("behind", "nat", WEB[2:], vip="10.20.0.101"), snat=True)
    return lab("full-nat", [*servers, *WEB[2:], CLIENT, DIRECTOR], beside, behind)


def dual_stack() -> Lab:
    """Each mode in both families: the shipped topology, completed."""
    return complete(load(str(Path(__file__).parents[2] / "topologies/dual-stack.yaml")))


PAIR6 = """\
vlab: 1
name: pair6
networks:
  front: {subnet: 10.20.0.0/24, subnet6: fd00:20::/64}
  back:  {subnet: 10.30.0.0/24, subnet6: fd00:30::/64}
groups:
  web:    {count: 2, virt: container, image: web, networks: [back]}
  near:   {virt: container, image: web, networks: [front]}
  client: {virt: container, image: client, networks: [front]}
directors:
  lvs:
    count: 2
    vrid: 51
    networks: [front, back]
    services:
      nat4: {vip: 10.20.0.100, port: 80, mode: nat, scheduler: rr, real_servers: web}
      nat6: {vip: 'fd00:20::100', port: 80, mode: nat, scheduler: rr, real_servers: web}
      dr6:  {vip: 'fd00:20::101', port: 80, mode: dr, scheduler: rr, real_servers: near}
"""


def pair6(*edits: tuple[str, str]) -> Lab:
    """A pair with services of both families; ``edits`` are texts of the file and what stands there instead."""
    text = PAIR6
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return complete(parse(Source("pair6.yaml", text)))


def ipv6_keys() -> Lab:
    """What else an IPv6 service can be told, beside those of ``dual_stack``: the live test's own file."""
    return complete(load(str(Path(__file__).parents[1] / "live/ipv6-keys.yaml")))


def big(count: int) -> Lab:
    """``count`` real servers behind one director."""
    wide = replace(BACK, subnet=IPv4Network("10.64.0.0/16"))
    servers = [replace(node(f"web{i}", "web", "container", back=1), nics=(_wide(i),)) for i in range(count)]
    director = replace(
        DIRECTOR, nics=(DIRECTOR.nics[0], replace(DIRECTOR.nics[1], address=IPv4Interface("10.64.255.2/16")))
    )
    return lab(
        "big", [*servers, CLIENT, director], service("www", "nat", servers, vip="10.20.0.100"), networks=(FRONT, wide)
    )


def _wide(i: int) -> Nic:
    address = IPv4Interface(f"{IPv4Address('10.64.0.0') + i + 1}/16")
    return replace(nic("web", "back", 1), address=address)


SHAPES = (web_db, direct, tunnel, mixed, pair, routed, wrapped, full_nat, dual_stack, pair6, ipv6_keys)
"""One lab for each way in which a director or a real server is set up; golden files show them all."""
