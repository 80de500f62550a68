"""What a lab's namespace passes on: the nft rules, what is read back of them, and when the plan asks for them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from tests.unit.labs import BACK, lab
from tests.unit.test_plan import converged, wanted
from vlab.host import routing
from vlab.plan import Action, Observed, Step, make, remove
from vlab.topology.lab import Lab, Network

FRONT = Network(
    "front", IPv4Network("10.20.0.0/24"), 1500, internet=False, gateway=IPv4Address("10.20.0.254"), bridge="b1"
)
PLAIN = lab(networks=(BACK, FRONT))
ROUTED = lab(networks=(replace(BACK, routed=True), replace(FRONT, routed=True)))


def routes(topology: Lab, observed: Observed) -> list[Step]:
    return [step for step in make(wanted(topology), observed).steps if step.action is Action.ROUTE]


def test_only_routed_networks_reach_each_other() -> None:
    text = routing.rules([replace(BACK, routed=True), replace(FRONT, routed=True), replace(FRONT, bridge="b2")])
    assert 'iifname { "b0", "b1" } oifname { "b0", "b1" } accept comment "routed"' in text
    assert text.count('"b2"') == 2  # its own frames, where br_netfilter shows them here
    assert "policy drop" in text
    assert routing.UPLINK not in text
    assert routing.bridges_routed(text) == {"b0", "b1"}


def test_what_nft_lists_is_read_in_both_its_ways() -> None:
    assert routing.bridges_routed('iifname "b0" oifname "b0" accept comment "routed"') == {"b0"}
    assert routing.bridges_routed('iifname "b0" oifname "b0" accept') == set()
    assert routing.bridges_routed("") == set()


def test_routing_and_internet_are_one_table() -> None:
    text = routing.rules([replace(BACK, routed=True, internet=True), replace(FRONT, routed=True)])
    assert 'iifname { "b0" } oifname "vlabnet0" accept' in text
    assert "masquerade" in text
    assert routing.bridges_routed(text) == {"b0", "b1"}


def test_a_new_router_waits_for_its_bridges() -> None:
    (step,) = routes(ROUTED, Observed())
    assert set(step.after) == {"create-namespace/namespace", "ensure-bridge/back", "ensure-bridge/front"}


def test_what_forwards_as_declared_is_left_alone_and_drift_is_mended() -> None:
    assert routes(ROUTED, replace(converged(ROUTED), routed=frozenset({"b0", "b1"}))) == []
    assert [step.why for step in routes(ROUTED, converged(ROUTED))] == [
        "the lab's gateway forwards between back, front, and no other"
    ]


def test_a_file_that_asks_no_more_takes_it_away_and_down_needs_no_step_for_it() -> None:
    seen = replace(converged(PLAIN), routed=frozenset({"b0", "b1"}))
    assert [step.why for step in routes(PLAIN, seen)] == ["no network is routed any more"]
    assert Action.ROUTE not in {step.action for step in remove(seen).steps}
