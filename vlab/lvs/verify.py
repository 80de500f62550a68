"""The proof: real requests from inside the lab, the director's own counters, and every node's settings, against the declaration.

The longest chain goes first: a director's table, requests to its services, then up to ``ipvs.UPDATE`` seconds until ip_vs shows
them in its counters. Nodes are inspected where that chain waits, because emulated guests compete for the host's cores: while real servers
pass their first health checks, and those that ask once they have asked.
A guest that does not answer is a failed check, never an exception.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from vlab.errors import VlabError
from vlab.guests.base import Channel
from vlab.guests.settings import Settings
from vlab.lvs import checks, inspect, pairs, vrrp
from vlab.lvs.asking import THREADS, Asked, Bench, ask_all, asked_as, first_askers, known
from vlab.lvs.awaiting import SETTLE, complete, found, whole_table
from vlab.lvs.checks import Check, Traffic
from vlab.lvs.counting import measured
from vlab.lvs.index import index
from vlab.lvs.schedulers import expected
from vlab.lvs.settings import KEEPALIVED_CONF, for_node
from vlab.lvs.status import read_table
from vlab.topology.lab import Lab, Node, Pair, Service

__all__ = ["Check", "verify"]

PATIENCE = 3.0
"""Seconds after which nodes are inspected although requests are still under way."""

POLL = 0.5
INSPECT_TIMEOUT = 60.0


def verify(
    lab: Lab,
    channel_of: Callable[[str], Channel],
    serves: Callable[[str], Mapping[int, str]],
    *,
    settle: float = SETTLE,
    quiet: Event | None = None,
) -> list[Check]:
    """Every check of the lab: services in the file's order, then pairs of directors, then nodes.

    ``channel_of`` gives a node's channel by node name, ``serves`` the probes of an image's ports by image name («http»,
    «mysql», «tcp»). ``settle`` is how many seconds to wait for real servers that are not in the director's table. ``quiet`` is set
    when every service has been asked: from then on there is more waiting than work.
    """
    bench = Bench(lab, channel_of, serves, settle, Event(), quiet or Event(), asking=first_askers(lab))
    roles = index(lab)
    concerned = [node for node in lab.nodes if node.name in roles.serving or node.name in roles.directing]
    with ThreadPoolExecutor(THREADS) as first, ThreadPoolExecutor(THREADS) as then:
        nodes = then.map(lambda node: _node(bench, node), concerned)
        try:
            made = {name: found for each in first.map(lambda it: _directed(bench, it), roles.teams)
                    for name, found in each.items()}  # fmt: skip
            paired = [check for each in first.map(lambda it: _pair(bench, it), lab.pairs) for check in each]
        finally:
            bench.pause.set()
            bench.quiet.set()
        return [*(check for service in lab.services for check in made[service.name]), *paired, *nodes]


def _directed(bench: Bench, name: str) -> dict[str, list[Check]]:
    """The checks of one director's services, by service name."""
    director = bench.active[name] = _active(bench, name)
    services = [role.service for role in index(bench.lab).directing[director]]
    parts = [part for service in services for part in asked_as(service)]
    try:
        before = whole_table(bench, director, services)
    except VlabError as error:
        unread = {s.name: checks.no_answer(f"service/{s.name}/table", director, error) for s in services}
        asked = ask_all(bench, parts, None)
        return {s.name: [unread[s.name], *_judged_all(s, asked)] for s in services}
    asked = measured(bench, director, parts, before)
    return {s.name: [checks.table(s, before, director), *_judged_all(s, asked)] for s in services}


def _active(bench: Bench, name: str) -> str:
    """The node that works for a director; of a pair in which none or both do, after ``bench.settle`` seconds, the first."""
    pair = next((pair for pair in bench.lab.pairs if pair.director == name), None)
    if pair is None:
        return index(bench.lab).teams[name][0]
    standing = _standing(bench, pair, ())
    return next(iter(pairs.active(vrrp.addresses(pair), standing.held)), pair.nodes[0])


def _pair(bench: Bench, pair: Pair) -> list[Check]:
    """The checks of a pair that has services."""
    services = [service for service in bench.lab.services if service.director == pair.director]
    return pairs.judged(pair, services, _standing(bench, pair, services)) if services else []


def _standing(bench: Bench, pair: Pair, services: Sequence[Service]) -> pairs.Standing:
    """How the pair stands, once one node is active and all have whole tables of ``services``, or ``bench.settle`` seconds are over."""
    deadline = time.monotonic() + bench.settle
    while True:
        held = {node: found(bench, node, pairs.read) for node in pair.nodes}
        tables = (
            {node: found(bench, node, lambda channel: read_table(channel, services)) for node in pair.nodes}
            if services
            else {}
        )
        standing = pairs.Standing(held, {node: table for node, table in tables.items() if table is not None})
        whole = all(complete(service, table) for table in standing.tables.values() for service in services)
        if (pairs.one_active(pair, standing) and whole) or time.monotonic() >= deadline:
            return standing
        time.sleep(POLL)


def _judged_all(service: Service, asked: Mapping[str, Asked]) -> Iterator[Check]:
    """``asked`` by the names that ``asked_as`` gives."""
    for part in asked_as(service):
        yield from _judged(part, asked[part.name])


def _judged(service: Service, asked: Asked) -> Iterator[Check]:
    if not isinstance(asked, Traffic):
        yield from [asked] if asked is not None else []
        return
    it = known(service, asked.before)
    expectation = expected(it, asked.arrivals(service), asked.pace) if it.live else None
    yield checks.reachable(service, asked, expectation)
    if expectation is not None:
        yield from checks.split(service, asked, expectation)
    if asked.before is not None and asked.after is not None:
        yield checks.replies(service, asked)


def _node(bench: Bench, node: Node) -> Check:
    wanted = for_node(bench.lab, node)
    directs = _directs(bench.lab, node)
    (bench.quiet if node.name in bench.asking else bench.pause).wait(PATIENCE)
    try:
        channel = bench.channel_of(node.name)
        result = channel.run(inspect.command(wanted), timeout=INSPECT_TIMEOUT)
        text = channel.get(KEEPALIVED_CONF).decode(errors="replace") if directs else None
    except VlabError as error:
        return checks.no_answer(f"node/{node.name}/settings", node.name, error)
    try:
        found = inspect.parse(wanted, result.text)
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
