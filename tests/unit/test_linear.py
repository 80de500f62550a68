"""Each guest costs what the one before did, counted and not timed: a look-up that walks all nodes cannot come back unnoticed.

Counted are the interpreter's steps (bytecodes), so loops without calls count too. Work inside C is not seen by that: the one text
that is as long as the lab, /etc/hosts, has a test of its own.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.unit import lvs_labs
from vlab.cli.report import aligned
from vlab.engine.drivers import Drivers
from vlab.engine.executor import Schedule
from vlab.engine.room import Room
from vlab.engine.wanted import targets, wanted
from vlab.guests.transition import digest
from vlab.host.pressure import Gauge
from vlab.hypervisors.connection import Hypervisors
from vlab.hypervisors.mark import Domain, Mark
from vlab.lvs.settings import for_node
from vlab.plan import NOTHING, Observed, Plan, Wanted, make, remove
from vlab.state import Paths
from vlab.topology.addressing import complete
from vlab.topology.lab import Lab
from vlab.topology.parse import Source, parse

GUESTS = 60
MOST_GROWTH = 1.02


class Alone(Drivers):
    """Drivers of a host without libvirt."""

    def versions(self, uri: str) -> str:  # noqa: ARG002 - as of the one it stands for
        return ""


DRIVERS = Alone(Paths(Path("/state")), Hypervisors())

TOPOLOGY = """\
vlab: 1
name: lab{count}
networks: {{front: {{subnet: 10.{count}.0.0/16}}, back: {{subnet: 10.{next}.0.0/16}}}}
groups:
  web: {{count: {count}, virt: {virt}, image: web, networks: [front, back]}}
directors:
  lvs:
    networks: [front, back]
    services:
      www: {{vip: 10.{count}.200.1, port: 80, mode: {mode}, scheduler: rr, real_servers: web}}
      tls: {{vip: 10.{count}.200.1, port: 443, mode: {mode}, scheduler: rr, real_servers: web}}
"""
# Labs of different sizes have no value in common, or the results that are kept would serve the next lab.


def work(do: Callable[[], object]) -> int:
    """How many steps the interpreter takes for ``do``."""
    steps, before = 0, sys.gettrace()

    def count(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal steps
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        steps += event == "opcode"
        return count

    sys.settrace(count)
    try:
        do()
    finally:
        sys.settrace(before)
    return steps


def growth(do: Callable[[int], Callable[[], object]]) -> float:
    """The work for the third sixty guests by that for the second; ``do`` prepares what is measured."""
    do(2)()  # what is done once: imports, regular expressions, kept results
    one, two, three = (work(do(times * GUESTS)) for times in (1, 2, 3))
    return (three - two) / (two - one)


def lab(count: int, virt: str = "container", mode: str = "dr") -> Lab:
    text = TOPOLOGY.format(count=count, next=count + 1, virt=virt, mode=mode)
    return complete(parse(Source("big.yaml", text), images=DRIVERS.recipes))


def wants(of: Lab) -> Wanted:
    """With the digests of all nodes, as where all of them are there."""
    return wanted(of, targets(DRIVERS, of, "tcg", "ssh-ed25519 AAAA me"), {node.name for node in of.nodes})


def running(of: Wanted, settings: str) -> Observed:
    """Everything is there, with these settings' digest."""
    return Observed(
        namespace=True,
        ports={nic.device: "elsewhere" for n in of.nodes for nic in n.node.nics},
        domains={
            n.node.name: Domain(
                n.node.name, "lxc:///system", "running", 7, Mark("big", "big", n.node, "none", n.domain, settings)
            )
            for n in of.nodes
        },
        clones=frozenset(n.node.name for n in of.nodes),
    )


def run_through(plan: Plan) -> int:
    """Every step ends as soon as it may start."""
    schedule, room, done = Schedule(plan.steps), Room("tcg", Gauge(), cores=2), 0
    while started := schedule.start(room):
        for step in started:
            schedule.end(step)
        done += len(started)
    return done


@pytest.mark.parametrize(("virt", "mode"), [("container", "dr"), ("para", "tun")])
def test_from_the_file_to_the_printed_plan(virt: str, mode: str) -> None:
    def planned(count: int) -> Callable[[], object]:
        return lambda: list(aligned(("step",), [(s.id,) for s in make(wants(lab(count, virt, mode)), NOTHING).steps]))

    assert growth(planned) < MOST_GROWTH


def test_planning_for_what_runs() -> None:
    def planned(count: int) -> Callable[[], object]:
        of = wants(lab(count))
        found = running(of, "old")
        return lambda: (make(of, found), remove(found))

    assert growth(planned) < MOST_GROWTH


def test_deciding_what_runs_next() -> None:
    def scheduled(count: int) -> Callable[[], object]:
        of = wants(lab(count))
        plans = make(of, NOTHING), remove(running(of, ""))
        return lambda: (run_through(plans[0]), run_through(plans[1]))

    assert growth(scheduled) < MOST_GROWTH


def test_the_names_of_the_lab_are_digested_once_not_for_each_node() -> None:
    big = lvs_labs.big(2000)
    settings = [for_node(big, node) for node in big.nodes[:550]]
    known, made = settings[:500], settings[500:]
    tracemalloc.start()
    try:
        for each in known:
            digest(each)  # until the caches are full: what they take up from now on replaces as much
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        assert len({digest(each) for each in made}) == len(made)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most - before < len(made[0].files[0].content) / 2, "no copy of /etc/hosts was made for another node"


def test_another_name_changes_every_nodes_digest() -> None:
    before = lvs_labs.web_db()
    client = next(node for node in before.nodes if node.name == "client1")
    after = replace(before, nodes=tuple(replace(n, name="guest1") if n is client else n for n in before.nodes))
    for node in before.nodes:
        assert digest(for_node(before, node)) != digest(for_node(after, node)), node.name
