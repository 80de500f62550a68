"""A node's whole inside as ``Settings``: identity, addresses, names, routes, and what the modes of its services require. Pure.

Every item says why it is there. No sysctl is left to its default: a container's namespace starts with a copy of the host's
values, so the ones that decide whether LVS works are always written, on every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from vlab.guests.settings import Address, File, FouPort, Link, Route, Rule, Settings, Sysctl, Tunnel, Unit
from vlab.lvs import ipv6, keepalived, marks, snat, vrrp
from vlab.lvs.checkers import checker
from vlab.lvs.entries import entries
from vlab.lvs.hosts import hosts
from vlab.lvs.index import Index, Role, device, index
from vlab.lvs.modes import ANYWHERE, ANYWHERE6, Needs, mode
from vlab.topology import family
from vlab.topology.family import Subnet, is_six
from vlab.topology.lab import Lab, Network, Node

KEEPALIVED_CONF = "/etc/keepalived/keepalived.conf"
KEEPALIVED = Unit("keepalived.service", (KEEPALIVED_CONF,), "programs ip_vs and checks the real servers' health")
# (key under net/ipv4/vs, our value, the kernel's default, why). The keys exist once ip_vs is loaded.
_IPVS = (
    ("expire_nodest_conn", "1", "0", "a connection to a removed server is reset at once instead of hanging"),
    ("expire_quiescent_template", "1", "0", "persistent clients leave a server of weight 0"),
    ("conntrack", "0", "0", "no firewall looks at these flows, so connection tracking would only cost time"),
    ("conn_reuse_mode", "3", "1", "a client that uses a port again is scheduled anew, also where replies are not seen"),
    ("pmtu_disc", "1", "1", "senders of packets too big to be forwarded are told so"),
)

# (key under net/ipv4/conf/<interface>, our value, the kernel's default, why)
_INTERFACE = (
    ("rp_filter", "0", "0", "packets may come in by another interface than replies go out"),
    ("arp_ignore", "0", "0", "answer ARP for every local address, as Linux normally does"),
    ("arp_announce", "0", "0", "as Linux normally does"),
    ("accept_redirects", "0", "1", "an ICMP redirect would lead packets round the director"),
    ("send_redirects", "0", "1", "an ICMP redirect would lead packets round the director"),
)

Item = TypeVar("Item", Tunnel, FouPort, Sysctl, Address, Route, Rule)


def for_node(
    lab: Lab, node: Node, *, ssh_key: str = "", ready: Sequence[str] = (), named: Sequence[str] = (), resolver: str = ""
) -> Settings:
    """Everything vlab sets inside ``node``. ``ssh_key`` is the public key (one line) that may log in as root, if any;
    ``ready`` are the units of the node's image that serve (``Recipe.ready``), ``named`` those that read the host name."""
    known = index(lab)
    serving, directing = known.serving.get(node.name, ()), known.directing.get(node.name, ())
    needs = [*(_real_server(role) for role in serving), *(_director(role) for role in directing)]
    tunnels = _distinct([item for need in needs for item in need.tunnels])
    return Settings(
        hostname=node.name,
        machine_id=node.machine_id,
        links=tuple(_links(node)),
        tunnels=tunnels,
        sysctls=(*_sysctls(node, needs, directs=bool(directing)), *vrrp.sysctls(lab, node)),
        addresses=_distinct([*_own(node), *(item for need in needs for item in need.addresses)]),
        routes=_routes(lab, node, needs),
        files=tuple(_files(lab, node, known, ssh_key, resolver, directs=bool(directing))),
        units=(
            *(_serving(unit, named) for unit in ready),
            *marks.units([role.service for role in directing]),
            *snat.units(directing),
            *((KEEPALIVED,) if directing else ()),
        ),
        fou_ports=_distinct([item for need in needs for item in need.fou_ports]),
        rules=_distinct([item for need in needs for item in need.rules]),
        entries=tuple(entries(role.service for role in directing)),
    )


def before_servers(settings: Settings) -> Settings:
    """What a fresh director can have of ``settings`` before its real servers are there: all but keepalived's file and table, and keepalived, which
    would find them half-made and ask them again only after its whole interval."""
    return replace(
        settings,
        files=tuple(file for file in settings.files if file.path not in KEEPALIVED.watches),
        units=tuple(unit for unit in settings.units if unit != KEEPALIVED),
        entries=(),
    )


def _real_server(role: Role) -> Needs:
    return mode(role.service.mode).real_server(role)


def _director(role: Role) -> Needs:
    return mode(role.service.mode).director(role)


def _links(node: Node) -> Iterator[Link]:
    for nic in node.nics:
        yield Link(device(node, nic.network), nic.mac, nic.mtu, f"the interface on network {nic.network}")


def _own(node: Node) -> Iterator[Address]:
    for nic in node.nics:
        for address in nic.addresses:
            yield Address(device(node, nic.network), address, f"the node's own address on network {nic.network}")


def _sysctls(node: Node, needs: Sequence[Needs], *, directs: bool) -> tuple[Sysctl, ...]:
    baseline = _baseline(tuple(device(node, nic.network) for nic in node.nics), directs=directs)
    baseline += ipv6.sysctls(tuple(device(node, nic.network) for nic in node.nics if nic.address6))
    required = [item for need in needs for item in need.sysctls]
    return _merged(baseline, required) if required else baseline


@lru_cache
def _baseline(devices: tuple[str, ...], *, directs: bool) -> tuple[Sysctl, ...]:
    """Kept: thousands of nodes have the same devices."""
    interfaces = (
        Sysctl(f"net/ipv4/conf/{name}/{key}", value, default, why)
        for name in ("all", "default", *devices)
        for key, value, default, why in _INTERFACE
    )
    ipvs = (Sysctl(f"net/ipv4/vs/{key}", value, default, why) for key, value, default, why in _IPVS if directs)
    # ip_forward comes first: writing it makes the kernel reset accept_redirects.
    return (Sysctl("net/ipv4/ip_forward", "0", "0", "only a director passes packets on"), *interfaces, *ipvs)


def _merged(baseline: Iterable[Sysctl], required: Iterable[Sysctl]) -> tuple[Sysctl, ...]:
    """One item a key, the baseline's first. What a service requires replaces the baseline; of two services, the larger value
    wins: each of these sysctls only ever gets a service to work by being larger, or is wanted equal by all modes."""
    strongest: dict[str, Sysctl] = {}
    reasons: dict[str, dict[str, None]] = {}
    for item in required:
        known = strongest.setdefault(item.key, item)
        strongest[item.key] = max(known, item, key=lambda candidate: int(candidate.value))
        reasons.setdefault(item.key, {})[item.why] = None
    merged = {item.key: _because(item, reasons[item.key]) for item in strongest.values()}
    return tuple({**{item.key: item for item in baseline}, **merged}.values())


def _distinct(items: Iterable[Item]) -> tuple[Item, ...]:
    """Equal items once, their reasons joined: two services may share a VIP, a tunnel, a route."""
    found: dict[Item, dict[str, None]] = {}
    for item in items:
        found.setdefault(item, {})[item.why] = None
    return tuple(_because(item, reasons) for item, reasons in found.items())


def _because(item: Item, reasons: Iterable[str]) -> Item:
    why = "; ".join(reasons)
    return item if item.why == why else replace(item, why=why)


def _routes(lab: Lab, node: Node, needs: list[Needs]) -> tuple[Route, ...]:
    """One route a destination and table: what the modes ask for wins, the way to the internet takes the default route that is left.
    Of two services' equal ways the one with the smaller segments serves both."""
    asked = [item for need in needs for item in need.routes]
    defaults = {route.destination for route in asked if route.destination.prefixlen == 0 and route.table is None}
    # Whose default route is its director must not answer clients of another network past it.
    four, six = ([] if way in defaults else [*_routed(lab, node, way)] for way in (ANYWHERE, ANYWHERE6))
    own = [*_internet(lab, node), *four, *six]
    chosen: dict[object, Route] = {}
    for route in _distinct([*asked, *own]):
        other = chosen.setdefault((route.destination, route.table), route)
        if (other.via, other.device) == (route.via, route.device) and _segment(route) < _segment(other):
            chosen[route.destination, route.table] = route
    return tuple(chosen.values())


def _segment(route: Route) -> int:
    return 65_535 if route.advmss is None else route.advmss


def _routed(lab: Lab, node: Node, anywhere: Subnet) -> Iterator[Route]:
    """The ways to the routed networks that the node is not on, through the lab's gateway on the first that it is on, in the
    family of ``anywhere``."""
    on, six = {nic.network for nic in node.nics}, is_six(anywhere)
    routed = {it.name: it for it in lab.networks if it.routed and (it.subnet6 or not six)}
    here = next((routed[nic.network] for nic in node.nics if nic.network in routed), None)
    for name, network in routed.items():
        if here and name not in on:
            why = f"the lab's gateway on {here.name} forwards to {name}, as both are routed"
            yield from (Route(*way, device(node, here.name), why=why) for way in _way(here, network, six=six))


def _way(here: Network, there: Network, *, six: bool) -> Iterator[tuple[Subnet, family.Address]]:
    if not six:
        yield there.subnet, here.gateway
    elif there.subnet6 and here.gateway6:
        yield there.subnet6, here.gateway6


def _internet(lab: Lab, node: Node) -> Iterator[Route]:
    for nic in node.nics:
        network = lab.network(nic.network)
        if network.internet:
            why = f"the internet is behind the gateway of network {network.name}"
            yield Route(ANYWHERE, network.gateway, device(node, network.name), why=why)


def _files(lab: Lab, node: Node, known: Index, ssh_key: str, resolver: str, *, directs: bool) -> Iterator[File]:
    yield File("/etc/hosts", hosts(lab, known, node), why="every node, director and service of the lab by name")
    if any(lab.network(nic.network).internet for nic in node.nics):
        yield File("/etc/resolv.conf", f"nameserver {resolver}\n", why="the resolver of networks with internet access")
    if ssh_key:
        yield File("/root/.ssh/authorized_keys", f"{ssh_key.strip()}\n", 0o600, "vlab ssh logs in with this key")
    if directs:
        services = [role.service for role in known.directing[node.name]]
        yield from (file for service in services for file in checker(service.check.kind).files(service))
        yield from marks.files(services)
        yield from snat.files(known.directing[node.name])
        yield File(KEEPALIVED_CONF, keepalived.render(lab, node), why="the services of this director")
        yield from vrrp.files(lab, node)


def _serving(unit: str, named: Sequence[str]) -> Unit:
    if unit in named:
        return Unit(unit, ("/etc/hostname",), "serves, and read the node's name when it started, so it must know it")
    return Unit(unit, (), "serves")
