"""What is known of a service before it is asked, and every state of its scheduler that this leaves possible. Pure.

ip_vs shows a service's servers in the order of its list, with weights and connections. It does not show where a round robin
stands, which server a cache scheduler remembers, or a quiesced server's last weight: each possibility is a start of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, permutations, product

from vlab.lvs import models
from vlab.lvs.ipvs import Destination, Virtual
from vlab.lvs.models import Address, Key, Pool, Server
from vlab.lvs.models.locality import Locality, ReplicatedLocality
from vlab.lvs.models.turns import RoundRobin, WeightedRoundRobin
from vlab.topology.lab import Service

BUDGET = 200_000
"""How many servers all simulations of one service may look at: about a second."""

FEW = 4
"""Up to so many servers all orders of a list (or of a cache's set) are tried, 24."""


@dataclass(frozen=True, slots=True)
class Known:
    """A service before the requests. ``servers`` are in the list's order, from its head, if ``ordered``; ``names`` are those of
    their nodes, in the file's order. ``flags`` are ipvsadm's words (sh-port, …)."""

    scheduler: str
    servers: tuple[Server, ...]
    names: Mapping[Key, str]
    flags: frozenset[str] = frozenset()
    ordered: bool = True
    persistent: bool = False

    @property
    def live(self) -> list[Server]:
        return [server for server in self.servers if server.weight > 0]

    def name(self, server: Server | None) -> str:
        """The node's name, empty for a refused connection."""
        return "" if server is None else self.names[server.key]


def in_table(service: Service, virtual: Virtual) -> Known:
    """``service``, one of the kernel's, as its director's table shows it, with servers that were not declared under their address."""
    servers = tuple(_server(destination) for destination in virtual.destinations)
    found = {server.key: f"{server.address}:{server.port}" for server in servers}
    declared: dict[Key, str] = {(server.address, server.port): server.node for server in service.servers}
    names = {key: name for key, name in {**declared, **found, **declared}.items() if key in found}
    persistent = virtual.persistence is not None
    return Known(virtual.scheduler, servers, names, virtual.scheduler_flags, persistent=persistent)


def as_declared(service: Service) -> Known:
    """``service`` as the topology has it, all servers up and idle: the order of the list is keepalived's, and not known."""
    servers = tuple(Server(s.address, s.port, s.weight, s.upper, s.lower) for s in service.real_servers)
    names: dict[Key, str] = {(server.address, server.port): server.node for server in service.real_servers}
    flags, persistent = frozenset(service.scheduler_flags), service.persistence is not None
    return Known(service.scheduler, servers, names, flags, ordered=False, persistent=persistent)


def _server(found: Destination) -> Server:
    active, inactive = found.active, found.inactive
    return Server(found.address, found.port, found.weight, found.upper, found.lower, active, inactive)


def settled(known: Known) -> bool:
    """Is there nothing in the table that matters to the scheduler and may be gone a moment later?"""
    counted = _COUNTED.get(known.scheduler, _nothing)
    return not any(counted(server) or (server.upper and server.connections) for server in known.servers)


def starts(known: Known, vip: Address, requests: int) -> list[Pool]:
    """The states that the service may be in, none when there are more than ``BUDGET`` allows for ``requests`` connections."""
    most = max(1, BUDGET // max(1, requests * len(known.servers)))
    remembering = _MEMORIES.get(known.scheduler, _forgetful)
    pools = (pool for servers in _lists(known) for pool in remembering(_pool(known, servers), vip, requests))
    found = list(islice(pools, most + 1))
    return found if len(found) <= most else []


def _pool(known: Known, servers: Iterable[Server]) -> Pool:
    return Pool.listed(models.scheduler(known.scheduler, *known.flags), servers)


def _lists(known: Known) -> Iterator[tuple[Server, ...]]:
    loads = [known.servers] if settled(known) else _expiring(known.servers)
    orders = [tuple(range(len(known.servers)))] if known.ordered else _orders(len(known.servers))
    for servers, order in product(loads, orders):
        yield tuple(servers[at] for at in order)


def _orders(servers: int) -> list[tuple[int, ...]]:
    """All orders of a short list. Of a long one those with each server first and last: the first wins among equals."""
    row = tuple(range(servers))
    if servers <= FEW:
        return list(permutations(row))
    others = [(at, (*row[:at], *row[at + 1 :])) for at in row]
    return [order for at, rest in others for order in ((at, *rest), (*rest, at))]


def _expiring(servers: Sequence[Server]) -> list[tuple[Server, ...]]:
    """The extremes of what may happen to the connections that are there: nobody's go, all go, one's, all but one's."""
    idle = [replace(server, active=0, inactive=0, overloaded=False) for server in servers]
    one = [(*servers[:at], idle[at], *servers[at + 1 :]) for at in range(len(servers))]
    others = [(*idle[:at], servers[at], *idle[at + 1 :]) for at in range(len(servers))]
    return [tuple(servers), tuple(idle), *one, *others]


def _forgetful(pool: Pool, _vip: Address, _requests: int) -> Iterator[Pool]:
    yield pool


def _round_robin(pool: Pool, _vip: Address, _requests: int) -> Iterator[Pool]:
    return (replace(pool, scheduler=RoundRobin(server.key)) for server in pool.servers)


def _weighted_round_robin(pool: Pool, _vip: Address, requests: int) -> Iterator[Pool]:
    fresh = pool.scheduler
    assert isinstance(fresh, WeightedRoundRobin)
    for level in _levels(fresh, [server.weight for server in pool.servers], requests):
        chosen = [server.key for server in pool.servers if server.weight >= level]
        yield from (replace(pool, scheduler=replace(fresh, cursor=key, level=level)) for key in (None, *chosen))


def _levels(fresh: WeightedRoundRobin, weights: Sequence[int], requests: int) -> Iterator[int]:
    """Of a run of levels at which the same servers get connections, as many as ``requests`` can tell apart."""
    edges = {0, *weights}
    for level in range(fresh.top, 0, -fresh.step):
        if level - max(edge for edge in edges if edge < level) <= (requests + 1) * fresh.step:
            yield level


def _local(pool: Pool, vip: Address, _requests: int) -> Iterator[Pool]:
    """Its last server, or nobody, is remembered for the VIP."""
    yield pool
    yield from (replace(pool, scheduler=Locality(((vip, (server.key,)),))) for server in pool.servers if server.weight)


def _replicated(pool: Pool, vip: Address, _requests: int) -> Iterator[Pool]:
    """Any set of servers, in any order in which they may have joined it."""
    keys = [server.key for server in pool.servers]
    sets = chain.from_iterable(permutations(keys, size) for size in range(len(keys) + 1))
    return (replace(pool, scheduler=ReplicatedLocality(((vip, members),))) for members in sets)


def _maglev(pool: Pool, _vip: Address, _requests: int) -> Iterator[Pool]:
    """A quiesced server keeps the buckets of its last weight: it may have had none, or anybody's."""
    heights = sorted({server.weight for server in pool.servers if server.weight} or {1})
    options = [[None] if server.weight else [None, *heights] for server in pool.servers]
    for lasts in product(*options):
        servers = (replace(s, last_weight=last) for s, last in zip(pool.servers, lasts, strict=True))
        yield Pool.listed(pool.scheduler, servers)


def _nothing(_server: Server) -> int:
    return 0


def _overhead(server: Server) -> int:
    return server.overhead


def _active(server: Server) -> int:
    return server.active


_MEMORIES: Mapping[str, Callable[[Pool, Address, int], Iterable[Pool]]] = {
    "rr": _round_robin,
    "wrr": _weighted_round_robin,
    "lblc": _local,
    "lblcr": _replicated,
    "mh": _maglev,
}

_COUNTED: Mapping[str, Callable[[Server], int]] = {
    **dict.fromkeys(("lc", "wlc", "lblc", "lblcr"), _overhead),
    **dict.fromkeys(("sed", "nq", "ovf"), _active),
}
"""What each scheduler reads of a server's connections."""
