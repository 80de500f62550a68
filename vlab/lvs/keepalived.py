"""keepalived.conf for a director, from the services it serves. Pure; understood by keepalived 2.2 and later.

Everything that keepalived would default is written out: its own defaults (NAT, a check each minute, 6 minutes of persistence)
surprise people, and the file is what they read. What a pair of directors needs is in ``vrrp``; never ``vrrp_strict``, which would
firewall the VIP.

``alpha`` starts with all servers down and ``warmup 0`` checks them at once: a server takes traffic as soon as it has proved
to be alive, and never before. ``inhibit_on_failure`` is not used: a dead server leaves the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from vlab.lvs import vrrp
from vlab.lvs.checkers import checker
from vlab.lvs.index import index
from vlab.lvs.modes import mode
from vlab.topology.family import is_six
from vlab.topology.lab import Lab, Node, RealServer, Service

RETRIES = 1
"""Further attempts before a server that was up counts as down: one slow answer on a busy host is not a failure."""

DELAY_BEFORE_RETRY = 1


def render(lab: Lab, director: Node) -> str:
    """The whole text of ``director``'s keepalived.conf."""
    services = [role.service for role in index(lab).directing.get(director.name, ())]
    floats = vrrp.floating(lab, director)
    return "\n".join(
        [*_head(lab, director), *floats, *(line for service in services for line in _service(service)), ""]
    )


def _head(lab: Lab, director: Node) -> Iterator[str]:
    yield f"# {director.name} of lab {lab.name}. Written by vlab from its topology; the next «vlab up» overwrites changes."
    yield "global_defs {"
    yield f"    router_id {director.name}"
    yield "    enable_script_security"
    yield "    # Start from an empty table, whatever a crashed predecessor left behind."
    yield "    lvs_flush"
    yield from vrrp.sync_daemon(lab, director)
    yield "}"


def _service(service: Service) -> Iterator[str]:
    for each in service.each():
        yield ""
        yield f"# Service {service.name}{_which_port(service, each)}: {mode(service.mode).title} to real servers on {service.inner_network}."
        yield from _virtual_server(each)


def _which_port(service: Service, each: Service) -> str:
    if service.fwmark is not None:
        return f", ports {service.shown_ports} of {service.vip} by firewall mark"
    return f", port {each.port}" if service.ports else ""


def _virtual_server(service: Service) -> Iterator[str]:
    """One service of the kernel. A mark says nothing of the protocol, and keepalived complains of one there."""
    forwarding, marked = mode(service.mode), service.fwmark is not None
    yield f"virtual_server {f'fwmark {service.fwmark}' if marked else f'{service.vip} {service.port}'} {{"
    yield from _aligned(
        # A mark names no address by which keepalived would know the family.
        *([("ip_family", "inet6")] if marked and is_six(service.vip) else []),
        *([] if marked else [("protocol", service.protocol.upper())]),
        ("lvs_sched", service.scheduler),
        *((flag, "") for flag in service.scheduler_flags),
        *([("ops", "")] if service.one_packet else []),
        ("lvs_method", forwarding.lvs_method(service)),
        *_persistence(service),
        *_sorry_server(service),
        ("delay_loop", f"{service.check.every:g}"),
        ("connect_timeout", f"{service.check.timeout:g}"),
        ("retry", str(RETRIES)),
        ("delay_before_retry", str(DELAY_BEFORE_RETRY)),
        ("warmup", "0"),
        ("alpha", ""),
    )
    for server in service.real_servers:
        yield from _real_server(service, server)
    yield "}"


def _persistence(service: Service) -> Iterator[tuple[str, str]]:
    if service.persistence is not None:
        yield "persistence_timeout", str(service.persistence)
    if service.persistence is not None and service.netmask < service.vip.max_prefixlen:
        yield "persistence_granularity", granularity(service)


def _sorry_server(service: Service) -> Iterator[tuple[str, str]]:
    """keepalived counts a quorum in weight, not in servers; without a sorry server it only reports that it is lost."""
    if service.quorum > 1:
        yield "quorum", str(service.quorum)
    if sorry := service.sorry_server:
        yield "sorry_server", f"{sorry.address} {sorry.port}" if sorry.port else str(sorry.address)
        yield "sorry_server_lvs_method", mode(service.mode).keepalived


def granularity(service: Service) -> str:
    """The persistence mask as keepalived reads it and ipvsadm prints it: dotted for IPv4, a prefix length for IPv6."""
    if "." in str(service.vip):
        return str(ip_network(f"0.0.0.0/{service.netmask}").netmask)
    return str(service.netmask)


def _real_server(service: Service, server: RealServer) -> Iterator[str]:
    yield ""
    yield f"    # {server.node}" + (
        "" if server.drained is None else f", drained: its weight is {server.drained} otherwise"
    )
    yield (
        f"    real_server {server.address} {server.port} {{" if server.port else f"    real_server {server.address} {{"
    )
    yield f"        weight {server.weight}"
    yield from (f"        {key} {value}" for key, value in _thresholds(server))
    yield from (f"        {line}" for line in checker(service.check.kind).lines(service, server))
    yield "    }"


def _thresholds(server: RealServer) -> Iterator[tuple[str, int]]:
    if server.upper:
        yield "uthreshold", server.upper
    if server.lower:
        yield "lthreshold", server.lower


def _aligned(*pairs: tuple[str, str]) -> Iterator[str]:
    width = max(len(key) for key, _ in pairs)
    yield from (f"    {key:<{width}} {value}".rstrip() for key, value in pairs)
