"""What a pair of directors needs besides its services: VRRP's part of keepalived.conf, the sync daemon, its sysctls. Pure.

One instance a network with floating addresses, all in one sync group, so that they move together: a VIP on one node and the real
servers' route on the other would lose every reply. Both nodes start as BACKUP; priorities decide, by order.

VRRP speaks IPv4. An instance has one family, and announces addresses of that alone; those of the other are its «excluded» ones, which it
adds, tells neighbours of and takes away at the same moments, but does not announce (vrrp_state_become_master, vrrp_send_link_update and
vrrp_restore_interface in keepalived/vrrp/vrrp.c of 2.2.7). So both families move with one decision, and an IPv6 service more changes no
advertisement. keepalived gives IPv6 addresses nodad by itself, but only a /128 preferred_lft 0 (vrrp_ipaddress.c).

Facts: keepalived.conf(5); Documentation/networking/ipvs-sysctl.rst and ``ip_vs_sync_conn_needed`` (net/netfilter/ipvs/ip_vs_sync.c).
"""

from __future__ import annotations

from collections.abc import Iterator

from vlab.guests.settings import File, Sysctl
from vlab.lvs.index import device
from vlab.topology.family import Address, is_six
from vlab.topology.lab import Lab, Node, Pair

ADVERT_INTERVAL = 1
"""Seconds between two advertisements of the active node."""

HIGHEST_PRIORITY = 200
PRIORITY_STEP = 10

REFRESH = 10
"""Seconds after which the active node tells of a busy connection again (``sync_refresh_period``)."""

PREEMPT_DELAY = REFRESH + 5
"""Seconds for which a returned node waits before it takes over: by then it has checked the real servers and heard of connections."""

DROP_IN = "/etc/systemd/system/keepalived.service.d/sync.conf"
_STOP_DAEMONS = "".join(f"ExecStopPost=-/sbin/ipvsadm --stop-daemon {role}\n" for role in ("master", "backup"))

WHY_PREEMPT = {
    False: "a node that comes back stands by: taking over again would be one more outage for nothing",
    True: f"the first node takes over again, {PREEMPT_DELAY} s after it is back: it has checked the real servers then",
}
WHY_SYNC = {
    True: "the active node tells the other of each connection by multicast, so established ones survive a failover",
    False: "the other node knows of no connection: established ones are reset at a failover",
}

_SYSCTLS = (
    ("sync_threshold", "0\t0", "3\t50", "a connection is told as soon as it is established, not after its third packet"),
    ("sync_refresh_period", str(REFRESH), "0", "and again while it lives, so that a node that comes back learns of it"),
    ("sync_retries", "1", "0", "told twice: multicast is not acknowledged"),
)  # fmt: skip


def pair_of(lab: Lab, node: Node) -> Pair | None:
    """The pair that ``node`` is of."""
    return next((pair for pair in lab.pairs if node.name in pair.nodes), None)


def priority(pair: Pair, node: str) -> int:
    return HIGHEST_PRIORITY - PRIORITY_STEP * pair.nodes.index(node)


def takeover(pair: Pair, node: str) -> float:
    """Seconds of silence after which ``node`` takes over: three intervals and the skew of its priority (RFC 3768, 6.1)."""
    return 3 * ADVERT_INTERVAL + (256 - priority(pair, node)) / 256


def sync_network(pair: Pair) -> str:
    """The network over which connections are told: an inner one where there is one, away from the clients."""
    inner = [it.network for it in pair.floating if it.inner]
    return (inner or list(pair.networks))[0]


def sysctls(lab: Lab, node: Node) -> tuple[Sysctl, ...]:
    """What the sync daemon goes by; nothing on a node that is in no pair, or in one without it."""
    pair = pair_of(lab, node)
    if pair is None or not pair.sync:
        return ()
    return tuple(Sysctl(f"net/ipv4/vs/{key}", value, default, f"sync: {why}") for key, value, default, why in _SYSCTLS)


def sync_daemon(lab: Lab, node: Node) -> Iterator[str]:
    """Lines for ``global_defs``."""
    pair = pair_of(lab, node)
    if pair and pair.floating and pair.sync:
        network = sync_network(pair)
        yield "    # Tells of connections while this node is active, listens while it is not."
        yield f"    lvs_sync_daemon {device(node, network)} {_instance(pair, network)} id {pair.vrid}"


def floating(lab: Lab, node: Node) -> Iterator[str]:
    """The sync group and its instances, where ``node`` is of a pair."""
    pair = pair_of(lab, node)
    if pair is None or not pair.floating:
        return
    yield ""
    yield f"# {' and '.join(pair.nodes)} are one director: the addresses below are on the active one."
    yield f"vrrp_sync_group {pair.director} {{"
    yield "    group {"
    yield from (f"        {_instance(pair, network)}" for network in pair.networks)
    yield "    }"
    yield "}"
    for network in pair.networks:
        yield from _instance_lines(pair, node, network)


def files(lab: Lab, node: Node) -> Iterator[File]:
    """The drop-in that ties the kernel's sync daemon to keepalived: a reload leaves it as it is, also one that turns it off (keepalived
    2.2.7), and a keepalived that dies leaves it running. What it is started with is in the text, so that another one is a restart."""
    pair = pair_of(lab, node)
    if pair and pair.floating and pair.sync:
        told = f"# Connections are told on {device(node, sync_network(pair))}, id {pair.vrid}.\n"
        why = "sync: the kernel's sync daemon ends with keepalived"
        yield File(DROP_IN, f"{told}[Service]\n{_STOP_DAEMONS}", why=why)


def _instance(pair: Pair, network: str) -> str:
    return f"{pair.director}-{network}"


def _instance_lines(pair: Pair, node: Node, network: str) -> Iterator[str]:
    yield ""
    yield f"vrrp_instance {_instance(pair, network)} {{"
    yield "    state BACKUP"
    yield f"    interface {device(node, network)}"
    yield f"    virtual_router_id {pair.vrid}"
    yield f"    priority {priority(pair, node.name)}"
    yield f"    advert_int {ADVERT_INTERVAL}"
    yield f"    preempt_delay {PREEMPT_DELAY}" if pair.preempt else "    nopreempt"
    yield "    # Say at once, again a second later, and then now and then, who has the addresses: ARP is not acknowledged."
    yield "    garp_master_delay 1"
    yield "    garp_master_repeat 3"
    yield "    garp_master_refresh 10"
    mine = [it.address for it in pair.floating if it.network == network]
    yield "    virtual_ipaddress {"
    yield from (f"        {address}" for address in mine if not is_six(address))
    yield "    }"
    yield from _excluded([f"{address}" for address in mine if is_six(address)])
    yield "}"


def _excluded(mine: list[str]) -> Iterator[str]:
    if mine:
        yield "    # IPv6 moves along: announced are addresses of IPv4 alone. preferred_lft 0: never the source of our own questions."
        yield "    virtual_ipaddress_excluded {"
        yield from (f"        {address} preferred_lft 0" for address in mine)
        yield "    }"


def addresses(pair: Pair) -> list[Address]:
    return [it.address.ip for it in pair.floating]
