"""Oracles: how many of N requests each real server must get, by the kernel's own algorithms. Pure.

The requests are one client's, one after another, each on a connection of its own that is closed before the next opens. Each
oracle is a reading of net/netfilter/ipvs/ip_vs_<name>.c. What the order of the kernel's list of destinations decides is left
open, because keepalived changes that order whenever a server leaves and returns.

Such a connection is «inactive» from its first FIN (FIN_WAIT or TIME_WAIT for up to 120 s, ip_vs_proto_tcp.c), so when the next
one is scheduled there is no active one. That is why lc and wlc, which count both (active · 256 + inactive,
``ip_vs_dest_conn_overhead``), share the requests out, while sed, nq and ovf, which count active ones only, see all servers idle
each time and choose the same one always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from math import ceil, comb, gcd

from vlab.errors import UsageError
from vlab.topology.lab import Service

RISK = 1e-6
"""How often a statistical bound may be broken by chance alone."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the table shows for a server before the requests: connections open and recently closed."""

    active: int = 0
    inactive: int = 0

    @property
    def overhead(self) -> int:
        return self.active * 256 + self.inactive


@dataclass(frozen=True, slots=True)
class Target:
    """A server as a scheduler sees it."""

    name: str
    weight: int
    load: Load = Load()


@dataclass(frozen=True, slots=True)
class Expectation:
    """``bounds`` are the least and the most requests of each server. Where ``sole`` is not empty, exactly one of the servers
    in it gets every request. ``why`` is one sentence."""

    requests: int
    bounds: Mapping[str, tuple[int, int]]
    why: str
    sole: frozenset[str] = frozenset()

    def holds(self, counts: Mapping[str, int]) -> bool:
        """Whether ``counts`` (a server that is not in it got none) is a possible split."""
        if sum(counts.values()) != self.requests or not counts.keys() <= self.bounds.keys():
            return False
        if self.sole:
            return any(counts.get(name, 0) == self.requests for name in self.sole)
        return all(low <= counts.get(name, 0) <= high for name, (low, high) in self.bounds.items())

    def render(self) -> str:
        """«web1 4, web2 4, web3 3–5», or «all 12 to one of web1, web2»."""
        if self.sole:
            names = sorted(self.sole)
            return f"all {self.requests} to {names[0] if len(names) == 1 else 'one of ' + ', '.join(names)}"
        return ", ".join(f"{name} {_range(*bound)}" for name, bound in self.bounds.items())


@dataclass(frozen=True, slots=True)
class Oracle:
    """A scheduler's rule over the servers that may get requests (weight above 0). ``period`` is how many requests make a
    whole turn, after which the split is exact."""

    expect: Callable[[Sequence[Target], int], Expectation]
    period: Callable[[Sequence[Target]], int] = field(default=lambda _targets: 1)


def names() -> list[str]:
    """Every scheduler there is an oracle for, by the kernel's name."""
    return list(_ORACLES)


def expected(service: Service, requests: int, *, start: Mapping[str, Load] | None = None) -> Expectation:
    """The split of ``requests`` over the service's real servers; ``start`` are the loads in the table before, by node.

    Raises ``UsageError`` for a scheduler without an oracle.
    """
    targets = _targets(service, start or {})
    live = [target for target in targets if target.weight > 0]
    if not live:
        return Expectation(0, {t.name: (0, 0) for t in targets}, "every weight is 0, so nobody may get a request")
    found = _persistent(live, requests) if service.persistence is not None else _oracle(service).expect(live, requests)
    bounds = {t.name: found.bounds.get(t.name, (0, 0)) for t in targets}
    return Expectation(requests, bounds, found.why + _quiesced(targets), found.sole)


def whole_turns(service: Service, at_least: int) -> int:
    """The smallest number of requests, ``at_least`` or more, that is made of whole turns of the service's scheduler."""
    live = [target for target in _targets(service, {}) if target.weight > 0]
    period = _oracle(service).period(live) if live else 1
    return ceil(at_least / period) * period


def wrr_sequence(weights: Sequence[tuple[str, int]]) -> Iterator[str]:
    """The endless sequence of ip_vs_wrr.c for destinations in list order: 4, 3, 2 give A A B A B C A B C."""
    step = gcd(*(weight for _, weight in weights))
    top = max(weight for _, weight in weights)
    while top > 0:
        for threshold in range(top, 0, -step):
            yield from (name for name, weight in weights if weight >= threshold)


def wrr_turn(weights: Sequence[tuple[str, int]]) -> list[str]:
    """One whole turn of ``wrr_sequence``."""
    return list(islice(wrr_sequence(weights), sum(weight for _, weight in weights) // gcd(*(w for _, w in weights))))


def _oracle(service: Service) -> Oracle:
    found = _ORACLES.get(service.scheduler)
    if found is None:
        raise UsageError(f"service {service.name}: vlab has no oracle for scheduler «{service.scheduler}»")
    return found


def _targets(service: Service, start: Mapping[str, Load]) -> list[Target]:
    return [Target(s.node, s.weight, start.get(s.node, Load())) for s in service.real_servers]


def _quiesced(targets: Sequence[Target]) -> str:
    names = [target.name for target in targets if target.weight == 0]
    return f"; {', '.join(names)}: weight 0, no new connections" if names else ""


def _persistent(live: Sequence[Target], requests: int) -> Expectation:
    return _one(live, requests, "persistence keeps one client on one server, whatever the scheduler says")


def _one(among: Sequence[Target], requests: int, why: str) -> Expectation:
    names = frozenset(target.name for target in among)
    low = requests if len(names) == 1 else 0
    return Expectation(requests, dict.fromkeys(sorted(names), (low, requests)), why, names)


# Turns: exact.


def _rr(live: Sequence[Target], requests: int) -> Expectation:
    equal = [Target(target.name, 1) for target in live]
    return Expectation(requests, _turns(equal, requests), "rr takes the servers in turn, whatever their weights")


def _wrr(live: Sequence[Target], requests: int) -> Expectation:
    shares = ":".join(str(target.weight) for target in live)
    return Expectation(requests, _turns(live, requests), f"wrr shares out by weight, {shares}, in each turn")


def _turns(live: Sequence[Target], requests: int) -> dict[str, tuple[int, int]]:
    """Any window of a cyclic sequence: exact for whole turns, and within one turn's share for the rest."""
    shares = _shares(live)
    period = sum(shares.values())
    whole, rest = divmod(requests, period)
    return {
        name: (whole * share + max(0, rest - (period - share)), whole * share + min(rest, share))
        for name, share in shares.items()
    }


def _shares(live: Sequence[Target]) -> dict[str, int]:
    common = gcd(*(target.weight for target in live))
    return {target.name: target.weight // common for target in live}


# Least connection: bounds, because old connections expire from the table at moments that we do not know.


def _lc(live: Sequence[Target], requests: int) -> Expectation:
    equal = [Target(target.name, 1, target.load) for target in live]
    return Expectation(requests, _least(equal, requests), "lc evens out active · 256 + inactive connections")


def _wlc(live: Sequence[Target], requests: int) -> Expectation:
    return Expectation(requests, _least(live, requests), "wlc evens out (active · 256 + inactive connections) / weight")


def _least(live: Sequence[Target], requests: int) -> dict[str, tuple[int, int]]:
    return {target.name: _extremes(live, target, requests) for target in live}


def _extremes(live: Sequence[Target], target: Target, requests: int) -> tuple[int, int]:
    """The least ``target`` gets (its old connections stay, all others' expire, ties go against it) and the most (reverse)."""
    others = [other for other in live if other is not target]
    idle = [Target(other.name, other.weight) for other in others]
    low = _simulate([*idle, target], requests)[target.name]
    high = _simulate([Target(target.name, target.weight), *others], requests)[target.name]
    return low, high


def _simulate(live: Sequence[Target], requests: int) -> dict[str, int]:
    """Each request to the least overhead / weight, the first in the list on a tie, and one inactive connection more there."""
    overhead = {target.name: target.load.overhead for target in live}
    counts = dict.fromkeys(overhead, 0)
    for _ in range(requests):
        least = live[0]
        for target in live[1:]:
            if overhead[least.name] * target.weight > overhead[target.name] * least.weight:
                least = target
        overhead[least.name] += 1
        counts[least.name] += 1
    return counts


# Active connections only: one server takes all.


def _sed(live: Sequence[Target], requests: int) -> Expectation:
    least = min((target.load.active + 1) / target.weight for target in live)
    among = [target for target in live if (target.load.active + 1) / target.weight == least]
    return _one(
        among, requests, "sed takes the least (active + 1) / weight, and short requests in turn are never active"
    )


def _nq(live: Sequence[Target], requests: int) -> Expectation:
    idle = [target for target in live if target.load.active == 0]
    if not idle:
        return _sed(live, requests)
    return _one(idle, requests, "nq takes the first idle server of its list, and short requests in turn leave all idle")


def _fo(live: Sequence[Target], requests: int) -> Expectation:
    return _one(_heaviest(live), requests, "fo sends everything to the highest weight that is there")


def _ovf(live: Sequence[Target], requests: int) -> Expectation:
    roomy = [target for target in live if target.load.active < target.weight]
    return _one(
        _heaviest(roomy or live), requests, "ovf fills the highest weight first, until active connections pass it"
    )


def _heaviest(live: Sequence[Target]) -> list[Target]:
    top = max(target.weight for target in live)
    return [target for target in live if target.weight == top]


# Hashes and locality: one client, one VIP, one server.


def _hashed(rule: str) -> Callable[[Sequence[Target], int], Expectation]:
    return lambda live, requests: _one(live, requests, f"{rule}, so one server takes all")


# Two random choices: a statistical bound.


def _twos(live: Sequence[Target], requests: int) -> Expectation:
    if len(live) == 1:
        return _one(live, requests, "there is only one server")
    why = f"twos draws two servers at random and takes the less loaded: bounds that chance breaks once in {round(1 / RISK):,}"
    total = sum(target.weight for target in live)
    return Expectation(requests, {t.name: _twos_bound(t.weight, total, requests, len(live)) for t in live}, why)


def _twos_bound(weight: int, total: int, requests: int, servers: int) -> tuple[int, int]:
    """Whatever the loads, a server gets a request at least when both draws hit it and at most when either does.

    The draw is from 0..total inclusive and the first in the list takes the 0 as well, hence total + 1 and weight + 1.
    """
    risk = RISK / (2 * servers)
    least, most = weight / (total + 1), (weight + 1) / (total + 1)
    return _quantile(requests, least**2, risk), requests - _quantile(requests, (1 - most) ** 2, risk)


@cache
def _quantile(trials: int, chance: float, risk: float) -> int:
    """The largest k such that a binomial count falls below k with a probability of at most ``risk``."""
    below = 0.0
    for k in range(trials + 1):
        below += comb(trials, k) * chance**k * (1 - chance) ** (trials - k)
        if below > risk:
            return k
    return trials


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"


_ORACLES: dict[str, Oracle] = {
    "rr": Oracle(_rr, len),
    "wrr": Oracle(_wrr, lambda live: sum(_shares(live).values())),
    "lc": Oracle(_lc, len),
    "wlc": Oracle(_wlc, lambda live: sum(_shares(live).values())),
    "sed": Oracle(_sed),
    "nq": Oracle(_nq),
    "fo": Oracle(_fo),
    "ovf": Oracle(_ovf),
    "sh": Oracle(_hashed("sh hashes the client's address")),
    "mh": Oracle(_hashed("mh hashes the client's address")),
    "dh": Oracle(_hashed("dh hashes the VIP")),
    "lblc": Oracle(_hashed("lblc keeps a VIP on its server until that is overloaded")),
    "lblcr": Oracle(_hashed("lblcr keeps a VIP on its servers until they are overloaded")),
    "twos": Oracle(_twos),
}
