"""Why a node is set up as it is, and how a packet travels through a service: the rows of ``vlab explain``. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from vlab.errors import UsageError
from vlab.guests.settings import Settings
from vlab.lvs.index import Role, index
from vlab.lvs.modes import ON_LINK, mode
from vlab.lvs.schedulers import expected, whole_turns, wrr_turn
from vlab.lvs.settings import for_node
from vlab.topology.lab import Lab, Node, Service

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
    for subject, rows in _settings(for_node(lab, node)):
        yield from (Row(subject, setting, why) for setting, why in rows)


def _service(lab: Lab, service: Service) -> Iterator[Row]:
    title = f"{service.vip}:{service.port}/{service.protocol}, {service.scheduler}, {service.mode}"
    yield Row("service", title, mode(service.mode).title)
    for number, step in enumerate(_path(lab, service), 1):
        yield Row(f"packet {number}", step, "")
    for server in service.real_servers:
        yield Row("real server", f"{server.node} {server.address}:{server.port}", f"weight {server.weight}")
    yield from _scheduling(service)


def _part(role: Role) -> tuple[str, str]:
    it = role.service
    if role.real_server is None:
        return f"director of {it.name}", f"{mode(it.mode).title}; clients reach it at {it.vip}:{it.port}"
    return (
        f"real server of {it.name}",
        f"{role.director.name} forwards by {mode(it.mode).title}, weight {role.real_server.weight}",
    )


def _settings(settings: Settings) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    yield "interface", tuple((f"{i.name} {i.mac} MTU {i.mtu}", i.why) for i in settings.links)
    yield "tunnel", tuple((f"{t.name} ({t.kind}) on {t.local}", t.why) for t in settings.tunnels)
    yield "sysctl", tuple(_sysctls(settings))
    yield "address", tuple((f"{a.address} on {a.device}", a.why) for a in settings.addresses)
    yield "route", tuple(_routes(settings))
    yield "file", tuple((f.path, f.why) for f in settings.files)
    yield "unit", tuple((u.name, u.why) for u in settings.units)


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
        rows.append((device, parts[-1], item.value, item.why))
    first = {row[1:]: place for place, row in reversed(list(enumerate(rows)))}
    return sorted(rows, key=lambda row: first[row[1:]])


def _routes(settings: Settings) -> Iterator[tuple[str, str]]:
    for route in settings.routes:
        destination = "default" if route.destination.prefixlen == 0 else str(route.destination)
        via = "" if route.via == ON_LINK else f" via {route.via}"
        yield f"{destination}{via} on {route.device}{f' advmss {route.advmss}' if route.advmss else ''}", route.why


def _path(lab: Lab, service: Service) -> list[str]:
    words = {
        "client": _client(lab, service),
        "vip": str(service.vip),
        "director": _director(lab, service).name,
        "server": service.real_servers[0].node,
    }
    return [step.format(**words) for step in mode(service.mode).path]


def _client(lab: Lab, service: Service) -> str:
    taken = {server.node for server in service.real_servers} | index(lab).directing.keys()
    names = (n.name for n in lab.nodes if n.name not in taken and any(nic.network == service.network for nic in n.nics))
    return next(names, "the client")


def _director(lab: Lab, service: Service) -> Node:
    roles = (role for several in index(lab).directing.values() for role in several)
    return next(role.director for role in roles if role.service is service)


def _scheduling(service: Service) -> Iterator[Row]:
    requests = whole_turns(service, ENOUGH)
    expectation = expected(service, requests)
    yield Row("scheduler", f"of {requests} requests one after another: {expectation.render()}", expectation.why)
    if service.scheduler == "wrr" and whole_turns(service, 1) <= LONGEST_TURN:
        turn = wrr_turn([(s.node, s.weight) for s in service.real_servers if s.weight])
        yield Row("scheduler", f"one turn: {' '.join(turn)}", "a turn starts anew when a real server joins or leaves")
