"""Models of the schedulers that hash or remember: sh, dh, mh, lblc, lblcr."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pools import BASE, VIP, arrivals, clients, letters, listed, weights
from vlab.lvs.models import Arrival, Pool, Server, scheduler
from vlab.lvs.models.hashing import fold, hsiphash
from vlab.lvs.models.maglev import Maglev


def test_hsiphash_gives_the_kernels_test_vector() -> None:
    """lib/test_siphash.c, four bytes 00 01 02 03."""
    assert hsiphash(0x03020100, (0x0706050403020100, 0x0F0E0D0C0B0A0908)) == 0x88D38328


def test_ipv6_is_folded_to_a_word() -> None:
    assert fold(IPv6Address("2001:db8::1:2")) == 0x20010DB8 ^ 0x00010002


@given(st.sampled_from(["sh", "mh"]), weights, clients, st.lists(clients, max_size=5))
def test_a_client_stays_with_its_server_whatever_others_do(
    name: str, weights: list[int], client: Arrival, others: list[Arrival]
) -> None:
    base = replace(Maglev(), index=8) if name == "mh" else scheduler(name)
    pool = Pool.listed(base, [Server(BASE + at, weight=weight) for at, weight in enumerate(weights)])
    first, later = pool.arrive(client)
    _, later = later.hold(others)
    again, _ = later.arrive(replace(client, port=client.port % 65535 + 1))
    assert (first and first.key) == (again and again.key)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_mh_shares_its_buckets_out_by_weight(weights: list[int]) -> None:
    pool = Pool.listed(Maglev(index=9), [Server(BASE + at, weight=weight) for at, weight in enumerate(weights)])
    assert isinstance(pool.scheduler, Maglev)
    counts = Counter(pool.scheduler.buckets)
    assert len(pool.scheduler.buckets) == 509
    for server in pool.servers:
        assert abs(counts[server.key] - 509 * server.weight / sum(weights)) <= max(weights)


@given(st.integers(2, 8), st.data())
def test_mh_moves_few_clients_of_the_servers_that_stay(servers: int, data: st.DataObject) -> None:
    """Maglev promises little disruption, not none: a few percent beside the buckets of the one that went."""
    pool = Pool.listed(Maglev(index=10), [Server(BASE + at) for at in range(servers)])
    gone = data.draw(st.sampled_from(pool.servers)).key
    left = pool.remove(gone)
    assert isinstance(pool.scheduler, Maglev) and isinstance(left.scheduler, Maglev)
    moved = sum(
        before not in (gone, after)
        for before, after in zip(pool.scheduler.buckets, left.scheduler.buckets, strict=True)
    )
    assert moved <= 0.05 * len(left.scheduler.buckets)


def test_a_quiesced_server_keeps_its_buckets_in_mh_so_fallback_moves_only_its_clients() -> None:
    pool = Pool.listed(Maglev(fallback=True), [Server(BASE + at) for at in range(1, 5)])
    quiesced = pool.weigh(pool.servers[0].key, 0)
    for number in range(200):
        client = Arrival(BASE + 1000 + number, 1, VIP)
        before, after = pool.arrive(client)[0], quiesced.arrive(client)[0]
        assert before is not None and after is not None
        assert after.key == before.key or before.key == pool.servers[0].key


@given(weights.filter(any), clients)
def test_sh_refuses_the_clients_of_a_quiesced_server_unless_it_falls_back(weights: list[int], client: Arrival) -> None:
    servers = [Server(BASE + at, weight=weight) for at, weight in enumerate(weights)]
    plain = Pool.listed(scheduler("sh"), servers).arrive(client)[0]
    fallback = Pool.listed(scheduler("sh", "sh-fallback"), servers).arrive(client)[0]
    assert fallback is not None and plain in (None, fallback)


def test_lblc_keeps_a_vip_on_its_server_until_it_is_swamped_while_another_idles() -> None:
    chosen, _ = listed("lblc", [2, 3]).hold(arrivals(9))
    assert letters(chosen) == "AAABBBBBB"


def test_lblcr_shares_a_vip_among_the_servers_it_outgrew() -> None:
    chosen, pool = listed("lblcr", [2, 3]).hold(arrivals(9))
    assert letters(chosen) == "AAABBBBBA"
    assert pool.scheduler.choose(pool.servers, replace(arrivals(1)[0], vip=VIP + 1))[0] == pool.servers[1]


def test_both_forget_nothing_by_time_but_ignore_servers_that_left() -> None:
    for name in ("lblc", "lblcr"):
        _, pool = listed(name, [1, 1]).serve(arrivals(3))
        assert letters(pool.remove(pool.servers[0].key).serve(arrivals(2))[0]) == "BB"
