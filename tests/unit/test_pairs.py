"""Pairs of directors: what floats where, VRRP ids, and who is active by what the nodes show."""

from __future__ import annotations

from ipaddress import IPv4Address

from tests.unit import lvs_labs
from tests.unit.test_topology import shop
from vlab.guests.settings import Settings
from vlab.lvs import pairs, vrrp
from vlab.lvs.keepalived import render
from vlab.lvs.settings import for_node
from vlab.topology.addressing import complete
from vlab.topology.lab import Lab, Pair

PAIR = ("networks: [front, back]\n    services", "networks: [front, back]\n    count: 2\n    services")

SHOWN = """\
lo               UNKNOWN        127.0.0.1/8 ::1/128
eth0             UP             10.20.0.2/24 10.20.0.100/24 fe80::5054:ff:fefa:f117/64
gre0@NONE        DOWN
eth1             UP             10.30.0.2/24
=== vlab ===
master sync daemon (mcast=eth1, syncid=41, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)
"""


def made(*keys: str) -> Lab:
    keyed = (PAIR[1], PAIR[1].replace("count: 2\n", "count: 2\n" + "".join(f"    {key}\n" for key in keys)))
    return complete(shop(PAIR, keyed))


def only(lab: Lab) -> Pair:
    (pair,) = lab.pairs
    return pair


def floating(lab: Lab) -> list[tuple[str, str, bool]]:
    return [(it.network, str(it.address), it.inner) for it in only(lab).floating]


def test_vips_float_and_an_inner_address_is_derived_behind_the_pairs_own() -> None:
    lab = made()
    assert only(lab).nodes == ("lvs1", "lvs2")
    assert floating(lab) == [
        ("front", "10.20.0.100/24", False), ("back", "10.30.0.200/24", False), ("back", "10.30.0.3/24", True),
    ]  # fmt: skip
    assert [str(lab.node(name).address("back")) for name in ("lvs1", "lvs2")] == ["10.30.0.1", "10.30.0.2"]


def test_an_inner_address_may_be_pinned_and_goes_before_a_nodes_home() -> None:
    lab = made("inner_vip: {back: 10.30.0.1}")
    assert floating(lab)[-1] == ("back", "10.30.0.1/24", True)
    taken = [str(nic.address.ip) for node in lab.nodes for nic in node.nics]
    assert "10.30.0.1" not in taken and len(taken) == len(set(taken))


def test_a_second_node_pinned_with_the_first() -> None:
    lab = made("addresses: {back: 10.30.0.20}")
    assert [str(lab.node(name).address("back")) for name in ("lvs1", "lvs2")] == ["10.30.0.20", "10.30.0.21"]


def test_one_director_has_no_pair() -> None:
    assert complete(shop()).pairs == ()


def test_a_vrid_is_stable_unique_and_may_be_pinned() -> None:
    assert only(made()).vrid == only(made()).vrid
    assert 1 <= only(made()).vrid <= 255
    assert only(made("vrid: 7")).vrid == 7
    many = "".join(f"  d{i}x: {{networks: [front], count: 2}}\n" for i in range(80))
    lab = complete(shop(("directors:\n", f"directors:\n{many}")))
    found = [pair.vrid for pair in lab.pairs]
    assert len(found) == len(set(found)) == 80


def test_defaults_are_sync_and_no_preemption() -> None:
    assert (only(made()).sync, only(made()).preempt) == (True, False)
    assert (only(made("sync: false", "preempt: true")).sync, only(made("sync: false", "preempt: true")).preempt) == (
        False, True,
    )  # fmt: skip


def test_who_is_active_is_read_from_addresses() -> None:
    held = pairs.parse(SHOWN)
    assert held.sync == ("master",)
    assert IPv4Address("10.20.0.100") in held.addresses
    assert pairs.active([IPv4Address("10.20.0.100")], {"lvs1": None, "lvs2": held}) == ["lvs2"]
    assert pairs.active([IPv4Address("10.20.0.100"), IPv4Address("10.30.0.3")], {"lvs2": held}) == []


def test_a_node_without_ip_vs_has_addresses_only() -> None:
    assert pairs.parse(SHOWN.partition("master")[0]).sync == ()


def test_half_of_the_addresses_is_not_active() -> None:
    pair = only(lvs_labs.pair())
    split = {"lvs1": pairs.Held(frozenset({IPv4Address("10.20.0.100")})),
             "lvs2": pairs.Held(frozenset(vrrp.addresses(pair)))}  # fmt: skip
    assert not pairs.one_active(pair, pairs.Standing(split, {}))


def test_takeover_takes_less_than_four_seconds() -> None:
    pair = only(lvs_labs.pair())
    assert 3.2 < vrrp.takeover(pair, "lvs1") < vrrp.takeover(pair, "lvs2") < 3.3


def test_the_nodes_of_a_pair_have_no_vip_of_their_own_and_differ_in_priority_only() -> None:
    lab = lvs_labs.pair()
    for name in ("lvs1", "lvs2"):
        own = {str(item.address.ip) for item in for_node(lab, lab.node(name)).addresses}
        assert own.isdisjoint({"10.20.0.100", "10.30.0.200", "10.30.0.4"})
    first, second = (render(lab, lab.node(name)) for name in ("lvs1", "lvs2"))
    assert second == first.replace("lvs1 of lab", "lvs2 of lab").replace("router_id lvs1", "router_id lvs2").replace(
        "priority 200", "priority 190"
    )


def test_nat_real_servers_route_to_the_floating_address() -> None:
    lab = lvs_labs.pair()
    (route,) = for_node(lab, lab.node("web1")).routes
    assert str(route.via) == "10.30.0.4"
    assert "the active one of lvs1 and lvs2" in route.why


def test_without_sync_there_is_no_daemon_and_none_of_its_sysctls() -> None:
    with_it, without = (lvs_labs.pair(sync=sync) for sync in (True, False))
    assert "lvs_sync_daemon eth1 lvs-back id 51" in render(with_it, with_it.node("lvs1"))
    assert "lvs_sync_daemon" not in render(without, without.node("lvs1"))
    assert _sync_keys(for_node(with_it, with_it.node("lvs1"))) == {
        "sync_threshold",
        "sync_refresh_period",
        "sync_retries",
    }
    assert _sync_keys(for_node(without, without.node("lvs1"))) == set()


def _sync_keys(settings: Settings) -> set[str]:
    return {item.key.rpartition("/")[2] for item in settings.sysctls if "/sync_" in item.key}


def test_preemption_waits_until_the_node_knows_of_connections() -> None:
    lab = lvs_labs.pair(preempt=True)
    text = render(lab, lab.node("lvs1"))
    assert "nopreempt" not in text
    assert text.count(f"preempt_delay {vrrp.PREEMPT_DELAY}") == 2
    assert vrrp.PREEMPT_DELAY > vrrp.REFRESH
