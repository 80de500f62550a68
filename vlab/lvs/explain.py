"""Why a node is set up as it is, and how a packet travels through a service: the rows of ``vlab explain``. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from vlab.errors import UsageError
from vlab.guests.settings import Entry, Route, Settings
from vlab.lvs import vrrp
from vlab.lvs.checkers import checker
from vlab.lvs.index import Role, index
from vlab.lvs.models import Arrival
from vlab.lvs.modes import mode
from vlab.lvs.schedulers import expected, whole_turns, wrr_turn
from vlab.lvs.settings import for_node
from vlab.lvs.starts import as_declared
from vlab.topology.family import endpoint, is_six
from vlab.topology.lab import Floating, Lab, Node, Pair, RealServer, Service
from vlab.topology.vocabulary import SCHEDULER_FLAGS

ENOUGH = 12
"""Requests for which a service's split is told."""

LONGEST_TURN = 24


@dataclass(frozen=True, slots=True)
class Row:
    """One fact: what it is about («lvs1 sysctl», «packet 2»), what is set or happens, and why."""

    subject: str
    setting: str
    why: str


def explain(lab: Lab, name: str) -> list[Row]:
    """Everything about the node or service called ``name``; about both, where both exist. Raises ``UsageError``."""
    node = index(lab).nodes.get(name)
    service = next((service for service in lab.services if service.name == name), None)
    if node is None and service is None:
        known = [*(service.name for service in lab.services), *(node.name for node in lab.nodes[:12])]
        raise UsageError(f"lab {lab.name} has no node or service «{name}»", hint=f"there are {', '.join(known)}")
    return [*(_service(lab, service) if service else ()), *(_node(lab, node) if node else ())]


def _node(lab: Lab, node: Node) -> Iterator[Row]:
    known = index(lab)
    yield Row("node", f"{node.name}, image {node.image}, virt {node.virt}", f"group {node.group}")
    for role in (*known.directing.get(node.name, ()), *known.serving.get(node.name, ())):
        yield Row("part", *_part(role))
    for pair in lab.pairs:
        if node.name in pair.nodes:
            yield from (Row("pair", setting, why) for setting, why in _pair(lab, pair, node))
    for subject, rows in _settings(for_node(lab, node)):
        yield from (Row(subject, setting, why) for setting, why in rows)


def _service(lab: Lab, service: Service) -> Iterator[Row]:
    title = f"{service.shown_endpoint}/{service.protocol}, {service.scheduler}, {service.mode}"
    yield Row("service", title, mode(service.mode).title)
    for number, step in enumerate(_path(lab, service), 1):
        yield Row(f"packet {number}", step, "")
    for server in service.real_servers:
        yield Row("real server", f"{server.node} {_where(server)}", f"weight {server.weight}{_limits(server)}")
    yield from _keys(service)
    yield from _scheduling(service)


def _where(server: RealServer) -> str:
    return endpoint(server.address, server.port) if server.port else str(server.address)


def _limits(server: RealServer) -> str:
    if not server.upper:
        return ""
    again = f"below {server.lower}" if server.lower else "below three quarters of that"
    return f"; full at {server.upper} connections, takes new ones again {again}"


def _keys(service: Service) -> Iterator[Row]:
    """What the service's own keys do."""
    if service.fwmark is not None:
        why = f"nft gives requests to ports {service.shown_ports} this mark, and ip_vs has one service for it"
        yield Row("firewall mark", str(service.fwmark), why)
    elif len(service.each()) > 1:
        why = "each is a service of its own in the kernel, with health checks of its own"
        yield Row("ports", service.shown_ports, why)
    if service.persistence is not None:
        client = (
            "a client"
            if service.netmask == service.vip.max_prefixlen
            else f"every client of the same /{service.netmask}"
        )
        yield Row(
            "persistence", f"{service.persistence} s", f"{client} stays with the real server of its last connection"
        )
    if service.one_packet:
        yield Row("one packet", "ops", "each datagram is scheduled by itself, and no connection is kept")
    for flag in service.scheduler_flags:
        yield Row("scheduler flag", flag, SCHEDULER_FLAGS[flag])
    if sorry := service.sorry_server:
        why = f"answers while the live real servers weigh less than {service.quorum} together; nobody checks its own health"
        yield Row("sorry server", f"{sorry.node} {_where(sorry)}", why)
    yield Row("check", _check(service), f"every {service.check.every:g} s, at most {service.check.timeout:g} s each")


def _check(service: Service) -> str:
    """The first real server's, as keepalived has it, in one line."""
    lines = checker(service.check.kind).lines(service, service.real_servers[0])
    return " ".join(line.strip() for line in lines)


def _part(role: Role) -> tuple[str, str]:
    it = role.service
    if role.real_server is None:
        return f"director of {it.name}", f"{mode(it.mode).title}; clients reach it at {it.shown_endpoint}"
    part = "sorry server" if role.real_server is it.sorry_server else "real server"
    return (
        f"{part} of {it.name}",
        f"{role.directed_by} forwards by {mode(it.mode).title}, weight {role.real_server.weight}",
    )


def _pair(lab: Lab, pair: Pair, node: Node) -> Iterator[tuple[str, str]]:
    other = next(name for name in pair.nodes if name != node.name)
    yield (
        f"VRRP id {pair.vrid}, priority {vrrp.priority(pair, node.name)}",
        f"{other} takes over when this one is not heard",
    )
    for it in pair.floating:
        yield f"{it.address.ip} on {it.network} floats", f"{_use(lab, it)}; only the active node has it"
    yield f"preempt: {pair.preempt}".lower(), vrrp.WHY_PREEMPT[pair.preempt]
    yield f"sync: {pair.sync}".lower(), vrrp.WHY_SYNC[pair.sync]


def _use(lab: Lab, it: Floating) -> str:
    if not it.inner:
        return "clients call it"
    asked = (need for roles in index(lab).serving.values() for role in roles for need in _routes_of(role))
    if any(route.via == it.address.ip for route in asked):
        return "nat real servers route to it"
    return f"VRRP speaks IPv4, and needs an address to announce on {it.network}"


def _routes_of(role: Role) -> tuple[Route, ...]:
    return mode(role.service.mode).real_server(role).routes


def _settings(settings: Settings) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    yield "interface", tuple((f"{i.name} {i.mac} MTU {i.mtu}", i.why) for i in settings.links)
    yield "tunnel", tuple((f"{t.name} ({t.kind}) on {t.local}", t.why) for t in settings.tunnels)
    yield (
        "port",
        tuple(
            (f"UDP {p.port}{' (IPv6)' if p.six else ''} takes packets out of GUE", p.why) for p in settings.fou_ports
        ),
    )
    yield "sysctl", tuple(_sysctls(settings))
    yield "address", tuple((f"{a.address} on {a.device}", a.why) for a in settings.addresses)
    yield "route", tuple(_routes(settings))
    yield "rule", tuple((f"from {r.source} look into table {r.table} first", r.why) for r in settings.rules)
    yield "file", tuple((f.path, f.why) for f in settings.files)
    yield "unit", tuple((u.name, u.why) for u in settings.units)
    yield "entry", tuple((_entry(e), e.why) for e in settings.entries)


def _entry(entry: Entry) -> str:
    limits = f" -x {entry.upper} -y {entry.lower}" if entry.upper else ""
    return f"{entry.place} {entry.way} -w {entry.weight}{limits}"


def _sysctls(settings: Settings) -> Iterator[tuple[str, str]]:
    """One row for the same setting of several interfaces."""
    for (key, value, why), group in groupby(_grouped(settings), lambda row: row[1:]):
        devices = [device for device, *_ in group if device]
        yield f"{f'{key}={value}'}{' on ' + ', '.join(devices) if devices else ''}", why


def _grouped(settings: Settings) -> list[tuple[str, str, str, str]]:
    rows = []
    for item in settings.sysctls:
        parts = item.key.split("/")
        device = parts[3] if parts[2] == "conf" else ""
        rows.append((device, f"ipv6 {parts[-1]}" if parts[1] == "ipv6" else parts[-1], item.value, item.why))
    first = {row[1:]: place for place, row in reversed(list(enumerate(rows)))}
    return sorted(rows, key=lambda row: first[row[1:]])


def _routes(settings: Settings) -> Iterator[tuple[str, str]]:
    for route in settings.routes:
        destination = str(route.destination) if route.destination.prefixlen or is_six(route.destination) else "default"
        via = "" if route.via.is_unspecified else f" via {route.via}"
        table = "" if route.table is None else f" in table {route.table}"
        yield (
            f"{destination}{via} on {route.device}{f' advmss {route.advmss}' if route.advmss else ''}{table}",
            route.why,
        )


def _path(lab: Lab, service: Service) -> list[str]:
    words = {
        "client": _client(lab, service),
        "vip": str(service.vip),
        "director": _director(lab, service).directed_by,
        "server": service.real_servers[0].node,
    }
    return [step.format(**words) for step in mode(service.mode).steps(service)]


def _client(lab: Lab, service: Service) -> str:
    taken = {server.node for server in service.servers} | index(lab).directing.keys()
    names = (n.name for n in lab.nodes if n.name not in taken and any(nic.network == service.network for nic in n.nics))
    return next(names, "the client")


def _director(lab: Lab, service: Service) -> Role:
    roles = (role for several in index(lab).directing.values() for role in several)
    return next(role for role in roles if role.service is service)


def _scheduling(service: Service) -> Iterator[Row]:
    known = as_declared(service)
    requests = whole_turns(known, ENOUGH)
    expectation = expected(known, [Arrival(service.vip, 0, service.vip)] * requests)
    yield Row("scheduler", f"of {requests} requests one after another: {expectation.render()}", expectation.why)
    if service.scheduler == "wrr" and whole_turns(known, 1) <= LONGEST_TURN:
        turn = wrr_turn(service)
        yield Row("scheduler", f"one turn: {' '.join(turn)}", "a turn starts anew when a real server joins or leaves")
