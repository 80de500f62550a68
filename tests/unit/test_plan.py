"""The planner: what differs makes a step with a reason, what does not makes none."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.unit import lvs_labs
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


def warm(topology: Lab, **golden: str) -> Wanted:
    """Virtual machines that are restored: each from «web» but for those whose golden is named."""
    return Wanted(
        topology,
        tuple(
            WantedNode(n, "direct", "vm", "d", "s", golden.get(n.name, "web"), restored=True) for n in topology.nodes
        ),
    )


def test_a_node_with_a_golden_is_cloned_from_it_restored_and_settled() -> None:
    plan = make(warm(lab(node("web1", 11))), NOTHING)
    after = {step.id: step.after for step in plan.steps}
    assert deeds(plan)[:2] == ["build-image/web:direct", "ensure-golden/web"]
    assert deeds(plan)[-3:] == ["make-clone/web1", "restore/web1", "settle/web1"]
    assert after["ensure-golden/web"] == ("build-image/web:direct",)
    assert set(after["make-clone/web1"]) == {"build-image/web:direct", "ensure-golden/web"}
    assert set(after["restore/web1"]) == {"make-clone/web1", "create-namespace/namespace", "ensure-bridge/back"}
    assert after["settle/web1"] == ("restore/web1",)


def test_a_golden_is_made_in_the_queue_of_boots_and_restored_from_in_another() -> None:
    queues = {step.action: step.queue for step in make(warm(lab()), NOTHING).steps}
    assert (queues[Action.ENSURE_GOLDEN], queues[Action.RESTORE]) == ("vm", "restore")


def test_a_golden_that_is_only_checked_takes_nobodys_room() -> None:
    plan = make(warm(lab()), replace(NOTHING, goldens=frozenset({"web"})))
    assert [step.queue for step in plan.steps if step.action is Action.ENSURE_GOLDEN] == [""]


def test_a_restored_director_has_all_that_needs_no_server_before_its_servers_are_there() -> None:
    topology = lvs_labs.web_db()
    after = {step.id: step.after for step in make(warm(topology), NOTHING).steps}
    servers = {server.node for service in topology.services for server in service.servers}
    assert after["prepare/lvs1"] == ("restore/lvs1",)
    assert set(after["settle/lvs1"]) == {"prepare/lvs1", *(f"restore/{name}" for name in servers)}
    assert [id for id in after if id.startswith("prepare/")] == ["prepare/lvs1"]
    cold = Wanted(topology, tuple(replace(n, golden="", restored=False) for n in warm(topology).nodes))
    after = {step.id: step.after for step in make(cold, NOTHING).steps}
    assert "prepare/lvs1" not in after
    assert set(after["settle/lvs1"]) == {"boot/lvs1", *(f"settle/{name}" for name in servers)}


def test_a_director_waits_until_those_have_settled_that_run_already() -> None:
    topology = lvs_labs.web_db()
    settled = {"web1", "db1"}
    running = {n.name: domain(n, settings="older") for n in topology.nodes if n.name in settled}
    bridges = {nic.device: topology.network(nic.network).bridge for n in topology.nodes for nic in n.nics}
    found = replace(NOTHING, domains=running, ports=bridges)
    after = {step.id: step.after for step in make(warm(topology), found).steps}
    servers = {server.node for service in topology.services for server in service.servers}
    waits = {*(f"settle/{name}" for name in settled), *(f"restore/{name}" for name in servers - settled)}
    assert set(after["settle/lvs1"]) == {"prepare/lvs1", *waits}


def test_goldens_of_directors_are_the_first() -> None:
    topology = lvs_labs.web_db()
    named = Wanted(topology, tuple(replace(n, golden=n.node.image) for n in warm(topology).nodes))
    order = [step.subject for step in make(named, NOTHING).steps if step.action is Action.ENSURE_GOLDEN]
    assert order[0] == "director" and len(order) == len({n.image for n in topology.nodes})


def test_a_director_alone_is_settled_at_once() -> None:
    topology = lvs_labs.web_db()
    seen = replace(converged(topology), built=frozenset({f"{n.image}:rootfs" for n in topology.nodes}))
    reset = Wanted(
        topology, tuple(replace(n, again="reset" if n.node.name == "lvs1" else "") for n in warm(topology).nodes)
    )
    after = {step.id: step.after for step in make(reset, seen).steps}
    assert "prepare/lvs1" not in after and after["settle/lvs1"] == ("restore/lvs1",)
    changed = Wanted(topology, tuple(replace(n, settings="new") if n.node.name == "web2" else n for n in reset.nodes))
    after = {step.id: step.after for step in make(changed, seen).steps}
    assert after["settle/lvs1"] == ("prepare/lvs1", "settle/web2"), "it waits for the server that is not ready"


def test_many_nodes_have_one_golden_for_each_shape() -> None:
    nodes = [node(f"web{i}", 10 + i) for i in range(1, 21)]
    plan = make(warm(lab(*nodes), web2="big", web4="big"), NOTHING)
    assert sorted(step.subject for step in plan.steps if step.action is Action.ENSURE_GOLDEN) == ["big", "web"]
    assert len([step for step in plan.steps if step.action is Action.RESTORE]) == 20


@pytest.mark.parametrize(("goldens", "why"), [(frozenset(), "not made yet"), (frozenset({"web"}), "to be checked")])
def test_a_golden_that_is_there_is_checked_before_anybody_runs_from_it(goldens: frozenset[str], why: str) -> None:
    plan = make(warm(lab()), replace(NOTHING, goldens=goldens))
    assert [step.why for step in plan.steps if step.action is Action.ENSURE_GOLDEN] == [why]


def test_what_runs_needs_no_golden_and_one_more_needs_its_own() -> None:
    assert not make(warm(lab()), converged(lab()))
    grown = lab(node("web1", 11), node("web2", 12), node("web3", 13))
    seen = replace(converged(lab()), built=frozenset({"web:direct"}))
    plan = make(warm(grown, web3="big"), seen)
    assert deeds(plan) == ["ensure-golden/big", "make-clone/web3", "restore/web3", "settle/web3"]


def test_changed_settings_of_a_restored_guest_are_one_settle() -> None:
    changed = Wanted(lab(), tuple(replace(n, settings="new") for n in warm(lab()).nodes))
    assert deeds(make(changed, converged(lab()))) == ["settle/web1", "settle/web2"]


def test_cold_boots_and_a_guest_that_runs_stays_whichever_way_it_came() -> None:
    cold = Wanted(lab(), tuple(replace(n, golden="", restored=False) for n in warm(lab()).nodes))
    actions = {step.action for step in make(cold, NOTHING).steps}
    assert Action.BOOT in actions
    assert actions.isdisjoint({Action.ENSURE_GOLDEN, Action.RESTORE})
    assert not make(cold, converged(lab()))
