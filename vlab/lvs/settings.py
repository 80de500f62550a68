"""A node's whole inside as ``Settings``: identity, addresses, names, routes, and what the modes of its services require. Pure.

Every item says why it is there. No sysctl is left to its default: a container's namespace starts with a copy of the host's
values, so the ones that decide whether LVS works are always written, on every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from vlab.guests.settings import Address, File, Link, Route, Settings, Sysctl, Tunnel, Unit
from vlab.lvs import keepalived
from vlab.lvs.hosts import hosts
from vlab.lvs.index import Index, Role, device, index
from vlab.lvs.modes import ANYWHERE, Needs, mode
from vlab.topology.lab import Lab, Node

KEEPALIVED_CONF = "/etc/keepalived/keepalived.conf"
KEEPALIVED = Unit("keepalived.service", (KEEPALIVED_CONF,), "programs ip_vs and checks the real servers' health")
# (key under net/ipv4/vs, our value, the kernel's default, why). The keys exist once ip_vs is loaded.
_IPVS = (
    ("expire_nodest_conn", "1", "0", "a connection to a removed server is reset at once instead of hanging"),
    ("expire_quiescent_template", "1", "0", "persistent clients leave a server of weight 0"),
    ("conntrack", "0", "0", "no firewall looks at these flows, so connection tracking would only cost time"),
    ("conn_reuse_mode", "1", "1", "a client that uses a source port again is scheduled anew"),
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

Item = TypeVar("Item", Tunnel, Address, Route)


def for_node(lab: Lab, node: Node, *, ssh_key: str = "", ready: Sequence[str] = (), resolver: str = "") -> Settings:
    """Everything vlab sets inside ``node``. ``ssh_key`` is the public key (one line) that may log in as root, if any;
    ``ready`` are the units of the node's image that serve (``Recipe.ready``)."""
    known = index(lab)
    serving, directing = known.serving.get(node.name, ()), known.directing.get(node.name, ())
    needs = [*(_real_server(role) for role in serving), *(_director(role) for role in directing)]
    tunnels = _distinct(item for need in needs for item in need.tunnels)
    return Settings(
        hostname=node.name,
        machine_id=node.machine_id,
        links=tuple(_links(node)),
        tunnels=tunnels,
        sysctls=_merged(_baseline(node, directs=bool(directing)), (item for need in needs for item in need.sysctls)),
        addresses=_distinct([*_own(node), *(item for need in needs for item in need.addresses)]),
        routes=_routes(lab, node, needs),
        files=tuple(_files(lab, node, known, ssh_key, resolver, directs=bool(directing))),
        units=(*(_serving(unit) for unit in ready), *((KEEPALIVED,) if directing else ())),
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
        yield Address(device(node, nic.network), nic.address, f"the node's own address on network {nic.network}")


def _baseline(node: Node, *, directs: bool) -> Iterator[Sysctl]:
    # ip_forward comes first: writing it makes the kernel reset accept_redirects.
    yield Sysctl("net/ipv4/ip_forward", "0", "0", "only a director passes packets on")
    for name in ("all", "default", *(device(node, nic.network) for nic in node.nics)):
        for key, value, default, why in _INTERFACE:
            yield Sysctl(f"net/ipv4/conf/{name}/{key}", value, default, why)
    for key, value, default, why in _IPVS if directs else ():
        yield Sysctl(f"net/ipv4/vs/{key}", value, default, why)


def _merged(baseline: Iterable[Sysctl], required: Iterable[Sysctl]) -> tuple[Sysctl, ...]:
    """One item a key, the baseline's first. What a service requires replaces the baseline; of two services, the larger value
    wins: each of these sysctls only ever gets a service to work by being larger, or is wanted equal by all modes."""
    strongest: dict[str, Sysctl] = {}
    reasons: dict[str, dict[str, None]] = {}
    for item in required:
        known = strongest.setdefault(item.key, item)
        strongest[item.key] = max(known, item, key=lambda candidate: int(candidate.value))
        reasons.setdefault(item.key, {})[item.why] = None
    merged = {item.key: replace(item, why="; ".join(reasons[item.key])) for item in strongest.values()}
    return tuple({**{item.key: item for item in baseline}, **merged}.values())


def _distinct(items: Iterable[Item]) -> tuple[Item, ...]:
    """Equal items once, their reasons joined: two services may share a VIP, a tunnel, a route."""
    found: dict[Item, list[str]] = {}
    for item in items:
        reasons = found.setdefault(item, [])
        if item.why not in reasons:
            reasons.append(item.why)
    return tuple(replace(item, why="; ".join(reasons)) for item, reasons in found.items())


def _routes(lab: Lab, node: Node, needs: list[Needs]) -> tuple[Route, ...]:
    """One route a destination: what the modes ask for wins, the way to the internet takes the default route that is left."""
    wanted = _distinct([*(item for need in needs for item in need.routes), *_internet(lab, node)])
    first: dict[object, Route] = {}
    for route in wanted:
        first.setdefault(route.destination, route)
    return tuple(first.values())


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
        yield File(KEEPALIVED_CONF, keepalived.render(lab, node), why="the services of this director")


def _serving(unit: str) -> Unit:
    return Unit(unit, ("/etc/hostname",), "serves, and names the node in its answers, so it must know the node's name")
