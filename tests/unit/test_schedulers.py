"""The oracle: what it predicts from a table, its laws, and what it leaves open where something cannot be known."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import lvs_labs
from vlab.errors import UsageError
from vlab.lvs import models
from vlab.lvs.ipvs import Destination, Virtual
from vlab.lvs.models import Arrival, Pool, Server
from vlab.lvs.schedulers import CLOSED, GONE, HELD, Expectation, Pace, expected, whole_turns, wrr_turn
from vlab.lvs.starts import Known, as_declared, in_table
from vlab.topology.lab import RealServer, Service
from vlab.topology.vocabulary import SCHEDULERS

WWW = lvs_labs.web_db().services[0]
CLIENT = IPv4Address("10.20.0.10")
PACES = st.sampled_from([CLOSED, HELD, GONE])

weights = st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(any)
schedulers = st.sampled_from(sorted(SCHEDULERS))
deterministic = st.sampled_from(sorted(SCHEDULERS.keys() - {"twos"}))


def service(scheduler: str, weights: list[int], persistence: int | None = None) -> Service:
    servers = tuple(RealServer(f"web{i}", WWW.real_servers[0].address + i, 80, w) for i, w in enumerate(weights, 1))
    return replace(WWW, scheduler=scheduler, real_servers=servers, persistence=persistence)


def table(
    scheduler: str, weights: list[int], loads: tuple[tuple[int, int], ...] = (), flags: tuple[str, ...] = ()
) -> Known:
    """A service in a table whose list has web1 at its head; ``loads`` are active and inactive connections."""
    it = service(scheduler, weights)
    full = [*loads, *[(0, 0)] * len(weights)]
    rows = [Destination(s.address, s.port, "Masq", s.weight, *full[at]) for at, s in enumerate(it.real_servers)]
    return in_table(it, Virtual("tcp", it.vip, it.port, scheduler, flags=flags, destinations=tuple(rows)))


def asking(requests: int, clients: int = 1, chance: random.Random | None = None) -> list[Arrival]:
    draws = chance or random.Random(1)
    return [
        Arrival(CLIENT + at % clients, 20000 + at, WWW.vip, (draws.getrandbits(32), draws.getrandbits(32)))
        for at in range(requests)
    ]


def words(found: Expectation) -> set[str]:
    """The possible sequences: 1 is web1, «-» a refused connection."""
    return {"".join(name.removeprefix("web") or "-" for name in sequence) for sequence in found.sequences}


def test_a_scheduler_without_a_model_is_refused() -> None:
    with pytest.raises(UsageError, match="mystery"):
        expected(table("mystery", [1]), asking(4))


@pytest.mark.parametrize(
    ("scheduler", "weights", "pace", "sequences"),
    [
        ("rr", [9, 1, 1], CLOSED, {"123123", "231231", "312312"}),
        ("rr", [1, 0, 1], CLOSED, {"131313", "313131"}),
        ("wrr", [2, 1], CLOSED, {"112112", "121121", "211211"}),
        ("lc", [9, 1, 1], HELD, {"123123"}),
        ("wlc", [4, 3, 2], HELD, {"123121321"}),
        ("sed", [3, 1], HELD, {"11121112"}),
        ("sed", [1, 3, 3], CLOSED, {"2222"}),
        ("nq", [1, 3], HELD, {"12222212"}),
        ("nq", [1, 3], CLOSED, {"1111"}),
        ("fo", [1, 5, 2], HELD, {"2222"}),
        ("ovf", [1, 2], HELD, {"22211--"}),
        ("ovf", [1, 2], CLOSED, {"2222"}),
        ("wlc", [4, 3, 2], GONE, {"1111"}),
        ("lblc", [2, 3], HELD, {"111222222", "222211111"}),
    ],
)
def test_sequences_from_an_empty_table(scheduler: str, weights: list[int], pace: Pace, sequences: set[str]) -> None:
    found = expected(table(scheduler, weights), asking(len(next(iter(sequences)))), pace)
    assert words(found) == sequences
    assert all(found.follows(sequence) for sequence in found.sequences)


def test_the_order_of_answers_is_judged() -> None:
    found = expected(table("rr", [1, 1, 1]), asking(6))
    assert found.render() == "web1 2, web2 2, web3 2"
    assert found.holds({"web1": 2, "web2": 2, "web3": 2})
    assert not found.holds({"web1": 3, "web2": 2, "web3": 1})
    assert not found.holds({"web1": 2, "web2": 2, "web3": 1, "stranger": 1})
    assert found.follows(["web2", "web3", "web1"] * 2)
    assert not found.follows(["web1", "web1", "web2", "web2", "web3", "web3"])


@pytest.mark.parametrize("scheduler", ["sh", "dh", "mh"])
def test_a_hash_refuses_the_clients_of_a_quiesced_server_unless_it_falls_back(scheduler: str) -> None:
    """The first oracle said that a live server takes them."""
    pool = Pool.listed(
        models.scheduler(scheduler),
        [Server(s.address, s.port, s.weight) for s in service(scheduler, [1, 0]).real_servers],
    )
    arrivals = asking(40, clients=40)
    found = expected(table(scheduler, [1, 0]), arrivals)
    refused = sum(server is None for server in pool.serve(arrivals)[0])
    low, high = found.refused
    assert low <= refused <= high
    assert {"sh": 0 < low < 40, "dh": low in (0, 40), "mh": low == 0 < high}[scheduler]


@pytest.mark.parametrize("flag", ["sh-fallback", "mh-fallback"])
def test_with_fallback_nobody_is_refused(flag: str) -> None:
    found = expected(table(flag[:2], [1, 0], flags=(f"({flag})",)), asking(40, clients=40))
    assert found.refused == (0, 0) and found.holds({"web1": 40})


@pytest.mark.parametrize("scheduler", ["sh", "mh"])
def test_clients_are_shared_out_by_their_addresses_exactly(scheduler: str) -> None:
    found = expected(table(scheduler, [1, 1, 1]), asking(60, clients=60))
    (sequence,) = found.sequences
    assert len(set(sequence)) == 3
    assert expected(table(scheduler, [1, 1, 1]), asking(12)).render() == f"all 12 to {sequence[0]}"


def test_ports_that_nobody_knows_leave_a_hash_by_port_open() -> None:
    it = table("sh", [1, 1], flags=("(sh-port)",))
    assert len(set(next(iter(expected(it, asking(40)).sequences)))) == 2
    unknown = expected(it, [replace(arrival, port=0, client=CLIENT + at) for at, arrival in enumerate(asking(6))])
    assert unknown.bounds["web1"] == (0, 6) and not unknown.sequences


def test_keys_of_a_service_reach_the_oracle() -> None:
    by_port = replace(service("sh", [1, 1]), scheduler_flags=("sh-port",))
    unknown = [replace(arrival, port=0) for arrival in asking(12)]
    assert expected(as_declared(by_port), unknown).bounds["web1"] == (0, 12)
    by_address = replace(by_port, scheduler_flags=("sh-fallback",))
    assert expected(as_declared(by_address), unknown).render() == "all 12 to one of web1, web2"
    full = replace(table("rr", [1, 1]), servers=tuple(replace(s, upper=2) for s in table("rr", [1, 1]).servers))
    assert words(expected(full, asking(6))) == {"1212--", "2121--"}
    assert words(expected(full, asking(6), GONE)) == {"121212", "212121"}


def test_lblc_keeps_a_vip_on_a_server_beyond_its_upper_threshold() -> None:
    """The first oracle, which judged by bounds, could not tell."""
    full = replace(table("lblc", [9, 9]).servers[0], upper=2)
    it = replace(table("lblc", [9, 9]), servers=(full, table("lblc", [9, 9]).servers[1]))
    assert words(expected(it, asking(6), HELD)) == {"111111", "222222"}


def test_lblcr_may_have_any_set_of_servers_for_the_vip() -> None:
    found = expected(table("lblcr", [1, 1]), asking(4))
    assert words(found) == {"1111", "2222", "1212", "2121"}


def test_connections_of_before_leave_bounds() -> None:
    found = expected(table("lc", [1, 1], ((0, 20), (0, 0))), asking(6))
    assert not found.sequences and found.bounds["web2"] == (3, 6)
    assert expected(table("nq", [1, 1], ((1, 0), (0, 0))), asking(6)).bounds["web1"] == (0, 6)
    assert expected(table("nq", [1, 1], ((0, 9), (0, 0))), asking(6)).bounds["web1"] == (6, 6)


@settings(deadline=None)
@given(deterministic, weights, st.integers(1, 24), PACES, st.randoms(use_true_random=False))
def test_what_the_model_does_from_any_state_it_can_be_in_is_expected(
    scheduler: str, weights: list[int], requests: int, pace: Pace, chance: random.Random
) -> None:
    """Any history before, then all connections gone: the memory is what it is."""
    known = table(scheduler, weights)
    pool = Pool.listed(models.scheduler(scheduler), known.servers)
    _, pool = pool.pass_by(asking(chance.randint(0, 12), clients=5))
    arrivals = asking(requests, clients=4)
    names = [known.name(server) for server in pace.run(pool, arrivals)[0]]
    found = expected(known, arrivals, pace)
    assert found.follows(names) and found.holds(Counter(name for name in names if name))
    assert found.why and found.render()


@given(st.sampled_from(["lc", "wlc", "sed"]), weights, st.integers(1, 24), PACES, st.data())
def test_bounds_hold_whatever_expires_meanwhile(
    scheduler: str, weights: list[int], requests: int, pace: Pace, data: st.DataObject
) -> None:
    loads = tuple((data.draw(st.integers(0, 2)), data.draw(st.integers(0, 9))) for _ in weights)
    known = table(scheduler, weights, loads)
    pool = Pool.listed(models.scheduler(scheduler), known.servers)
    old = [server.key for server, (_, idle) in zip(pool.servers, loads, strict=True) for _ in range(idle)]
    some = random.Random(data.draw(st.integers(0, 999)))
    counts: Counter[str] = Counter()
    for arrival in asking(requests):
        if old and some.random() < 0.5:
            pool = pool.expire(old.pop(some.randrange(len(old))))
        (server,), pool = pace.run(pool, [arrival])
        counts[known.name(server)] += 1
    assert expected(known, asking(requests), pace).holds(counts)


@settings(deadline=None)
@given(schedulers, weights, st.integers(1, 40), st.sampled_from(["listed", "declared"]))
def test_weight_0_gets_none_and_all_requests_are_accounted_for(
    scheduler: str, weights: list[int], requests: int, known: str
) -> None:
    it = service(scheduler, weights)
    found = expected(table(scheduler, weights) if known == "listed" else as_declared(it), asking(requests))
    low, high = (sum(bound[at] for bound in found.bounds.values()) for at in (0, 1))
    assert low <= found.requests == requests <= high
    assert found.bounds.keys() - {""} == {s.node for s in it.real_servers}
    assert all(found.bounds[s.node] == (0, 0) for s in it.real_servers if s.weight == 0)


@given(schedulers, weights, st.integers(1, 40))
def test_persistence_keeps_one_client_on_one_server(scheduler: str, weights: list[int], requests: int) -> None:
    it = service(scheduler, weights, persistence=300)
    found = expected(as_declared(it), asking(requests))
    live = [s.node for s in it.real_servers if s.weight]
    assert {sequence[0] for sequence in found.sequences} == set(live)
    assert found.holds({live[0]: requests}) and (requests == 1 or not found.holds({live[0]: requests - 1}))


@given(st.sampled_from(["rr", "wrr", "lc", "wlc"]), weights, st.integers(1, 20))
def test_whole_turns_are_whole_and_enough(scheduler: str, weights: list[int], least: int) -> None:
    known = table(scheduler, weights)
    requests = whole_turns(known, least)
    assert requests >= least
    assert all(low == high for low, high in expected(known, asking(requests)).bounds.values())


def test_turns_too_long_to_try_are_judged_by_their_law() -> None:
    found = expected(table("wrr", [60000, 59999, 1]), asking(10))
    assert words(found) and all("3" not in sequence or sequence.count("3") == 1 for sequence in words(found))
    many = expected(table("rr", [1] * 300), asking(240))
    assert not many.sequences and many.bounds["web7"] == (0, 1)
    assert many.holds({f"web{at}": 1 for at in range(1, 241)})


def test_wrr_turns() -> None:
    assert wrr_turn(service("wrr", [4, 3, 2])) == [f"web{at}" for at in (1, 1, 2, 1, 2, 3, 1, 2, 3)]
    assert wrr_turn(service("wrr", [1, 2])) == ["web2", "web1", "web2"]


def test_quiesced_servers_are_named() -> None:
    assert expected(table("rr", [1, 0]), asking(4)).why.endswith("web2: weight 0, no new connections")
    assert expected(table("rr", [0, 0]), asking(4)).refused == (4, 4)


@given(weights, st.integers(1, 60), st.integers(0, 2**32))
def test_twos_is_within_bounds_and_odds(weights: list[int], requests: int, seed: int) -> None:
    known = table("twos", weights)
    pool = Pool.listed(models.scheduler("twos"), known.servers)
    chosen, _ = pool.serve(asking(requests, chance=random.Random(seed)))
    assert expected(known, asking(requests)).holds(Counter(known.name(server) for server in chosen))


def test_twos_is_told_from_a_turn() -> None:
    found = expected(table("twos", [1, 9]), asking(120))
    assert found.holds({"web1": 12, "web2": 108})
    assert not found.holds({"web1": 60, "web2": 60})
