"""A node's whole inside as ``Settings``: identity, addresses, names, routes, and what the modes of its services require. Pure.

Every item says why it is there. No sysctl is left to its default: a container's namespace starts with a copy of the host's
values, so the ones that decide whether LVS works are always written, on every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TypeVar

from vlab.guests.settings import Address, File, Link, Route, Settings, Sysctl, Tunnel, Unit
from vlab.lvs import keepalived
from vlab.lvs.hosts import hosts
from vlab.lvs.index import Index, Role, device, index
from vlab.lvs.modes import ANYWHERE, Needs, mode
from vlab.topology.lab import Lab, Node

INTERNET_DNS = IPv4Address("10.0.2.3")
"""The resolver that slirp4netns offers behind the gateway of a network with ``internet: true``."""

KEEPALIVED_CONF = "/etc/keepalived/keepalived.conf"
IPVS_CONF = "/etc/vlab/ipvs.conf"
IPVS_UNIT = "/etc/systemd/system/vlab-ipvs.service"

IPVS_SYSCTLS = (
    ("expire_nodest_conn", "1", "a connection to a removed server is reset at once instead of hanging"),
    ("expire_quiescent_template", "1", "persistent clients leave a server of weight 0"),
    ("conntrack", "0", "no firewall looks at these flows, so connection tracking would only cost time"),
    ("conn_reuse_mode", "1", "a client that uses a source port again is scheduled anew"),
    ("pmtu_disc", "1", "senders of packets that are too big are told so"),
    ("run_estimation", "1", "keeps the counters of ipvsadm --stats up to date (every 2 s)"),
)
"""Name under net/ipv4/vs, value, why. A kernel lacks some of them; those are skipped."""

# (key under net/ipv4/conf/<interface>, our value, the kernel's default, why)
_INTERFACE = (
    ("rp_filter", "0", "0", "packets may come in by another interface than replies go out"),
    ("arp_ignore", "0", "0", "answer ARP for every local address, as Linux normally does"),
    ("arp_announce", "0", "0", "as Linux normally does"),
    ("accept_redirects", "0", "1", "an ICMP redirect would lead packets round the director"),
    ("send_redirects", "0", "1", "an ICMP redirect would lead packets round the director"),
)

_UNIT_TEXT = f"""\
# Written by vlab. ip_vs must be loaded before its sysctls exist.
[Unit]
Description=IP Virtual Server module and its settings
Before=keepalived.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/sbin/modprobe ip_vs
ExecStart=/lib/systemd/systemd-sysctl {IPVS_CONF}
"""

Item = TypeVar("Item", Tunnel, Address, Route)


def for_node(lab: Lab, node: Node, *, ssh_key: str = "") -> Settings:
    """Everything vlab sets inside ``node``. ``ssh_key`` is the public key (one line) that may log in as root, if any."""
    known = index(lab)
    serving, directing = known.serving.get(node.name, ()), known.directing.get(node.name, ())
    needs = [*(_real_server(role) for role in serving), *(_director(role) for role in directing)]
    tunnels = _distinct(item for need in needs for item in need.tunnels)
    return Settings(
        hostname=node.name,
        machine_id=node.machine_id,
        links=tuple(_links(node)),
        tunnels=tunnels,
        sysctls=_merged([*_baseline(node), *(item for need in needs for item in need.sysctls)]),
        addresses=_distinct([*_own(node), *(item for need in needs for item in need.addresses)]),
        routes=_routes(lab, node, needs),
        files=tuple(_files(lab, node, known, ssh_key, directs=bool(directing))),
        units=_units() if directing else (),
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


def _baseline(node: Node) -> Iterator[Sysctl]:
    # ip_forward comes first: writing it makes the kernel reset accept_redirects.
    yield Sysctl("net/ipv4/ip_forward", "0", "0", "only a director passes packets on")
    for name in ("all", "default", *(device(node, nic.network) for nic in node.nics)):
        for key, value, default, why in _INTERFACE:
            yield Sysctl(f"net/ipv4/conf/{name}/{key}", value, default, why)


def _merged(items: Iterable[Sysctl]) -> tuple[Sysctl, ...]:
    """One item a key, in order of first mention; the baseline gives way, and between services the larger value wins."""
    found: dict[str, Sysctl] = {}
    reasons: dict[str, list[str]] = {}
    for item in items:
        known = found.setdefault(item.key, item)
        if item is known:
            continue
        found[item.key] = item if int(item.value) >= int(known.value) else known
        reasons.setdefault(item.key, [])
        if item.why not in reasons[item.key]:
            reasons[item.key].append(item.why)
    return tuple(replace(item, why="; ".join(reasons.get(key, [item.why]))) for key, item in found.items())


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


def _files(lab: Lab, node: Node, known: Index, ssh_key: str, *, directs: bool) -> Iterator[File]:
    yield File("/etc/hosts", hosts(lab, known, node), why="every node, director and service of the lab by name")
    if any(lab.network(nic.network).internet for nic in node.nics):
        yield File("/etc/resolv.conf", f"nameserver {INTERNET_DNS}\n", why="the resolver of networks with internet access")
    if ssh_key:
        yield File("/root/.ssh/authorized_keys", f"{ssh_key.strip()}\n", 0o600, "vlab ssh logs in with this key")
    if directs:
        yield File(IPVS_CONF, _ipvs_conf(), why="how ip_vs treats connections, with the reason beside each value")
        yield File(IPVS_UNIT, _UNIT_TEXT, why="loads ip_vs, then applies its settings")
        yield File(KEEPALIVED_CONF, keepalived.render(lab, node), why="the services of this director")


def _ipvs_conf() -> str:
    # The «-» lets systemd-sysctl pass over a key that this kernel does not have.
    lines = (f"# {why}\n-net.ipv4.vs.{name} = {value}\n" for name, value, why in IPVS_SYSCTLS)
    return "# Written by vlab; applied by vlab-ipvs.service.\n" + "".join(lines)


def _units() -> tuple[Unit, ...]:
    return (
        Unit("vlab-ipvs.service", (IPVS_UNIT, IPVS_CONF), "ip_vs is loaded and set up before keepalived uses it"),
        Unit("keepalived.service", (KEEPALIVED_CONF,), "programs ip_vs and checks the real servers' health"),
    )
