"""Asking the services of a director: who asks what, how often, from which addresses; and the asking itself.

All that one node has to ask with one program is one command (``probe.Program``), so thirteen services cost little more than one.

**Source addresses.** sh and mh give one client one server, which proves little. For them a node borrows addresses that are free on
its network, as many as there are requests: they are in this node's namespace only, the lab's networks and routes stay as they are,
the command takes them away again, and the kernel does where it could not (``probe.BORROWED``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from threading import Event

from vlab.errors import GuestError, VlabError
from vlab.guests.base import Channel
from vlab.lvs.checks import Check, Traffic, no_answer
from vlab.lvs.index import device, index
from vlab.lvs.ipvs import Table, Virtual
from vlab.lvs.models import Address
from vlab.lvs.probe import MISSING, TIMEOUT, Answers, Ask, Probe, probe
from vlab.lvs.schedulers import CLOSED, GONE, HELD, Pace, whole_turns
from vlab.lvs.starts import Known, as_declared, in_table
from vlab.topology.family import is_six
from vlab.topology.lab import Lab, Node, Service

THREADS = 8

ASKERS = 3
"""How many nodes are tried before the service is asked by plain connects: an image may lack the protocol's client."""

QUICK = frozenset({"container"})
"""Virt kinds whose nodes start a process in no time; they are asked to ask first."""

PORTS_ASKED = 4
"""On how many of its ports a service is asked at most, where each is one of the kernel's: the first, the last, and those between at
equal distances."""

CLIENTS = 16
"""How many addresses a node borrows at most."""

BY_CLIENT = frozenset({"sh", "mh"})
"""Schedulers that must be asked from many addresses."""

BY_ACTIVE = frozenset({"lc", "wlc", "sed", "nq", "fo", "ovf", "lblc", "lblcr"})
"""Schedulers that are told apart by connections which stay open."""

FIRST_PORT, PORTS, A_SECOND = 10_000, 20_000, 60
"""UDP's source ports: ip_vs remembers one for 300 s and sends it where it went before, so none may come again that soon. The time
chooses the first one: 20,000 ports at 60 a second are enough for 333 s."""

Asked = Traffic | Check | None
"""What came of asking a service: traffic, or a failed check where nobody could ask; None where there is nothing to ask."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs at hand. ``pause`` is set once guests have time to be inspected, ``quiet`` once every director's
    services have been asked, by ``asking``, who are inspected then; ``active`` is the node that does the work of each director, once
    that is known."""

    lab: Lab
    channel_of: Callable[[str], Channel]
    serves: Callable[[str], Mapping[int, str]]
    settle: float
    pause: Event
    quiet: Event = field(default_factory=Event)
    active: dict[str, str] = field(default_factory=dict)
    asking: frozenset[str] = frozenset()
    asked: set[str] = field(default_factory=set)
    """The director nodes whose services have been asked."""

    def has_asked(self, director: str) -> None:
        self.pause.set()
        self.asked.add(director)
        if len(self.asked) == len(index(self.lab).teams):
            self.quiet.set()


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What is to be found out about one of the kernel's services, and the nodes that may ask, the best one first. ``before`` is the
    service in its director's table, None where it is not there or could not be read."""

    service: Service
    askers: tuple[Node, ...]
    probe: Probe
    before: Virtual | None

    @property
    def known(self) -> Known:
        return known(self.service, self.before)

    @property
    def pace(self) -> Pace:
        return pace(self.service, self.before, self.probe)


def known(service: Service, before: Virtual | None) -> Known:
    """What can be known of ``service``: from the table, else from the topology."""
    return as_declared(service) if before is None else in_table(service, before)


def pace(service: Service, before: Virtual | None, asking: Probe) -> Pace:
    """Datagrams have no connection that could stay open: ip_vs counts theirs as inactive from the first."""
    if service.protocol == "udp":
        return GONE if (service if before is None else before).one_packet else CLOSED
    held = asking.program.holds and known(service, before).scheduler in BY_ACTIVE and service.persistence is None
    return HELD if held else CLOSED


def asked_as(service: Service) -> tuple[Service, ...]:
    """The kernel's services that ``service`` is asked as. Of several, each is called by its port too («www:81»)."""
    each = service.each()
    chosen = dict.fromkeys(at * (len(each) - 1) // (PORTS_ASKED - 1) for at in range(PORTS_ASKED))
    named = (replace(each[at], name=f"{service.name}:{each[at].port}") for at in chosen)
    return tuple(named) if len(each) > 1 else each


def ask_all(bench: Bench, services: Sequence[Service], before: Table | None) -> dict[str, Asked]:
    """One round of requests to each of ``services``, of the kernel's, by name; ``before`` is the director's table, where it could be
    read."""
    made: dict[str, Asked] = {service.name: _nobody_asks(service) for service in services}
    made |= {service.name: None for service in services if not any(server.weight for server in service.real_servers)}
    inquiries = [_inquiry(bench, service, before) for service in services if made[service.name] is not None]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda group: _ask(bench, group), _groups([it for it in inquiries if it.askers]))
        return made | {name: asked for each in found for name, asked in each.items()}


def _inquiry(bench: Bench, service: Service, before: Table | None) -> Inquiry:
    return Inquiry(service, tuple(askers(bench.lab, service)), _probe(bench, service), virtual(before, service))


def _groups(inquiries: Sequence[Inquiry]) -> list[list[Inquiry]]:
    """Those that the same nodes can ask with the same program. A client of a protocol gets a process a service, all at once."""
    made: dict[tuple[object, ...], list[Inquiry]] = {}
    for it in inquiries:
        names = tuple(node.name for node in it.askers)
        alone = "" if it.probe.program.holds else it.service.name
        made.setdefault((names, alone), []).append(it)
    return list(made.values())


def _ask(bench: Bench, group: Sequence[Inquiry]) -> Mapping[str, Asked]:
    """What came of a group of inquiries, which is asked by plain connects where no node has the protocol's client."""
    try:
        return (
            _asked(bench, group) or _asked(bench, [replace(it, probe=probe("tcp")) for it in group]) or _unable(group)
        )
    except VlabError as error:
        names = " and ".join(node.name for node in group[0].askers)
        return {it.service.name: no_answer(f"service/{it.service.name}/reachable", names, error) for it in group}


def _asked(bench: Bench, group: Sequence[Inquiry]) -> Mapping[str, Asked]:
    """Nothing where none of the nodes has the program."""
    program = group[0].probe.program
    for asker in group[0].askers:
        asks = [_planned(bench.lab, it, asker, time.time()) for it in group]
        most = sum(ask.requests for ask in asks) * TIMEOUT
        result = bench.channel_of(asker.name).run(program.command(asks), timeout=30.0 + most)
        if result.code == MISSING:
            continue
        answers = program.parse(result.text)
        if not answers:
            raise GuestError(f"{asker.name} could not ask: {result.error_text.strip() or f'exit code {result.code}'}")
        return {it.service.name: _traffic(bench, it, asker, ask, answers) for it, ask in zip(group, asks, strict=True)}
    return {}


def _unable(group: Sequence[Inquiry]) -> Mapping[str, Asked]:
    names = ", ".join(node.name for node in group[0].askers)
    services = ", ".join(it.service.name for it in group)
    raise GuestError(f"none of {names} has a program to ask service {services} with", hint="use image: client")


def _planned(lab: Lab, it: Inquiry, asker: Node, now: float) -> Ask:
    service, asking = it.service, it.probe
    own = asker.address_like(service.vip, service.network)
    many = asking.program.holds and it.known.scheduler in BY_CLIENT and service.persistence is None
    borrowed = tuple(islice(free_addresses(lab, service.network, service.vip), CLIENTS)) if many else ()
    least = max(asking.base, asking.per_server * len(service.real_servers))
    requests = len(borrowed) + 1 if borrowed else min(asking.most, whole_turns(it.known, least))
    first = FIRST_PORT + int(now * A_SECOND) % PORTS if service.protocol == "udp" else 0
    return Ask(
        service.name, asking.name, service.vip, service.port, requests, it.pace is HELD, (own, *borrowed), borrowed,
        device(asker, service.network), first,
    )  # fmt: skip


def free_addresses(lab: Lab, network: str, like: Address) -> Iterator[Address]:
    """The addresses of ``network``, of the family of ``like``, that nobody in the lab has, from the highest down."""
    it = lab.network(network)
    taken: set[Address | None] = {it.gateway, it.gateway6, *(service.vip for service in lab.services)}
    taken |= {floating.address.ip for pair in lab.pairs for floating in pair.floating}
    taken |= {own.ip for node in lab.nodes for nic in node.nics for own in (nic.address, nic.address6) if own}
    subnet = it.subnet6 if is_six(like) else it.subnet
    if subnet is None:
        return
    for down in range(1, subnet.num_addresses - 1):
        if (address := subnet.broadcast_address - down) not in taken:
            yield address


def _traffic(bench: Bench, it: Inquiry, asker: Node, ask: Ask, answers: Mapping[str, Answers]) -> Traffic:
    director = bench.active[it.service.director]
    answered = answers.get(it.service.name, Answers())
    return Traffic(asker.name, director, ask.requests, answered, ask.sources, it.pace, it.before)


def askers(lab: Lab, service: Service) -> list[Node]:
    """Nodes that can ask the service: on the VIP's network, no director, no real server of it; pure clients and quick ones first."""
    roles = index(lab)
    excluded = {server.node for server in service.servers} | roles.directing.keys()
    able = [n for n in lab.nodes if n.name not in excluded and any(nic.network == service.network for nic in n.nics)]
    return sorted(able, key=lambda node: (node.name in roles.serving, node.virt not in QUICK))[:ASKERS]


def first_askers(lab: Lab) -> frozenset[str]:
    """The nodes that are asked to ask, unless they lack the program."""
    return frozenset(each[0].name for service in lab.services if (each := askers(lab, service)))


def _probe(bench: Bench, service: Service) -> Probe:
    return fitting(service, bench.serves(index(bench.lab).nodes[service.real_servers[0].node].image))


def fitting(service: Service, serves: Mapping[int, str]) -> Probe:
    """How to ask ``service``, whose first real server's image ``serves`` probes by port."""
    spoken = serves.get(service.real_servers[0].port or service.port, "tcp")
    if (spoken == "udp") is (service.protocol == "udp"):
        return probe(spoken)
    return probe(service.protocol)


def virtual(table: Table | None, service: Service) -> Virtual | None:
    """The kernel's service in the table."""
    return table.of(service) if table else None


def _nobody_asks(service: Service) -> Check:
    return Check(
        id=f"service/{service.name}/reachable",
        ok=False,
        expected=f"a node on {service.network} asks {service.endpoint}",
        found="every node there is a director or a real server of this service",
        hint=f"add a group with image: client and networks: [{service.network}]",
    )
