"""The model of twos: its choice, its distribution, and the test of counts against that."""

from __future__ import annotations

import random
from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pools import BASE, VIP, arrivals, letters, listed, weights
from vlab.lvs.models import Arrival, Key, Pool, Server, scheduler
from vlab.lvs.models.chance import chi_square, drawn, settled_shares, shares, survival


def test_twos_takes_the_lighter_of_two_and_the_first_of_equals() -> None:
    servers = [Server(BASE + 1, active=1), Server(BASE + 2), Server(BASE + 3)]
    pool = Pool.listed(scheduler("twos"), servers)
    drawn = {
        (a, b): letters([pool.arrive(Arrival(BASE, 1, VIP, (a, b)))[0]]) for a, b in [(1, 2), (2, 3), (3, 2), (1, 1)]
    }
    assert drawn == {(1, 2): "B", (2, 3): "B", (3, 2): "C", (1, 1): "A"}


@given(weights.filter(any), st.data())
def test_shares_are_those_of_all_pairs_of_random_numbers(weights: list[int], data: st.DataObject) -> None:
    loads = [data.draw(st.integers(0, 2)) for _ in weights]
    servers = [
        Server(BASE + at, weight=w, active=load) for at, (w, load) in enumerate(zip(weights, loads, strict=True))
    ]
    pool, total = Pool.listed(scheduler("twos"), servers), sum(weights) + 1
    chosen = (pool.arrive(Arrival(BASE, 1, VIP, pair))[0] for pair in product(range(total), range(total)))
    counts = Counter(server.key for server in chosen if server)
    assert shares(servers) == pytest.approx({s.key: counts[s.key] / total**2 for s in servers if s.weight})


def test_idle_servers_get_their_weights_shares_the_first_one_more() -> None:
    assert list(shares([Server(BASE + 1, weight=1), Server(BASE + 2, weight=2)]).values()) == pytest.approx([0.5, 0.5])
    assert drawn([Server(BASE + 1), Server(BASE + 2)], 3).address == BASE + 1


def test_chi_square_agrees_with_the_published_table() -> None:
    for freedom, statistic in [(1, 3.841), (2, 5.991), (3, 7.815), (4, 9.488), (9, 16.919), (10, 18.307)]:
        assert survival(statistic, freedom) == pytest.approx(0.05, abs=1e-4)


def test_chi_square_accepts_twos_and_refuses_another_scheduler() -> None:
    pool = listed("twos", [1, 2, 5])
    still = Counter(s.key for a in arrivals(2000, random.Random(4)) if (s := pool.arrive(a)[0]))
    growing = Counter(s.key for s in pool.serve(arrivals(2000, random.Random(4)))[0] if s)
    even = Counter(s.key for s in listed("rr", [1, 2, 5]).serve(arrivals(2000))[0] if s)
    expected = shares(pool.servers)
    assert chi_square(still, expected) > 0.001
    assert chi_square(growing, settled_shares(pool.servers)) > 0.5
    assert chi_square(growing, expected) < 0.001
    assert chi_square(even, expected) < 1e-6
    strange: dict[Key, int] = {(BASE, 1): 3}
    assert chi_square(strange, expected) == 0.0
