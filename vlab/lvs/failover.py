"""What a failover cost, from a load's record: the outage, requests lost, connections that survived. Pure.

An outage is the longest time between two good answers: between the last one before and the first one after, when there was one.
A connection survives when a question over it is answered after the outage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vlab.lvs import vrrp
from vlab.lvs.checks import Check, check
from vlab.lvs.index import index
from vlab.lvs.load import KEPT_TIMEOUT, Record
from vlab.topology.lab import Lab, Node, Pair, Service

LIMIT = 4.0
"""Seconds that an outage may take with VRRP's default timers: silence of three intervals and the skew, and the first answers."""

STALL = 1.5
"""Seconds between two answers that are no outage: an emulated director on a busy host is late."""

RECOVERED = 20
"""Good answers in a row after which a service counts as back."""


@dataclass(frozen=True, slots=True)
class Cost:
    """``outage_ms`` is None when no good answer came afterwards. ``connections`` were open before, ``survived`` of them answer after."""

    outage_ms: int | None
    requests: int
    lost: int
    connections: int
    survived: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One service through a failover and back. ``killed`` and ``took_over`` are the pair's nodes («» when none took over),
    ``active_after`` who is active once the killed one is back, ``back_seconds`` how long it took to bring it back; ``failover``
    and ``back`` are what both cost."""

    service: str
    director: str
    mode: str
    sync: bool
    client: str
    killed: str
    took_over: str
    active_after: str
    back_seconds: float
    failover: Cost
    back: Cost


def clients(lab: Lab, service: Service, quick: frozenset[str]) -> list[Node]:
    """Nodes that can ask the service, those of a ``quick`` virt kind first."""
    excluded = {server.node for server in service.servers} | index(lab).directing.keys()
    able = [n for n in lab.nodes if n.name not in excluded and any(nic.network == service.network for nic in n.nics)]
    return sorted(able, key=lambda node: node.virt not in quick)


def cost(record: Record, since: float, until: float) -> Cost:
    """What happened from ``since`` to ``until``, in seconds of the record."""
    gap = _longest_gap(record, since, until)
    inside = [request for request in record.requests if since <= request.start < until]
    open_then = [number for number in record.answers if record.deaths.get(number, (until, ""))[0] >= since]
    return Cost(
        outage_ms=None if gap is None else round((gap[1] - gap[0]) * 1000),
        requests=len(inside),
        lost=sum(not request.ok for request in inside),
        connections=len(open_then),
        survived=sum(_lives(record, number, gap[1], until) for number in open_then) if gap else 0,
    )


def _longest_gap(record: Record, since: float, until: float) -> tuple[float, float] | None:
    """Between two good answers of the time, with the last one before it; None when none came any more."""
    good = [request.end for request in record.requests if request.ok and request.end <= until]
    before = max((end for end in good if end < since), default=since)
    ends = [before, *(end for end in good if end >= since)]
    if len(ends) < 2 or until - ends[-1] > STALL:
        return None
    return max(pairwise(ends), key=lambda pair: pair[1] - pair[0])


def _lives(record: Record, number: int, after: float, until: float) -> bool:
    return any(after < end <= until for end in record.answers[number])


def warm(record: Record, seconds: float, kept: int) -> bool:
    """Has the load run for ``seconds``, every connection answered several times, and the last requests been good?"""
    steady = len(record.answers) == kept and all(len(ends) >= 3 for ends in record.answers.values())
    return record.now >= seconds and steady and _good_again(record, 0.0)


def over(record: Record, since: float, least: float = STALL) -> bool:
    """Is it all decided: was there an outage of ``least`` seconds, are requests good again, and has each connection answered or died since?

    Without it ``cost`` may not tell: of connections that nobody has asked since the longest gap, which may be the last, nothing is known."""
    gap = _longest_gap(record, since, record.now)
    if gap is None or gap[1] - gap[0] < least or not _good_again(record, gap[1]):
        return False
    return all(number in record.deaths or _lives(record, number, gap[1], record.now) for number in record.answers)


def _good_again(record: Record, since: float) -> bool:
    latest = [request for request in record.requests if request.start >= since][-RECOVERED:]
    return len(latest) == RECOVERED and all(request.ok for request in latest)


def longest(pair: Pair) -> float:
    """Seconds to wait at most until all is decided."""
    return max(vrrp.takeover(pair, node) for node in pair.nodes) + KEPT_TIMEOUT + LIMIT


def active_after(pair: Pair, killed: str, took_over: str) -> str:
    """Who is to be active once the killed node is back."""
    return pair.nodes[0] if pair.preempt and killed == pair.nodes[0] else took_over


def judged(pair: Pair, found: Sequence[Measured]) -> list[Check]:
    """The checks of one pair's failover; ``found`` are its services, at least one."""
    first = found[0]
    other = next(name for name in pair.nodes if name != first.killed)
    expected = active_after(pair, first.killed, other)
    return [
        check(
            f"failover/{pair.director}/takeover",
            first.took_over == other,
            f"{other} takes over from {first.killed}",
            f"{first.took_over or 'nobody'} did",
            f"vlab exec {other} -- journalctl -u keepalived -n 20",
        ),
        *(made for one in found for made in _service(one)),
        check(
            f"failover/{pair.director}/back",
            first.active_after == expected,
            f"once {first.killed} is back, {expected} is active (preempt: {str(pair.preempt).lower()})",
            f"{first.active_after or 'none or both'} is active",
            f"vlab exec {first.killed} -- journalctl -u keepalived -n 20",
        ),
        *(_back(one, moved=expected != other) for one in found),
    ]


def _service(one: Measured) -> Iterator[Check]:
    found = one.failover
    hint = f"vlab verify; a host that is busy makes VRRP and answers late: vlab exec {one.took_over} -- journalctl -u keepalived"
    yield check(
        f"failover/{one.service}/outage",
        found.outage_ms is not None and found.outage_ms < LIMIT * 1000,
        f"answers again within {LIMIT * 1000:.0f} ms",
        f"{_outage(found)}; {found.lost} of {found.requests} requests lost",
        hint,
    )
    if found.connections:
        yield check(
            f"failover/{one.service}/connections",
            found.survived == (found.connections if one.sync else 0),
            f"of {found.connections} established connections {'all survive: sync is on' if one.sync else 'none survives: sync is off'}",
            f"{found.survived} survived",
            "ipvsadm -L --daemon and ipvsadm -Lnc on both directors show what was told",
        )


def _back(one: Measured, *, moved: bool) -> Check:
    limit = LIMIT if moved else STALL
    found = one.back
    return check(
        f"failover/{one.service}/back",
        found.outage_ms is not None and found.outage_ms < limit * 1000,
        f"{one.killed}'s return costs {f'less than {limit * 1000:.0f} ms' if moved else 'no outage'}",
        f"longest time without an answer {_outage(found)}; {found.lost} of {found.requests} requests lost",
        f"vlab exec {one.killed} -- journalctl -u keepalived -n 20",
    )


def _outage(found: Cost) -> str:
    return "no answer any more" if found.outage_ms is None else f"{found.outage_ms} ms"
