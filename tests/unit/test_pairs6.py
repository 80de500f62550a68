"""Pairs of directors with IPv6 services: what floats, what VRRP announces, where real servers route, and how a pair becomes one director."""

from __future__ import annotations

import re
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface

import pytest

from tests.unit import lvs_labs
from vlab.guests import transition
from vlab.guests.settings import Address, Link, Settings
from vlab.lvs import pairs, vrrp
from vlab.lvs.asking import free_addresses
from vlab.lvs.explain import explain
from vlab.lvs.keepalived import render
from vlab.lvs.pairs import Held, Standing
from vlab.lvs.settings import for_node
from vlab.topology.lab import Lab, Pair

NO_NAT4 = ("      nat4: {vip: 10.20.0.100, port: 80, mode: nat, scheduler: rr, real_servers: web}\n", "")
NO_NAT6 = ("      nat6: {vip: 'fd00:20::100', port: 80, mode: nat, scheduler: rr, real_servers: web}\n", "")
PINNED = ("    vrid: 51\n", "    vrid: 51\n    inner_vip: {back: 10.30.0.9}\n")
PINNED6 = ("    vrid: 51\n", "    vrid: 51\n    inner_vip6: {back: 'fd00:30::77'}\n")
ALONE = ("    count: 2\n    vrid: 51\n", "")

SHOWN = """\
lo               UNKNOWN        127.0.0.1/8 ::1/128
eth0             UP             10.20.0.2/24 10.20.0.100/24 fd00:20::2/64 fd00:20::100/64 fe80::5054:ff:fefa:f117/64
=== vlab ===
"""


def only(lab: Lab) -> Pair:
    (pair,) = lab.pairs
    return pair


def floating(lab: Lab) -> list[tuple[str, str, bool]]:
    return [(it.network, str(it.address), it.inner) for it in only(lab).floating]


def instances(lab: Lab, node: str = "lvs1") -> dict[str, tuple[list[str], list[str]]]:
    """By instance, the addresses that it announces and those that it only moves."""
    found = re.findall(r"vrrp_instance (\S+) \{\n(.*?)\n\}", render(lab, lab.node(node)), re.DOTALL)
    return {name: (block("virtual_ipaddress", text), block("virtual_ipaddress_excluded", text)) for name, text in found}


def block(key: str, text: str) -> list[str]:
    found = re.search(rf"    {key} \{{\n(.*?)    \}}", text, re.DOTALL)
    return [line.strip() for line in found[1].splitlines()] if found else []


def test_vips_of_both_families_float_and_inner_addresses_are_twins() -> None:
    assert floating(lvs_labs.pair6()) == [
        ("front", "10.20.0.100/24", False), ("front", "fd00:20::100/64", False), ("front", "fd00:20::101/64", False),
        ("back", "10.30.0.3/24", True), ("back", "fd00:30::3/64", True),
    ]  # fmt: skip


def test_a_pinned_inner_address_has_a_twin_too() -> None:
    assert floating(lvs_labs.pair6(PINNED))[-2:] == [("back", "10.30.0.9/24", True), ("back", "fd00:30::9/64", True)]


def test_an_inner_address_of_ipv6_may_be_pinned_by_itself() -> None:
    assert floating(lvs_labs.pair6(PINNED6))[-2:] == [("back", "10.30.0.3/24", True), ("back", "fd00:30::77/64", True)]
    taken = [str(nic.address6) for node in lvs_labs.pair6(PINNED6).nodes for nic in node.nics]
    assert len(taken) == len(set(taken)) and "fd00:30::77/64" not in taken


def test_a_twin_that_is_taken_gives_way() -> None:
    taken = ("image: web, networks: [back]", "image: web, networks: [back], addresses6: {back: 'fd00:30::3'}")
    assert floating(lvs_labs.pair6(taken))[-1] == ("back", "fd00:30::3a/64", True)


def test_no_inner_address_of_ipv6_where_nobody_routes_to_it() -> None:
    assert ("back", "10.30.0.3/24", True) in floating(lvs_labs.pair6(NO_NAT6))
    assert not [
        address for network, address, _ in floating(lvs_labs.pair6(NO_NAT6)) if network == "back" and ":" in address
    ]


@pytest.mark.parametrize(
    "edits", [(), (NO_NAT4,), (NO_NAT6,), (NO_NAT4, NO_NAT6), (PINNED, NO_NAT4), (PINNED6, NO_NAT6)]
)
def test_every_instance_announces_an_address_of_ipv4_and_moves_the_others_along(
    edits: tuple[tuple[str, str], ...],
) -> None:
    lab = lvs_labs.pair6(*edits)
    found = instances(lab)
    assert set(found) == {f"lvs-{network}" for network in only(lab).networks}
    assert all(announced for announced, _ in found.values())
    assert not [address for announced, _ in found.values() for address in announced if ":" in address]
    moved = [line for _, excluded in found.values() for line in excluded]
    assert moved and all(line.endswith("/64 preferred_lft 0") for line in moved)
    shown = {line.split()[0] for each in found.values() for lines in each for line in lines}
    assert shown == {str(it.address) for it in only(lab).floating}


def test_vrrp_gets_an_address_to_announce_where_only_ipv6_floats() -> None:
    lab = lvs_labs.pair6(NO_NAT4)
    assert ("front", "10.20.0.3/24", True) in floating(lab)
    told = {row.setting: row.why for row in explain(lab, "lvs1") if row.subject == "pair"}
    assert "VRRP speaks IPv4" in told["10.20.0.3 on front floats"] and "VRRP speaks" in told["10.30.0.3 on back floats"]
    assert "real servers route to it" in told["fd00:30::3 on back floats"]
    assert "clients call it" in told["fd00:20::100 on front floats"]


def test_connections_are_told_away_from_the_clients_also_in_ipv6() -> None:
    assert vrrp.sync_network(only(lvs_labs.pair6(NO_NAT4))) == "back"


def test_the_nodes_of_a_pair_pass_ipv6_on_and_have_no_vip_of_their_own() -> None:
    lab = lvs_labs.pair6()
    for name in ("lvs1", "lvs2"):
        found = for_node(lab, lab.node(name))
        assert {str(item.address.ip) for item in found.addresses}.isdisjoint(
            {str(it.address.ip) for it in only(lab).floating}
        )
        assert {item.key: item.value for item in found.sysctls}["net/ipv6/conf/all/forwarding"] == "1"


def test_nat_real_servers_route_to_the_floating_address_of_each_family() -> None:
    lab = lvs_labs.pair6()
    routes = {str(route.destination): str(route.via) for route in for_node(lab, lab.node("web1")).routes}
    assert routes == {"0.0.0.0/0": "10.30.0.3", "::/0": "fd00:30::3"}


def test_who_is_active_is_who_has_both_families() -> None:
    held = pairs.parse(SHOWN)
    assert IPv6Address("fd00:20::100") in held.addresses
    pair = only(lvs_labs.pair6())
    every = frozenset(vrrp.addresses(pair))
    four = frozenset(address for address in every if address.version == 4)
    assert pairs.one_active(pair, Standing({"lvs1": Held(every), "lvs2": Held(frozenset())}, {}))
    assert not pairs.one_active(pair, Standing({"lvs1": Held(four), "lvs2": Held(frozenset())}, {}))
    assert not pairs.one_active(pair, Standing({"lvs1": Held(every), "lvs2": Held(every - four)}, {}))


def test_nobody_borrows_a_floating_address() -> None:
    lab = lvs_labs.pair6()
    back = set(zip(range(300), free_addresses(lab, "back", IPv6Address("fd00:30::3")), strict=False))
    assert IPv6Address("fd00:30::3") not in {address for _, address in back}


def test_a_pairs_vip_that_becomes_one_nodes_own_is_not_left_with_the_pairs_length() -> None:
    """The kernel has an IPv6 address once, and «replace» does not change its length: keepalived would take it away; and it puts back
    what is taken from it, after 0.2 s."""
    two, one = lvs_labs.pair6(), lvs_labs.pair6(ALONE)
    script = transition.script(for_node(two, two.node("lvs1")), for_node(one, one.node("lvs1")))
    at_once = (
        "address del fd00:20::100/64 dev eth0\naddress add fd00:20::100/128 dev eth0 nodad preferred_lft 0\n"
        "address del fd00:20::101/64 dev eth0\naddress add fd00:20::101/128 dev eth0 nodad preferred_lft 0\n"
    )
    assert script.index(at_once) < script.index("systemctl re")
    assert script.count("address del") == 2, "IPv4 has both at once"


def test_a_fresh_node_has_nothing_to_lose() -> None:
    one = lvs_labs.pair6(ALONE)
    assert "address del" not in transition.script(None, for_node(one, one.node("lvs1")))


def test_a_vip_on_lo_and_a_vip_that_stays_are_left_alone() -> None:
    had = Settings(
        "web1", "1" * 32, (Link("eth0", "52:54:00:00:00:01", 1500),),
        addresses=(Address("eth0", IPv4Interface("10.20.0.31/24")), Address("eth0", IPv6Interface("fd00:20::31/64"))),
    )  # fmt: skip
    vip = Address("lo", IPv6Interface("fd00:20::100/128"))
    assert "address del" not in transition.script(had, _with(had, vip))
    assert "address del" not in transition.script(_with(had, vip), _with(_with(had, vip), vip))


def _with(settings: Settings, address: Address) -> Settings:
    return Settings(settings.hostname, settings.machine_id, settings.links, addresses=(*settings.addresses, address))
