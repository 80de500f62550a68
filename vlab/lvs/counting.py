"""Asking a director's services, and waiting until ip_vs shows the requests in its counters; again where they do not fit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vlab.errors import VlabError
from vlab.lvs.asking import Asked, Bench, ask_all, virtual
from vlab.lvs.awaiting import found, rest, whole_table
from vlab.lvs.checks import Traffic
from vlab.lvs.ipvs import UPDATE, Table, Virtual
from vlab.lvs.status import read_counters, read_total
from vlab.topology.lab import Service

ROUNDS = 3
"""How often a service is asked at most, when the counters do not fit: ``_disturbed`` says what may be behind that."""

LAG = 2 * UPDATE
"""Seconds to wait for ip_vs to bring its counters up to date: guests on a busy host are late."""

POLL = 0.25
"""Seconds between two looks at the counters; each look takes 0.2 s of an emulated director's processor."""


def measured(bench: Bench, director: str, services: Sequence[Service], before: Table) -> dict[str, Asked]:
    """What came of asking each of ``services``, of the kernel's, by name, with the counters afterwards. ``before`` is the director's table."""
    made: dict[str, Asked] = {}
    for _ in range(ROUNDS):
        began = found(bench, director, read_total)
        asked = ask_all(bench, services, before)
        bench.has_asked(director)
        deadline = time.monotonic() + LAG
        _await_total(bench, director, asked.values(), began, deadline)
        after = _counted(bench, director, services, asked, before, deadline)
        made |= {s.name: _with_counters(asked[s.name], virtual(after, s)) for s in services}
        services = [service for service in services if _disturbed(service, made[service.name])]
        if after is None or not services:
            break
        before = _again(bench, director, services, after)
    return made


def _again(bench: Bench, director: str, services: Sequence[Service], last: Table) -> Table:
    """The table before another round, once it is whole: counters alone do not tell of connections. ``last`` where it cannot be read."""
    try:
        return whole_table(bench, director, services)
    except VlabError:
        return last


def _counted(
    bench: Bench, director: str, services: Sequence[Service], asked: Mapping[str, Asked], before: Table, deadline: float
) -> Table | None:
    """The table once its counters show every request, or have had time enough to; None when it cannot be read."""
    while True:
        try:
            after = read_counters(bench.channel_of(director), before)
        except VlabError:
            return None
        late = any(_late(service, asked[service.name], virtual(after, service)) for service in services)
        if not late or time.monotonic() >= deadline:
            return after
        time.sleep(POLL)


def _await_total(bench: Bench, director: str, asked: Iterable[Asked], began: int | None, deadline: float) -> None:
    """Wait until the total of all services shows every request: the kernel brings it up to date last, as ip_vs_start_estimator puts later
    ones before it, and to look at it costs a guest a sixth of what ``ipvsadm`` costs. ``began`` is the total from before the requests,
    None where it is not told."""
    made = sum(each.requests - each.answers.refused for each in asked if isinstance(each, Traffic))
    while began is not None and (looked := time.monotonic()) < deadline:
        total = found(bench, director, read_total)
        if total is None or total - began >= made:
            return
        rest(looked)


def _late(service: Service, asked: Asked, after: Virtual | None) -> bool:
    """Do the counters not show all requests yet? Those of the service and of its servers are read one after the other, and the kernel may
    bring them up to date in between, also when the table was read before the requests: either may be ahead."""
    if not isinstance(asked, Traffic) or asked.before is None or after is None:
        return False
    of_service = (after.counters - asked.before.counters).conns
    of_servers = sum(replace(asked, after=after).connections(service).values())
    return min(of_service, of_servers) < asked.requests - asked.answers.refused


def _with_counters(asked: Asked, after: Virtual | None) -> Asked:
    return replace(asked, after=after) if isinstance(asked, Traffic) and asked.before is not None else asked


def _disturbed(service: Service, asked: Asked) -> bool:
    """Did somebody else use the service meanwhile, or a server leave the table? It comes back with counters of zero. Or was a connection
    of a persistent client not counted, because it is from a port that one of the last two minutes had: ip_vs takes it for that one
    (is_new_conn_expected, net/netfilter/ipvs/ip_vs_core.c)?"""
    if not isinstance(asked, Traffic) or asked.after is None:
        return False
    made, answers = asked.connections(service), asked.answers
    left = any(count > made.get(name, count) for name, count in answers.counts.items())
    more = sum(made.values()) - (asked.requests - answers.refused)
    return left or more > 0 or (more < 0 and service.persistence is not None)
