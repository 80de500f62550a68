"""The proof: real requests from inside the lab, the director's own counters, and every node's settings, against the declaration.

Services and nodes are verified in parallel. A guest that does not answer is a failed check, never an exception.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from vlab.errors import GuestError, VlabError
from vlab.guests.base import Channel
from vlab.guests.settings import Settings
from vlab.lvs import checks, inspect
from vlab.lvs.checks import Check, Traffic
from vlab.lvs.index import index
from vlab.lvs.ipvs import Table, Virtual
from vlab.lvs.probe import MISSING, TIMEOUT, Answers, Probe, probe
from vlab.lvs.schedulers import expected, whole_turns
from vlab.lvs.settings import KEEPALIVED_CONF, for_node
from vlab.lvs.status import read_table
from vlab.topology.lab import Lab, Node, Service

__all__ = ["Check", "verify"]

THREADS = 8

SETTLE = 10.0
"""Seconds that real servers may take to pass their health check: a lab may just have been made, or a server restarted."""

ASKERS = 3
"""How many nodes are tried before the service is asked by plain connects: an image may lack the protocol's client."""

QUICK = frozenset({"container"})
"""Virt kinds whose nodes start a process in no time; they are asked to ask first."""

COUNTERS_LAG = 4.0
"""Seconds to wait for ip_vs to bring its counters up to date; it does so every 2 s (ip_vs_est.c)."""

POLL = 0.5
INSPECT_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs at hand."""

    lab: Lab
    channel_of: Callable[[str], Channel]
    serves: Callable[[str], Mapping[int, str]]
    settle: float


def verify(
    lab: Lab,
    channel_of: Callable[[str], Channel],
    serves: Callable[[str], Mapping[int, str]],
    *,
    settle: float = SETTLE,
) -> list[Check]:
    """Every check of the lab: services in the file's order, then nodes.

    ``channel_of`` gives a node's channel by node name, ``serves`` the probes of an image's ports by image name («http»,
    «mysql», «tcp»). ``settle`` is how many seconds to wait for real servers that are not in the director's table.
    """
    bench = Bench(lab, channel_of, serves, settle)
    known = index(lab)
    concerned = [node for node in lab.nodes if node.name in known.serving or node.name in known.directing]
    with ThreadPoolExecutor(THREADS) as pool:
        services = pool.map(lambda service: list(_service(bench, service)), lab.services)
        nodes = pool.map(lambda node: _node(bench, node), concerned)
        return [*(made for several in services for made in several), *nodes]


def _service(bench: Bench, service: Service) -> Iterator[Check]:
    try:
        before = _settled(bench, service)
    except VlabError as error:
        yield _no_answer(f"service/{service.name}/table", _director(bench.lab, service), error)
        before = None
    if before is not None:
        yield checks.table(service, before, _director(bench.lab, service))
    yield from _traffic_checks(bench, service, before)


def _traffic_checks(bench: Bench, service: Service, table: Table | None) -> Iterator[Check]:
    before = _virtual(table, service)
    alive = _alive(service, before) if table is not None else service
    if service.protocol != "tcp" or not any(server.weight for server in service.real_servers):
        return
    askers = _askers(bench.lab, service)
    if not askers:
        yield _nobody_asks(service)
        return
    try:
        traffic = _measured(bench, service, askers, before)
    except VlabError as error:
        yield _no_answer(f"service/{service.name}/reachable", " and ".join(node.name for node in askers), error)
        return
    yield checks.reachable(service, traffic)
    if any(server.weight for server in alive.real_servers):
        oracle = expected(alive, traffic.requests, start=checks.loads(service, before) if before else None)
        yield from checks.split(alive, traffic, oracle)
    if traffic.before is not None and traffic.after is not None:
        yield checks.replies(service, traffic)


def _settled(bench: Bench, service: Service) -> Table:
    """The director's table, once every real server is in it or ``bench.settle`` seconds are over."""
    channel = _director_channel(bench, service)
    deadline = time.monotonic() + bench.settle
    while True:
        table = read_table(channel)
        virtual = _virtual(table, service)
        complete = virtual is not None and len(virtual.destinations) >= len(service.real_servers)
        if complete or time.monotonic() >= deadline:
            return table
        time.sleep(POLL)


def _director_channel(bench: Bench, service: Service) -> Channel:
    return bench.channel_of(_director(bench.lab, service))


def _director(lab: Lab, service: Service) -> str:
    directing = index(lab).directing
    return next(name for name, roles in directing.items() if any(role.service is service for role in roles))


def _virtual(table: Table | None, service: Service) -> Virtual | None:
    return table.service(service.protocol, service.vip, service.port) if table else None


def _alive(service: Service, virtual: Virtual | None) -> Service:
    """The service with only those real servers that are in the table: the split is judged over them."""
    servers = (s for s in service.real_servers if virtual and virtual.destination(s.address, s.port))
    return replace(service, real_servers=tuple(servers))


def _askers(lab: Lab, service: Service) -> list[Node]:
    """Nodes that can ask the service: on the VIP's network, no director, no real server of it; pure clients and quick ones first."""
    known = index(lab)
    excluded = {server.node for server in service.real_servers} | known.directing.keys()
    able = [n for n in lab.nodes if n.name not in excluded and any(nic.network == service.network for nic in n.nics)]
    return sorted(able, key=lambda node: (node.name in known.serving, node.virt not in QUICK))[:ASKERS]


def _measured(bench: Bench, service: Service, askers: list[Node], before: Virtual | None) -> Traffic:
    """One round of requests. When the counters show that somebody else used the service meanwhile, a second one."""
    traffic = _round(bench, service, askers, before)
    if traffic.after is not None and sum(traffic.connections(service).values()) > traffic.requests:
        return _round(bench, service, askers, traffic.after)
    return traffic


def _round(bench: Bench, service: Service, askers: list[Node], before: Virtual | None) -> Traffic:
    chosen = _probe(bench, service)
    for asking in (chosen, probe("tcp")):
        requests = _requests(service, asking)
        for asker in askers:
            answers = _ask(bench, service, asker, asking, requests)
            if answers is not None:
                after = _counted(bench, service, before, requests) if before is not None else None
                director = _director(bench.lab, service)
                return Traffic(asker.name, director, requests, answers, before if after else None, after)
    names = ", ".join(node.name for node in askers)
    raise GuestError(f"none of {names} has a program to ask service {service.name} with", hint="use image: client")


def _ask(bench: Bench, service: Service, asker: Node, asking: Probe, requests: int) -> Answers | None:
    """The answers, None where the node lacks the probe's program."""
    argv = asking.command(service.vip, service.port, requests)
    result = bench.channel_of(asker.name).run(argv, timeout=30.0 + requests * TIMEOUT)
    return None if result.code == MISSING else asking.parse(result.text)


def _probe(bench: Bench, service: Service) -> Probe:
    server = service.real_servers[0]
    image = index(bench.lab).nodes[server.node].image
    return probe(bench.serves(image).get(server.port, "tcp"))


def _requests(service: Service, asking: Probe) -> int:
    return min(asking.most, whole_turns(service, max(asking.base, asking.per_server * len(service.real_servers))))


def _counted(bench: Bench, service: Service, before: Virtual, requests: int) -> Virtual | None:
    """The service's entry once its counters show ``requests`` more connections, or have had time enough to."""
    deadline = time.monotonic() + COUNTERS_LAG
    while True:
        try:
            after = _virtual(read_table(_director_channel(bench, service)), service)
        except VlabError:
            return None
        if after is None or (after.counters - before.counters).conns >= requests or time.monotonic() >= deadline:
            return after
        time.sleep(POLL)


def _node(bench: Bench, node: Node) -> Check:
    wanted = for_node(bench.lab, node)
    try:
        channel = bench.channel_of(node.name)
        result = channel.run(inspect.command(wanted), timeout=INSPECT_TIMEOUT)
        text = channel.get(KEEPALIVED_CONF).decode(errors="replace") if _directs(bench.lab, node) else None
    except VlabError as error:
        return _no_answer(f"node/{node.name}/settings", node.name, error)
    try:
        found = inspect.parse(result.text)
    except ValueError:
        return checks.settings(
            node.name, [f"its settings could not be read: {result.error_text.strip() or result.text[:200]}"]
        )
    return checks.settings(node.name, [*inspect.differences(wanted, found), *_file_differences(wanted, text)])


def _directs(lab: Lab, node: Node) -> bool:
    return node.name in index(lab).directing


def _file_differences(wanted: Settings, keepalived: str | None) -> list[str]:
    """``keepalived`` is what keepalived.conf holds, None on a node that is no director."""
    known = keepalived is None or keepalived in {file.content for file in wanted.files}
    return [] if known else [f"{KEEPALIVED_CONF} is not what vlab wrote"]


def _no_answer(id: str, node: str, error: VlabError) -> Check:
    hint = error.hint or f"vlab status; vlab logs {node}; vlab console {node}"
    return Check(id, ok=False, expected=f"{node} answers", found=error.what, hint=hint)


def _nobody_asks(service: Service) -> Check:
    return Check(
        id=f"service/{service.name}/reachable",
        ok=False,
        expected=f"a node on {service.network} asks {service.vip}:{service.port}",
        found="every node there is a director or a real server of this service",
        hint=f"add a group with image: client and networks: [{service.network}]",
    )
