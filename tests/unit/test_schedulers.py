"""The oracles' laws, and their exact sequences where the kernel's algorithm gives one."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import lvs_labs
from vlab.errors import UsageError
from vlab.lvs.schedulers import Load, expected, names, whole_turns, wrr_sequence, wrr_turn
from vlab.topology.lab import RealServer, Service
from vlab.topology.vocabulary import SCHEDULERS

WWW = lvs_labs.web_db().services[0]


def service(scheduler: str, weights: list[int], persistence: int | None = None) -> Service:
    servers = tuple(RealServer(f"web{i}", WWW.real_servers[0].address + i, 80, w) for i, w in enumerate(weights, 1))
    return replace(WWW, scheduler=scheduler, real_servers=servers, persistence=persistence)


weights = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)
loads = st.lists(st.builds(Load, st.integers(0, 3), st.integers(0, 20)), min_size=6, max_size=6)
schedulers = st.sampled_from(sorted(SCHEDULERS))


def test_there_is_an_oracle_for_every_scheduler_of_the_language() -> None:
    assert set(names()) == SCHEDULERS.keys()


def test_a_scheduler_without_an_oracle_is_refused() -> None:
    with pytest.raises(UsageError, match="mystery"):
        expected(service("mystery", [1]), 4)


@given(schedulers, weights, st.integers(1, 60), loads)
def test_some_split_of_all_requests_is_possible_and_weight_0_gets_none(
    scheduler: str, weights: list[int], requests: int, start: list[Load]
) -> None:
    it = service(scheduler, weights)
    found = expected(it, requests, start={s.node: load for s, load in zip(it.real_servers, start, strict=False)})
    assert found.bounds.keys() == {s.node for s in it.real_servers}
    assert sum(low for low, _ in found.bounds.values()) <= requests <= sum(high for _, high in found.bounds.values())
    assert all(0 <= low <= high <= requests for low, high in found.bounds.values())
    assert all(found.bounds[s.node] == (0, 0) and s.node not in found.sole for s in it.real_servers if s.weight == 0)
    assert found.why and found.render()


@given(schedulers, weights, st.integers(1, 40))
def test_persistence_keeps_one_client_on_one_server(scheduler: str, weights: list[int], requests: int) -> None:
    it = service(scheduler, weights, persistence=300)
    found = expected(it, requests)
    assert found.sole == {s.node for s in it.real_servers if s.weight}
    assert found.holds({next(iter(found.sole)): requests})


@given(schedulers, weights, st.integers(1, 50))
def test_whole_turns_are_whole_and_enough(scheduler: str, weights: list[int], least: int) -> None:
    it = service(scheduler, weights)
    requests = whole_turns(it, least)
    assert requests >= least
    if scheduler in ("rr", "wrr"):
        assert all(low == high for low, high in expected(it, requests).bounds.values())


def test_wrr_of_4_3_2_is_AABABCABC() -> None:
    assert "".join(wrr_turn([("A", 4), ("B", 3), ("C", 2)])) == "AABABCABC"


def test_wrr_of_1_and_2_starts_with_the_heavier() -> None:
    assert "".join(wrr_turn([("A", 1), ("B", 2)])) == "BAB"


@given(weights, st.integers(0, 40), st.integers(0, 40), st.randoms())
def test_wrr_bounds_hold_wherever_the_turn_stands_and_however_the_list_is_ordered(
    weights: list[int], skip: int, requests: int, order: random.Random
) -> None:
    it = service("wrr", weights)
    listed = [(s.node, s.weight) for s in it.real_servers if s.weight]
    order.shuffle(listed)
    counts = Counter(islice(wrr_sequence(listed), skip, skip + requests))
    assert expected(it, requests).holds(counts)


@given(st.integers(1, 7), st.integers(0, 10), st.integers(0, 40))
def test_rr_bounds_hold_wherever_the_turn_stands(servers: int, skip: int, requests: int) -> None:
    counts = Counter(f"web{1 + (skip + i) % servers}" for i in range(requests))
    assert expected(service("rr", [3] * servers), requests).holds(counts)


def test_rr_is_exact_for_whole_turns() -> None:
    found = expected(service("rr", [1, 1, 1]), 12)
    assert found.bounds == {"web1": (4, 4), "web2": (4, 4), "web3": (4, 4)}
    assert found.render() == "web1 4, web2 4, web3 4"
    assert not found.holds({"web1": 5, "web2": 4, "web3": 3})
    assert not found.holds({"web1": 4, "web2": 4, "web3": 3, "stranger": 1})


@given(st.sampled_from(["lc", "wlc"]), weights, st.integers(0, 40), loads, st.randoms())
def test_least_connection_bounds_hold_whatever_expires_and_however_the_list_is_ordered(
    scheduler: str, weights: list[int], requests: int, start: list[Load], chance: random.Random
) -> None:
    it = service(scheduler, weights)
    begin = {s.node: load for s, load in zip(it.real_servers, start, strict=False)}
    assert expected(it, requests, start=begin).holds(kernel_least_connection(it, requests, begin, chance))


def kernel_least_connection(it: Service, requests: int, start: dict[str, Load], chance: random.Random) -> Counter[str]:
    """ip_vs_wlc.c (and ip_vs_lc.c, which does not divide) word by word, while old connections expire at random."""
    listed = [server for server in it.real_servers if server.weight]
    chance.shuffle(listed)
    active = {name: load.active for name, load in start.items()}
    old = {name: load.inactive for name, load in start.items()}
    counts: Counter[str] = Counter()
    for _ in range(requests):
        expiring = chance.choice(listed).node
        old[expiring] = max(0, old[expiring] - chance.randint(0, 2))
        least = listed[0]
        for server in listed[1:]:
            mine, best = (active[s.node] * 256 + old[s.node] + counts[s.node] for s in (server, least))
            by = (server.weight, least.weight) if it.scheduler == "wlc" else (1, 1)
            if best * by[0] > mine * by[1]:
                least = server
        counts[least.node] += 1
    return counts


def test_wlc_from_an_empty_table_follows_the_weights_exactly_for_whole_turns() -> None:
    assert expected(service("wlc", [4, 3, 2]), 9).bounds == {"web1": (4, 4), "web2": (3, 3), "web3": (2, 2)}


def test_lc_from_an_empty_table_is_even() -> None:
    assert expected(service("lc", [9, 1, 1]), 12).bounds == {"web1": (4, 4), "web2": (4, 4), "web3": (4, 4)}


def test_lc_levels_out_a_server_that_has_just_returned() -> None:
    found = expected(service("lc", [1, 1]), 6, start={"web1": Load(0, 20)})
    assert found.bounds["web2"] == (3, 6) and found.holds({"web2": 6})


@pytest.mark.parametrize(
    ("scheduler", "weights", "sole"),
    [
        ("sed", [1, 3, 3], {"web2", "web3"}),
        ("nq", [1, 3, 3], {"web1", "web2", "web3"}),
        ("fo", [1, 5, 2], {"web2"}),
        ("ovf", [1, 5, 2], {"web2"}),
        ("sh", [1, 1, 0], {"web1", "web2"}),
        ("mh", [1, 1], {"web1", "web2"}),
        ("dh", [1, 1], {"web1", "web2"}),
        ("lblc", [1, 1], {"web1", "web2"}),
        ("lblcr", [1, 1], {"web1", "web2"}),
        ("twos", [0, 4], {"web2"}),
    ],
)
def test_one_server_takes_all(scheduler: str, weights: list[int], sole: set[str]) -> None:
    found = expected(service(scheduler, weights), 12)
    assert found.sole == sole
    assert all(found.holds({name: 12}) for name in sole)
    assert not found.holds({"web1": 6, "web2": 6})


def test_a_busy_server_is_passed_over_by_those_that_count_active_connections() -> None:
    busy = {"web2": Load(active=9)}
    assert expected(service("sed", [1, 3]), 12, start=busy).sole == {"web1"}
    assert expected(service("nq", [1, 3]), 12, start=busy).sole == {"web1"}
    assert expected(service("ovf", [1, 3]), 12, start=busy).sole == {"web1"}


@given(weights, st.integers(1, 60), st.randoms(use_true_random=False))
def test_twos_bounds_hold_for_the_kernels_draw(weights: list[int], requests: int, chance: random.Random) -> None:
    it = service("twos", weights)
    assert expected(it, requests).holds(kernel_twos(it, requests, chance))


def kernel_twos(it: Service, requests: int, chance: random.Random) -> Counter[str]:
    """ip_vs_twos.c: both draws from 0..total, the first server whose running weight reaches the draw."""
    listed = [server for server in it.real_servers if server.weight]
    counts: Counter[str] = Counter()
    for _ in range(requests):
        first, second = (_drawn(listed, chance) for _ in range(2))
        worse = second.weight * counts[first.node] > first.weight * counts[second.node]
        counts[(second if worse else first).node] += 1
    return counts


def _drawn(listed: list[RealServer], chance: random.Random) -> RealServer:
    left = random.Random(chance.getrandbits(64)).randrange(sum(s.weight for s in listed) + 1)
    for server in listed:
        left -= server.weight
        if left <= 0:
            return server
    raise AssertionError("the draw is at most the sum of all weights")


def test_quiesced_servers_are_named() -> None:
    assert expected(service("rr", [1, 0]), 4).why.endswith("web2: weight 0, no new connections")
    assert expected(service("rr", [0, 0]), 4).requests == 0
