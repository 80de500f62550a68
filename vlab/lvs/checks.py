"""What a check is, and the judgements: measured data in, checks out. Pure; ``verify`` does the measuring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vlab.lvs.ipvs import Destination, Table, Virtual
from vlab.lvs.modes import mode
from vlab.lvs.probe import Answers
from vlab.lvs.schedulers import Expectation, Load
from vlab.topology.lab import RealServer, Service

AS_DECLARED = "as declared"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was verified. ``expected`` and ``found`` are sentences for people; ``hint`` is what to do next, empty
    when all is well."""

    id: str
    ok: bool
    expected: str
    found: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one round of requests did: who asked whom how often, what came back, and what the director counted (per real server;
    None where its table could not be read)."""

    asker: str
    director: str
    requests: int
    answers: Answers
    before: Virtual | None = None
    after: Virtual | None = None

    def connections(self, service: Service) -> dict[str, int]:
        """New connections by node name, as ip_vs counted them."""
        return {s.node: _conns(self.after, s) - _conns(self.before, s) for s in service.real_servers}

    @property
    def out_bytes(self) -> int:
        """Bytes of replies that passed the director."""
        assert self.before is not None and self.after is not None
        return (self.after.counters - self.before.counters).out_bytes


def check(id: str, ok: bool, expected: str, found: str, hint: str) -> Check:  # noqa: FBT001 - the field's own name and place
    """A ``Check`` that gives its hint only when it is needed."""
    return Check(id, ok, expected, found, "" if ok else hint)


def table(service: Service, found: Table, director: str) -> Check:
    """Is ``director``'s table what the topology declares?"""
    virtual = found.service(service.protocol, service.vip, service.port)
    wrong = list(_table_differences(service, virtual))
    servers = ", ".join(f"{s.node} {s.weight}" for s in service.real_servers)
    persistence = "" if service.persistence is None else f", persistent {service.persistence} s"
    expected = f"{service.scheduler}, {mode(service.mode).ipvsadm}{persistence}; weights {servers}"
    hint = f"vlab exec {director} -- journalctl -u keepalived -n 20 says which health check fails; vlab logs shows the real server's side"
    return check(f"service/{service.name}/table", not wrong, expected, "; ".join(wrong) or AS_DECLARED, hint)


def _table_differences(service: Service, virtual: Virtual | None) -> Iterator[str]:
    if virtual is None:
        yield f"{service.vip}:{service.port}/{service.protocol} is not in the table"
        return
    if virtual.scheduler != service.scheduler:
        yield f"scheduler {virtual.scheduler}"
    if virtual.persistence != service.persistence:
        yield f"persistence {'none' if virtual.persistence is None else f'{virtual.persistence} s'}"
    for server in service.real_servers:
        yield from _server_differences(service, server, virtual.destination(server.address, server.port))
    known = {(server.address, server.port) for server in service.real_servers}
    yield from (
        f"{d.address}:{d.port} is not declared" for d in virtual.destinations if (d.address, d.port) not in known
    )


def _server_differences(service: Service, server: RealServer, found: Destination | None) -> Iterator[str]:
    if found is None:
        yield f"{server.node} is down (not in the table)"
        return
    if found.method != mode(service.mode).ipvsadm:
        yield f"{server.node} is forwarded to by {found.method}"
    if found.weight != server.weight:
        yield f"{server.node} has weight {found.weight}"


def reachable(service: Service, traffic: Traffic) -> Check:
    """Did every request get a good answer?"""
    good, failures = traffic.answers.good, traffic.answers.failures
    reasons = ", ".join(f"{text} ({count}×)" for text, count in Counter(failures).most_common(3))
    lost = traffic.requests - good - len(failures)
    found = f"{good} answered" + (f"; {reasons}" if reasons else "") + (f"; {lost} without any result" if lost else "")
    return check(
        f"service/{service.name}/reachable",
        good == traffic.requests,
        f"{traffic.requests} of {traffic.requests} requests from {traffic.asker} to {service.vip}:{service.port} answered",
        found,
        f"vlab status shows which real servers are up; vlab explain {service.name} shows the way of a packet",
    )


def split(service: Service, traffic: Traffic, expected: Expectation) -> list[Check]:
    """Do the answers, and ip_vs' own counters, agree with the scheduler's oracle?"""
    made = []
    if traffic.answers.counts:
        made.append(
            _split(traffic.director, f"service/{service.name}/split", "answers", dict(traffic.answers.counts), expected)
        )
    if traffic.after is not None:
        made.append(
            _split(
                traffic.director,
                f"service/{service.name}/connections",
                "connections",
                traffic.connections(service),
                expected,
            )
        )
    return made


def _split(director: str, id: str, noun: str, counts: Mapping[str, int], expected: Expectation) -> Check:
    found = ", ".join(
        f"{name} {counts.get(name, 0)}" for name in [*expected.bounds, *sorted(counts.keys() - expected.bounds)]
    )
    extra = sum(counts.values()) - expected.requests
    return check(
        id,
        expected.holds(counts),
        f"{noun}: {expected.render()} ({expected.why})",
        f"{found} ({extra} more than were asked for: somebody else uses the service)" if extra > 0 else found,
        f"vlab exec {director} -- ipvsadm -Ln --stats shows the table; verify again when nobody else uses the service",
    )


def replies(service: Service, traffic: Traffic) -> Check:
    """Did replies pass the director in NAT, and only there?"""
    through = mode(service.mode).replies_through_director
    passed = traffic.out_bytes
    return check(
        f"service/{service.name}/replies",
        (passed > 0) == through,
        f"replies pass {traffic.director} (OutBytes above 0)"
        if through
        else f"replies bypass {traffic.director} (OutBytes 0)",
        f"OutBytes {passed}",
        "the real servers' default route must be the director's address: vlab explain NODE"
        if through
        else "the real servers must own the VIP and answer clients themselves: vlab explain NODE",
    )


def loads(service: Service, found: Virtual) -> dict[str, Load]:
    """What the table shows now, for the oracle."""
    servers = {s.node: found.destination(s.address, s.port) for s in service.real_servers}
    return {name: Load(d.active, d.inactive) for name, d in servers.items() if d is not None}


def settings(node: str, wrong: Sequence[str]) -> Check:
    """Is a node's inside as its settings say?"""
    hint = f"vlab explain {node} says what each setting is for"
    return check(f"node/{node}/settings", not wrong, AS_DECLARED, "; ".join(wrong) or AS_DECLARED, hint)


def _conns(virtual: Virtual | None, server: RealServer) -> int:
    found = virtual.destination(server.address, server.port) if virtual else None
    return found.counters.conns if found else 0
