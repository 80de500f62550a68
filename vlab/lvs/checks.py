"""What a check is, and the judgements: measured data in, checks out. Pure; ``verify`` does the measuring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vlab.errors import VlabError
from vlab.lvs.ipvs import Destination, Table, Virtual
from vlab.lvs.models import Address, Arrival
from vlab.lvs.modes import mode
from vlab.lvs.probe import Answers
from vlab.lvs.schedulers import CLOSED, Expectation, Pace
from vlab.topology.family import endpoint
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
    """What one round of requests did: who asked whom how often, from which addresses in turn and at what pace, what came back, and
    what the director counted (per real server; None where its table could not be read)."""

    asker: str
    director: str
    requests: int
    answers: Answers
    sources: tuple[Address, ...]
    pace: Pace = CLOSED
    before: Virtual | None = None
    after: Virtual | None = None

    def connections(self, service: Service) -> dict[str, int]:
        """New connections by node name, as ip_vs counted them; a server that left the table took its counters with it."""
        return {s.node: max(0, _conns(self.after, s) - _conns(self.before, s)) for s in service.servers}

    def arrivals(self, service: Service) -> list[Arrival]:
        """The requests as the director saw them, in order."""
        ports = [reply.port for reply in self.answers.replies] + [0] * self.requests
        return [Arrival(self.sources[at % len(self.sources)], ports[at], service.vip) for at in range(self.requests)]

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
    wrong = [text for each in service.each() for text in _port_differences(service, each, found.of(each))]
    servers = ", ".join(f"{s.node} {s.weight}" for s in service.real_servers)
    expected = f"{service.scheduler}, {mode(service.mode).ipvsadm}{_extras(service)}; weights {servers}"
    hint = f"vlab exec {director} -- journalctl -u keepalived -n 20 says which health check fails; vlab logs shows the real server's side"
    return check(f"service/{service.name}/table", not wrong, expected, "; ".join(wrong) or AS_DECLARED, hint)


def _extras(service: Service) -> str:
    flags = "".join(f", {flag}" for flag in (*service.scheduler_flags, *(["one packet"] if service.one_packet else [])))
    ports = f", one service of ports {service.shown_ports}" if service.fwmark is not None else ""
    return f"{flags}{ports}{_persistence(service, service.persistence, service.netmask, before=', persistent ')}"


def _persistence(service: Service, seconds: int | None, netmask: int, *, before: str = "") -> str:
    if seconds is None:
        return "" if before else "none"
    return f"{before}{seconds} s" + ("" if netmask == service.vip.max_prefixlen else f" for each /{netmask}")


def _port_differences(service: Service, each: Service, virtual: Virtual | None) -> Iterator[str]:
    """What is wrong with one of the kernel's services, with its port where there are several."""
    which = f"port {each.port}: " if service.ports and service.fwmark is None else ""
    yield from (f"{which}{text}" for text in _table_differences(each, virtual))


def _table_differences(service: Service, virtual: Virtual | None) -> Iterator[str]:
    if virtual is None:
        where = service.endpoint if service.fwmark is None else f"firewall mark {service.fwmark}"
        yield f"{where}{'' if service.fwmark else f'/{service.protocol}'} is not in the table"
        return
    if virtual.scheduler != service.scheduler:
        yield f"scheduler {virtual.scheduler}"
    if virtual.scheduler_flags != frozenset(service.scheduler_flags):
        yield f"scheduler flags {', '.join(sorted(virtual.scheduler_flags)) or 'none'}"
    if virtual.one_packet != service.one_packet:
        yield "one-packet scheduling" if virtual.one_packet else "no one-packet scheduling"
    if (virtual.persistence, virtual.netmask) != (service.persistence, service.netmask):
        yield f"persistence {_persistence(service, virtual.persistence, virtual.netmask)}"
    for server in service.real_servers:
        yield from _server_differences(service, server, virtual.destination(server.address, server.port))
    yield from _strangers(service, virtual)


def _strangers(service: Service, virtual: Virtual) -> Iterator[str]:
    known, sorry = {(server.address, server.port) for server in service.real_servers}, service.sorry_server
    for found in virtual.destinations:
        if sorry and (found.address, found.port) == (sorry.address, sorry.port):
            yield f"sorry server {sorry.node} answers{_astray(service, found)}"
        elif (found.address, found.port) not in known:
            yield f"{endpoint(found.address, found.port)} is not declared"


def _astray(service: Service, found: Destination) -> str:
    return "" if found.method == mode(service.mode).ipvsadm else f", and is forwarded to by {found.method}"


def _server_differences(service: Service, server: RealServer, found: Destination | None) -> Iterator[str]:
    if found is None:
        yield f"{server.node} is down (not in the table)"
        return
    if found.method != mode(service.mode).ipvsadm:
        yield f"{server.node} is forwarded to by {found.method}"
    if found.weight != server.weight:
        yield f"{server.node} has weight {found.weight}"
    if (found.upper, found.lower) != (server.upper, server.lower):
        yield f"{server.node} has thresholds {found.upper} and {found.lower}, not {server.upper} and {server.lower}"


def reachable(service: Service, traffic: Traffic, expected: Expectation | None) -> Check:
    """Did every request get a good answer, but for those that the scheduler must refuse? Without an expectation it must refuse none."""
    good, failures = traffic.answers.good, traffic.answers.failures
    reasons = ", ".join(f"{text} ({count}×)" for text, count in Counter(failures).most_common(3))
    lost = traffic.requests - good - len(failures)
    found = f"{good} answered" + (f"; {reasons}" if reasons else "") + (f"; {lost} without any result" if lost else "")
    least, most = (traffic.requests - count for count in reversed(expected.refused if expected else (0, 0)))
    refused = "" if least == traffic.requests else ", the others refused"
    return check(
        f"service/{service.name}/reachable",
        least <= good <= most and good + traffic.answers.refused * bool(refused) == traffic.requests,
        f"{least if least == most else f'{least}–{most}'} of {traffic.requests} requests from {_asker(traffic)} to "
        f"{service.endpoint} answered{refused}",
        found,
        f"vlab status shows which real servers are up; vlab explain {_declared(service)} shows the way of a packet",
    )


def _declared(service: Service) -> str:
    """A service's name in the topology; one that is several to the kernel is asked by names like «www:81»."""
    return service.name.partition(":")[0]


def _asker(traffic: Traffic) -> str:
    addresses = len(set(traffic.sources))
    return traffic.asker if addresses == 1 else f"{addresses} addresses of {traffic.asker}"


def split(service: Service, traffic: Traffic, expected: Expectation) -> Iterator[Check]:
    """Do the answers, and ip_vs' own counters, agree with the scheduler's oracle?"""
    answers = traffic.answers
    if answers.counts or (answers.replies and not answers.good and expected.refused[1]):
        names = [reply.name for reply in answers.replies]
        yield _split(traffic, f"service/{service.name}/split", "answers", answers.counts, expected, names)
    if traffic.after is not None:
        counts = traffic.connections(service)
        yield _split(traffic, f"service/{service.name}/connections", "connections", counts, expected)


def _split(
    traffic: Traffic, id: str, noun: str, counts: Mapping[str, int], expected: Expectation, order: Sequence[str] = ()
) -> Check:
    """``order`` are the names as they came; only answers have one."""
    known = [name for name in expected.bounds if name]
    found = ", ".join(
        f"{name} {counts.get(name, 0)}"
        for name in [*known, *sorted(name for name in counts if counts[name] and name not in known)]
    )
    extra = sum(counts.values()) - expected.requests
    found += f" ({extra} more than were asked for: somebody else uses the service)" if extra > 0 else ""
    fits, follows = expected.holds(counts), not order or expected.follows(order)
    turns = "" if follows or not fits else f", in an order that cannot be: {' '.join(name or '-' for name in order)}"
    return check(
        id,
        fits and follows,
        f"{noun}: {expected.render()} ({expected.why})",
        found + turns,
        f"vlab exec {traffic.director} -- ipvsadm -Ln --stats shows the table; verify again when nobody else uses the service",
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


def settings(node: str, wrong: Sequence[str]) -> Check:
    """Is a node's inside as its settings say?"""
    hint = f"vlab explain {node} says what each setting is for"
    return check(f"node/{node}/settings", not wrong, AS_DECLARED, "; ".join(wrong) or AS_DECLARED, hint)


def no_answer(id: str, node: str, error: VlabError) -> Check:
    """The check ``id`` could not be made: ``node`` does not answer."""
    hint = error.hint or f"vlab status; vlab logs {node}; vlab console {node}"
    return Check(id, ok=False, expected=f"{node} answers", found=error.what, hint=hint)


def _conns(virtual: Virtual | None, server: RealServer) -> int:
    found = virtual.destination(server.address, server.port) if virtual else None
    return found.counters.conns if found else 0
