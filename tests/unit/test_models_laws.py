"""Laws of all schedulers' models, and of those that go round or look at loads."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from math import gcd

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.unit.pools import BASE, arrivals, clients, letters, listed, pools, weights
from vlab.lvs.models import Arrival, Pool, Server, scheduler
from vlab.lvs.models.locality import Locality
from vlab.topology.vocabulary import SCHEDULERS


@given(pools(), clients)
def test_only_an_available_server_gets_a_connection_but_lblc_forgets_thresholds(pool: Pool, client: Arrival) -> None:
    chosen, after = pool.arrive(client)
    forgets = isinstance(pool.scheduler, Locality)
    assert chosen is None or (chosen.weight > 0 and (forgets or not chosen.overloaded))
    assert sum(s.active for s in after.servers) == sum(s.active for s in pool.servers) + (chosen is not None)
    assert [s.key for s in after.servers] == [s.key for s in pool.servers]


@given(pools(st.sampled_from(sorted(SCHEDULERS.keys() - {"sh", "dh", "mh", "ovf"}))), clients)
def test_nobody_is_refused_while_a_server_is_available(pool: Pool, client: Arrival) -> None:
    assume(any(server.available for server in pool.servers))
    assert pool.arrive(client)[0] is not None


@given(pools(), clients)
def test_the_same_state_gives_the_same_answer(pool: Pool, client: Arrival) -> None:
    assert pool.arrive(client) == pool.arrive(client)


@pytest.mark.parametrize("name", sorted(SCHEDULERS.keys() - {"lblc"}))
def test_an_upper_threshold_is_never_passed(name: str) -> None:
    _, pool = listed(name, [1, 2, 3], upper=4).hold(arrivals(60))
    assert max(server.connections for server in pool.servers) <= 4


def test_lblc_passes_the_upper_threshold_of_a_vips_server() -> None:
    chosen, _ = listed("lblc", [9, 9], upper=2).hold(arrivals(6))
    assert letters(chosen) == "AAAAAA"


def test_a_server_at_its_threshold_returns_below_three_quarters_or_below_the_lower_one() -> None:
    full = Server(BASE, upper=4, inactive=4, overloaded=True)
    assert full.expired().overloaded and not full.expired().expired().overloaded
    lower = replace(full, lower=2)
    assert lower.expired().expired().overloaded and not lower.expired().expired().expired().overloaded


@given(weights.filter(any), st.integers(0, 30), st.randoms())
def test_a_whole_turn_of_wrr_gives_each_its_weight_in_any_order_and_from_anywhere(
    weights: list[int], skip: int, order: random.Random
) -> None:
    order.shuffle(weights)
    turn = sum(weights) // gcd(*weights)
    chosen, _ = listed("wrr", weights).hold(arrivals(skip + turn))
    counts = Counter(letters(chosen[skip:]))
    shares = [counts[chr(ord("A") + at)] for at in range(len(weights))]
    assert [share * sum(weights) for share in shares] == [weight * turn for weight in weights]


@given(st.integers(1, 6), st.integers(0, 10))
def test_rr_never_gives_two_in_a_row_to_one_of_several(servers: int, count: int) -> None:
    chosen, _ = listed("rr", [1] * servers).hold(arrivals(count))
    assert servers == 1 or all(first != second for first, second in pairwise(chosen))


def test_rr_passes_nobody_over_when_the_last_chosen_leaves() -> None:
    _, pool = listed("rr", [1, 1, 1, 1]).hold(arrivals(2))
    chosen, _ = pool.remove(pool.servers[1].key).hold(arrivals(3))
    assert letters(chosen) == "CDA"


def test_a_new_server_is_the_first_of_the_list() -> None:
    pool = listed("rr", [1, 1]).add(Server(BASE + 3))
    assert letters(pool.hold(arrivals(3))[0]) == "CAB"


@given(pools(st.just("lc")), clients)
def test_lc_takes_a_least_loaded(pool: Pool, client: Arrival) -> None:
    chosen, _ = pool.arrive(client)
    assert chosen is None or chosen.overhead == min(s.overhead for s in pool.servers if s.available)


@given(pools(st.sampled_from(["wlc", "sed"])), clients)
def test_wlc_and_sed_take_a_least_loaded_for_its_weight(pool: Pool, client: Arrival) -> None:
    chosen, _ = pool.arrive(client)
    plus = pool.scheduler == scheduler("sed")
    costs = {s.key: ((s.active + 1) if plus else s.overhead) / s.weight for s in pool.servers if s.available}
    assert chosen is None or costs[chosen.key] == min(costs.values())


@given(pools(st.just("nq")), clients)
def test_nq_leaves_nobody_idle_while_another_queues(pool: Pool, client: Arrival) -> None:
    chosen, _ = pool.arrive(client)
    assert chosen is None or not chosen.active or all(s.active for s in pool.servers if s.available)


@given(pools(st.sampled_from(["fo", "ovf"])), clients)
def test_fo_and_ovf_take_the_heaviest_there_is_room_on(pool: Pool, client: Arrival) -> None:
    chosen, _ = pool.arrive(client)
    room = [s for s in pool.servers if s.available and (s.active <= s.weight or pool.scheduler == scheduler("fo"))]
    assert (chosen and chosen.weight) == max((s.weight for s in room), default=None)


@given(st.sampled_from(sorted(SCHEDULERS.keys() - {"sh", "dh", "mh", "ovf", "lblc"})), weights, st.integers(1, 5))
def test_a_higher_threshold_never_refuses_more(name: str, weights: list[int], upper: int) -> None:
    refused = [listed(name, weights, upper=room).hold(arrivals(24))[0].count(None) for room in (upper, upper + 1)]
    assert refused == [max(0, 24 - sum(map(bool, weights)) * room) for room in (upper, upper + 1)]
