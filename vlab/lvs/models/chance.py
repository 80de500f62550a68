"""twos, the power of two random choices: its choice for given random numbers, its distribution, and a test of measured counts
against that. Pure: chance is handed in (``Arrival.draws``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, product
from math import comb, erfc, exp, lgamma, log, sqrt
from typing import TypeVar

from vlab.lvs.models.server import Arrival, Key, Server

Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class TwoChoices:
    """``ip_vs_twos_schedule`` of ip_vs_twos.c: two servers drawn by weight, the same one twice if it happens so; the second is taken
    only when its overhead / weight is less."""

    def choose(self, servers: Sequence[Server], arrival: Arrival) -> tuple[Server | None, TwoChoices]:
        available = [server for server in servers if server.available]
        if not available:
            return None, self
        first, second = (drawn(available, draw) for draw in arrival.draws)
        return lighter(first, second), self

    def changed(self, _before: Sequence[Server], _after: Sequence[Server]) -> TwoChoices:
        return self


def drawn(available: Sequence[Server], number: int) -> Server:
    """Whom a random number means. The kernel draws from 0 to the sum of the weights inclusive, one number more than there are
    shares; the 0 goes to the first in the list."""
    sums = list(accumulate(server.weight for server in available))
    number %= sums[-1] + 1
    return next(server for server, reached in zip(available, sums, strict=True) if number <= reached)


def lighter(first: Server, second: Server) -> Server:
    return second if second.weight * first.overhead > first.weight * second.overhead else first


def shares(servers: Sequence[Server]) -> dict[Key, float]:
    """The probability that each available server gets the next connection.

    With idle servers it is the first draw's own, weight / (sum + 1), the first in the list having one more; with loads the least
    loaded server gets every draw that hits it at all.
    """
    available = [server for server in servers if server.available]
    total = sum(server.weight for server in available) + 1
    odds = {server: (server.weight + (at == 0)) / total for at, server in enumerate(available)}
    found = dict.fromkeys((server.key for server in available), 0.0)
    for first, second in product(available, repeat=2):
        found[lighter(first, second).key] += odds[first] * odds[second]
    return found


def settled_shares(servers: Sequence[Server]) -> dict[Key, float]:
    """What many connections come to when each stays in the table as a load: their servers' weights."""
    total = sum(server.weight for server in servers if server.available)
    return {server.key: server.weight / total for server in servers if server.available}


def chi_square(counts: Mapping[Name, int], expected: Mapping[Name, float]) -> float:
    """The probability that chance alone gives counts this far from the ``expected`` shares, or further: Pearson's test.

    It takes the connections for independent. Those that load their servers are not: twos evens the loads out, counts are nearer
    to ``settled_shares`` than chance alone would have them, and this test is only too lenient with them.
    """
    if not counts.keys() <= expected.keys():
        return 0.0
    total = sum(counts.values())
    statistic = sum((counts.get(key, 0) - total * share) ** 2 / (total * share) for key, share in expected.items())
    return survival(statistic, len(expected) - 1)


def survival(statistic: float, freedom: int) -> float:
    """P(chi² with ``freedom`` degrees of freedom ≥ ``statistic``): the finite sums for even and odd degrees."""
    if statistic <= 0:
        return 1.0
    half = statistic / 2
    start, tail = (0.5, erfc(sqrt(half))) if freedom % 2 else (0.0, 0.0)
    orders = (start + k for k in range(freedom // 2))
    return tail + sum(exp(order * log(half) - half - lgamma(order + 1)) for order in orders)


def bounds(servers: Sequence[Server], requests: int, risk: float) -> dict[Key, tuple[int, int]]:
    """The least and the most of ``requests`` that each available server gets, whatever the loads, with probability 1 - ``risk``.

    A server gets a request at least when both draws hit it and at most when either does; which of them is the first in the
    list, and so has a share more, is left open.
    """
    available = [server for server in servers if server.available]
    total = sum(server.weight for server in available)
    each = risk / (2 * max(1, len(available)))
    if len(available) == 1:
        return {available[0].key: (requests, requests)}
    return {
        server.key: (
            _quantile(requests, (server.weight / (total + 1)) ** 2, each),
            requests - _quantile(requests, (1 - (server.weight + 1) / (total + 1)) ** 2, each),
        )
        for server in available
    }


@cache
def _quantile(trials: int, chance: float, risk: float) -> int:
    """The largest k such that a binomial count falls below k with a probability of at most ``risk``."""
    below = 0.0
    for k in range(trials + 1):
        below += comb(trials, k) * chance**k * (1 - chance) ** (trials - k)
        if below > risk:
            return k
    return trials
