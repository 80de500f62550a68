"""A running service goes to another mode: the order of the steps, what lives together meanwhile, and when the director has switched."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import permutations

import pytest

from tests.unit import lvs_labs
from vlab import plan
from vlab.guests.base import Result
from vlab.hypervisors.mark import Domain, Mark
from vlab.lvs import procfs, switching
from vlab.lvs.modes import names
from vlab.lvs.moves import moves
from vlab.lvs.settings import for_node
from vlab.plan import Action, FoundBridge, Observed, Plan, Wanted, WantedNode
from vlab.topology.lab import Lab, Tunnel


def in_mode(mode: str) -> Lab:
    """The three web servers on back, both networks routed, one service."""
    lab = lvs_labs.web_db()
    www = replace(lab.services[0], mode=mode)
    return replace(
        lab, services=(www,), networks=tuple(replace(network, routed=True) for network in lab.networks)
    )  # fmt: skip


def step_plan(before: Lab, after: Lab, *, booting: str = "") -> Plan:
    """From ``before`` running to ``after``; the settings of all nodes differ; ``booting`` is made again."""
    domains = {
        node.name: Domain(
            node.name, "", "running", 7,
            Mark(before.name, before.name, node, "tcg", "other" if node.name == booting else "d", "old",
                 before.services if node.group == "lvs" else ()),
        )
        for node in before.nodes
    }  # fmt: skip
    bridges = tuple(FoundBridge(n.bridge, n.name, n.mtu, f"{n.gateway}/{n.subnet.prefixlen}") for n in before.networks)
    ports = {nic.device: before.network(nic.network).bridge for node in before.nodes for nic in node.nics}
    observed = Observed(
        namespace=True, bridges=bridges, ports=ports, domains=domains, built=frozenset({"web:rootfs", "director:rootfs"}),
        clones=frozenset(domains), routed=frozenset(n.bridge for n in before.networks if n.routed),
    )  # fmt: skip
    made = plan.make(Wanted(after, tuple(WantedNode(n, "rootfs", "vm", "d", "new") for n in after.nodes)), observed)
    # In these labs both of a director's devices have one name, so one of them is always on the wrong bridge.
    return made.only(*(set(Action) - {Action.ATTACH}))


def test_real_servers_are_prepared_the_director_switches_and_then_the_old_goes() -> None:
    after = {step.id: step.after for step in step_plan(in_mode("nat"), in_mode("dr")).steps}
    assert set(after["settle/lvs1"]) == {"prepare/web1", "prepare/web2", "prepare/web3"}
    assert after["prepare/web1"] == ()
    assert set(after["settle/web1"]) == {"prepare/web1", "settle/lvs1"}
    assert after["settle/db1"] == ()


def test_the_reason_says_what_goes_where() -> None:
    steps = {step.id: step for step in step_plan(in_mode("nat"), in_mode("dr")).steps}
    assert steps["prepare/web1"].why == "www goes from nat to dr: both work until the director has switched"


def test_without_a_switch_nobody_is_prepared() -> None:
    heavier = in_mode("nat")
    www = replace(heavier.services[0], scheduler="rr")
    steps = step_plan(in_mode("nat"), replace(heavier, services=(www,))).steps
    assert {step.action for step in steps} == {Action.SETTLE}
    assert all(step.after == () for step in steps)


def test_a_director_that_is_made_again_waits_for_real_servers_and_not_they_for_it() -> None:
    after = {step.id: step.after for step in step_plan(in_mode("nat"), in_mode("dr"), booting="lvs1").steps}
    assert "prepare/web1" not in after
    assert {"settle/web1", "settle/web2", "settle/web3"} <= set(after["settle/lvs1"])
    assert after["settle/web1"] == ()


@pytest.mark.parametrize(("one", "two"), list(permutations(names(), 2)))
def test_while_both_modes_work_nothing_of_either_is_missing(one: str, two: str) -> None:
    had, wanted = (for_node(lab, lab.node("web1")) for lab in (in_mode(one), in_mode(two)))
    together = switching.both(had, wanted)
    for settings in (had, wanted):
        assert set(settings.tunnels) <= set(together.tunnels)
        assert set(settings.addresses) <= set(together.addresses)
        assert set(settings.rules) <= set(together.rules)
        values = {item.key: int(item.value) for item in together.sysctls}
        assert all(int(item.value) <= values[item.key] for item in settings.sysctls)
    places = [(route.destination, route.table) for route in together.routes]
    assert len(places) == len(set(places))
    assert (together.files, together.units, together.links) == (had.files, had.units, had.links)


def test_what_moves_is_the_way_of_forwarding_and_nothing_else() -> None:
    (www,) = in_mode("tun").services
    assert moves([www], [replace(www, scheduler="rr", persistence=300)]) == {}
    assert moves([www], [replace(www, tunnel=Tunnel("gre", 6080, "none"))]) == {"www": "from tun to tun"}
    assert moves([], [www]) == {}
    assert moves([www], []) == {}


SAVED = """\
-A -t 10.20.0.100:80 -s rr
-a -t 10.20.0.100:80 -r 10.30.0.11:80 -g -w 1
-a -t 10.20.0.100:80 -r 10.30.0.12:80 {} -w 1
"""


def test_a_director_has_switched_when_every_server_that_is_up_is_forwarded_to_so() -> None:
    services = in_mode("dr").services
    assert switching.landed(services, SAVED.format("-g"))
    assert not switching.landed(services, SAVED.format("-m"))
    assert switching.landed(services, SAVED.splitlines()[0] + "\n")
    assert not switching.landed(services, "")


LISTED = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A140064:0050 rr
  -> 0A1E000B:0050      Route   1      0          0
  -> 0A1E000C:0050      {}    1      2          3
"""


def test_the_kernels_own_listing_tells_the_modes_apart() -> None:
    services = in_mode("dr").services
    assert switching.forwarded(services, procfs.table(LISTED.format("Route")))
    assert not switching.forwarded(services, procfs.table(LISTED.format("Masq")))
    assert not switching.forwarded(services, procfs.table(""))


def test_only_a_change_within_a_mode_looks_the_same_in_it() -> None:
    (www,) = in_mode("tun").services
    gre = replace(www, tunnel=Tunnel("gre", 6080, "none"))
    assert switching.alike([www], [gre])
    assert not switching.alike([www], [replace(www, scheduler="rr")])
    assert not switching.alike(in_mode("dr").services, [gre])


class Director:
    """One that takes two looks to switch; remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def get(self, path: str) -> bytes:
        self.told.append(path)
        return LISTED.format("Route" if self.told.count(path) > 2 else "Masq").encode()

    def feed(self, path: str, content: bytes) -> None:
        assert content == b"1\n"
        self.told.append(path)

    def run(self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0) -> Result:
        raise AssertionError(f"no process is needed: {argv}, {input!r}, {timeout}")

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        raise AssertionError(f"{path}, {content!r}, {mode}")

    def wait(self, timeout: float) -> None:
        """Always there."""

    def shell(self) -> Sequence[str] | None:
        return None


def test_a_director_is_waited_for_and_its_routes_are_flushed_until_the_last_look() -> None:
    director, began = Director(), time.monotonic()
    switching.wait(director, in_mode("nat").services, in_mode("dr").services)
    assert time.monotonic() - began >= switching.GRACE
    flush, table = "/proc/sys/net/ipv4/route/flush", "/proc/net/ip_vs"
    assert director.told[:6] == [flush, table] * 3
    assert set(director.told[6:]) == {flush}


def test_a_director_has_switched_when_the_tunnel_is_the_declared_one() -> None:
    (www,) = in_mode("tun").services
    line = "-A -t 10.20.0.100:80 -s rr\n-a -t 10.20.0.100:80 -r 10.30.0.11:80 -i -w 1 --tun-type {}\n"
    shown = {
        Tunnel("ipip", 6080, "none"): line.format("ipip"),
        Tunnel("gre", 6080, "none"): line.format("gre --tun-nocsum"),
        Tunnel("gue", 6080, "none"): line.format("gue --tun-port 6080 --tun-nocsum"),
        Tunnel("gue", 7000, "none"): line.format("gue --tun-port 7000 --tun-nocsum"),
        Tunnel("gue", 7000, "remote"): line.format("gue --tun-port 7000 --tun-remcsum"),
    }
    for tunnel in shown:
        fits = [other for other, saved in shown.items() if switching.landed([replace(www, tunnel=tunnel)], saved)]
        assert fits == [tunnel]


@pytest.mark.parametrize("way", [("nat", "dr"), ("tun", "nat")])
def test_the_prepared_server_answers_both_ways_at_once(way: tuple[str, str]) -> None:
    had, wanted = (for_node(lab, lab.node("web1")) for lab in map(in_mode, way))
    together = switching.both(had, wanted)
    ways = {(route.table, route.via) for route in together.routes if route.destination.prefixlen == 0}
    assert all(route.destination.prefixlen == 0 for route in together.routes if route.table is None)
    assert ways == {(None, IPv4Address("10.30.0.2")), (100, IPv4Address("10.30.0.254"))}
