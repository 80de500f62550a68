"""The planner: what differs makes a step with a reason, what does not makes none."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.unit.labs import BACK, lab, node
from vlab.hypervisors.mark import Domain, Mark
from vlab.plan import NOTHING, Action, FoundBridge, Observed, Plan, Wanted, WantedNode, make, remove
from vlab.topology.lab import Lab, Node


def wanted(topology: Lab, **digests: str) -> Wanted:
    return Wanted(
        topology,
        tuple(
            WantedNode(n, "rootfs", "container", digests.get("domain", "d"), digests.get("settings", "s"))
            for n in topology.nodes
        ),
    )


def domain(of: Node, state: str = "running", digest: str = "d", settings: str = "s") -> Domain:
    return Domain(f"vlab-shop.{of.name}", "lxc:///system", state, 7, Mark("shop", "shop", of, "none", digest, settings))


def converged(topology: Lab) -> Observed:
    """What the host looks like right after ``up`` of ``topology``."""
    return Observed(
        namespace=True,
        bridges=tuple(
            FoundBridge(n.bridge, n.name, n.mtu, f"{n.gateway}/{n.subnet.prefixlen}") for n in topology.networks
        ),
        ports={nic.device: topology.network(nic.network).bridge for n in topology.nodes for nic in n.nics},
        domains={n.name: domain(n) for n in topology.nodes},
        clones=frozenset(n.name for n in topology.nodes),
        built=frozenset({"web:rootfs"}),
    )


def deeds(plan: Plan) -> list[str]:
    return [step.id for step in plan.steps]


def test_from_nothing_every_step_comes_after_what_it_needs() -> None:
    plan = make(wanted(lab()), NOTHING)
    place = {step.id: i for i, step in enumerate(plan.steps)}
    assert all(place[before] < place[step.id] for step in plan.steps for before in step.after)
    assert {step.action for step in plan.steps} == {
        Action.BUILD_IMAGE, Action.CREATE_NAMESPACE, Action.ENSURE_BRIDGE, Action.MAKE_CLONE, Action.BOOT, Action.SETTLE,
    }  # fmt: skip
    assert deeds(plan).count("build-image/web:rootfs") == 1


def test_a_converged_lab_needs_nothing() -> None:
    assert not make(wanted(lab()), converged(lab()))


def test_changed_settings_are_one_settle_and_no_boot() -> None:
    plan = make(wanted(lab(), settings="new"), converged(lab()))
    assert deeds(plan) == ["settle/web1", "settle/web2"]


def test_one_more_guest_is_one_clone() -> None:
    grown = lab(node("web1", 11), node("web2", 12), node("web3", 13))
    plan = make(wanted(grown), converged(lab()))
    assert deeds(plan) == ["make-clone/web3", "boot/web3", "settle/web3"]


def test_one_guest_less_is_destroyed_with_its_clone() -> None:
    plan = make(wanted(lab(node("web1", 11))), converged(lab()))
    assert deeds(plan) == ["destroy/web2", "remove-clone/web2"]


def test_more_memory_replaces_the_guest_and_says_so() -> None:
    bigger = lab(node("web1", 11, memory=512 << 20), node("web2", 12))
    plan = make(
        Wanted(
            bigger,
            tuple(WantedNode(n, "rootfs", "container", n.name if n.name == "web1" else "d", "s") for n in bigger.nodes),
        ),
        converged(lab()),
    )
    assert deeds(plan) == ["destroy/web1", "make-clone/web1", "boot/web1", "settle/web1"]
    assert plan.steps[0].why == "memory changed"


@pytest.mark.parametrize("state", ["shutoff", "crashed", "paused"])
def test_a_guest_that_does_not_run_is_made_again(state: str) -> None:
    seen = converged(lab())
    seen = replace(seen, domains={**seen.domains, "web1": domain(node("web1", 11), state)})
    assert deeds(make(wanted(lab()), seen)) == ["destroy/web1", "make-clone/web1", "boot/web1", "settle/web1"]


def test_a_guest_destroyed_behind_our_back_is_made_again() -> None:
    seen = converged(lab())
    seen = replace(seen, domains={"web2": seen.domains["web2"]}, ports={"v-web2": "b0"})
    plan = make(wanted(lab()), seen)
    assert deeds(plan) == ["make-clone/web1", "boot/web1", "settle/web1"]
    assert plan.steps[1].why == "absent"


def test_a_nic_left_in_the_root_namespace_by_a_killed_run_is_attached() -> None:
    seen = converged(lab())
    seen = replace(seen, ports={"v-web2": "b0"}, unadopted=frozenset({"v-web1"}))
    assert deeds(make(wanted(lab()), seen)) == ["attach/web1"]


def test_a_nic_that_is_nowhere_costs_the_guest() -> None:
    seen = replace(converged(lab()), ports={"v-web2": "b0"})
    plan = make(wanted(lab()), seen)
    assert deeds(plan) == ["destroy/web1", "make-clone/web1", "boot/web1", "settle/web1"]
    assert plan.steps[0].why == "its NIC web1.back is gone"


def test_a_bridge_with_another_mtu_or_address_is_set_right() -> None:
    moved = replace(BACK, mtu=9000, gateway=IPv4Address("10.30.0.253"))
    plan = make(wanted(lab(networks=(moved,))), converged(lab()))
    assert [(s.id, s.why) for s in plan.steps] == [
        ("ensure-bridge/back", "its address is 10.30.0.254/24, not 10.30.0.253/24")
    ]


def test_a_network_that_left_the_file_is_removed() -> None:
    old = replace(BACK, name="old", bridge="b9")
    plan = make(wanted(lab()), converged(lab(networks=(BACK, old))))
    assert deeds(plan) == ["remove-bridge/old"]


def test_remove_takes_all_and_the_namespace_last() -> None:
    plan = remove(converged(lab()))
    assert deeds(plan) == [
        "destroy/web1",
        "destroy/web2",
        "remove-clone/web1",
        "remove-clone/web2",
        "delete-namespace/namespace",
    ]
    assert plan.steps[-1].after == ("destroy/web1", "destroy/web2")
    assert not remove(NOTHING)
