"""A lab that another version of vlab made, beside one of ours: named, passed over and taken away, but never a reason to refuse the others.

libvirt's own test driver stands in for hosts' drivers: it keeps domains and metadata in this process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from tests.unit.guest_nodes import MARK, WEB1
from vlab.cli.app import NodeName
from vlab.cli.labs import one_domain
from vlab.cli.verbs.images import _in_use
from vlab.engine.audit import Leftover, audit
from vlab.engine.drivers import Drivers
from vlab.engine.labs import lab_names
from vlab.engine.lifecycle import down
from vlab.engine.observe import observe, observe_any
from vlab.errors import ConflictError
from vlab.hypervisors import xml
from vlab.hypervisors.connection import Hypervisors
from vlab.hypervisors.mark import NAMESPACE, PREFIX
from vlab.plan import remove
from vlab.state import Paths
from vlab.topology.identity import node_uuid

URI = "test:///default"
NEW, OLD = "t-unit-new", "t-unit-old"


@pytest.fixture
def drivers(tmp_path: Path) -> Iterator[Drivers]:
    """A lab of ours and one of another version, of a guest each."""
    made = Drivers(Paths(tmp_path), Hypervisors((URI,)))
    for lab, node in ((NEW, "web1"), (OLD, "edge1")):
        made.hypervisors.start(URI, domain(lab, node))
    mark_anew(OLD, "edge1", f"<mark lab='{OLD}'><node name='edge1' image='web'/></mark>")
    yield made
    found, unreadable = made.hypervisors.survey()
    for ours in found:
        made.hypervisors.destroy(ours)
    for other in unreadable:
        made.hypervisors.destroy(other)


def domain(lab: str, node: str) -> str:
    text = (
        f"<domain type='test'><name>vlab-{lab}.{node}</name><uuid>{node_uuid(lab, node)}</uuid><memory>1024</memory>"
        "<os><type>hvm</type></os><metadata/></domain>"
    )
    return xml.marked(etree.fromstring(text), replace(MARK, lab=lab, node=replace(WEB1, name=node)))


def mark_anew(lab: str, node: str, mark: str) -> None:
    import libvirt

    handle = libvirt.open(URI).lookupByName(f"vlab-{lab}.{node}")
    handle.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, mark, PREFIX, NAMESPACE, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def labs(drivers: Drivers) -> list[str]:
    """Whatever else runs on this host has a namespace, which anybody can see."""
    return [lab for lab in lab_names(drivers) if lab in (NEW, OLD)]


def leftovers(drivers: Drivers) -> list[Leftover]:
    return [left for left in audit(drivers) if left.lab in (NEW, OLD)]


def test_it_is_in_the_way_of_its_own_lab_only(drivers: Drivers) -> None:
    assert [found.name for found in drivers.hypervisors.domains(NEW)] == [f"vlab-{NEW}.web1"]
    with pytest.raises(ConflictError, match=f"domain vlab-{OLD}.edge1 carries a mark") as told:
        drivers.hypervisors.domains(OLD)
    assert f"vlab down {OLD}" in told.value.hint
    found, (unreadable,) = drivers.hypervisors.survey()
    assert [each.name for each in found] == [f"vlab-{NEW}.web1"]
    assert (unreadable.lab, unreadable.node, unreadable.image, unreadable.state) == (OLD, "edge1", "web", "running")
    assert labs(drivers) == [NEW, OLD]


def test_audit_names_it_once_and_what_removes_it(drivers: Drivers) -> None:
    assert leftovers(drivers) == [Leftover("unreadable lab", OLD, OLD, f"vlab down {OLD}")]


def test_down_takes_it_away_and_leaves_the_other(drivers: Drivers) -> None:
    with pytest.raises(ConflictError):
        observe(drivers, OLD)
    assert [step.id for step in remove(observe_any(drivers, OLD)).steps] == ["destroy/edge1"]
    down(drivers, OLD)
    assert labs(drivers) == [NEW]
    assert leftovers(drivers) == []


def test_an_image_that_it_may_stand_on_is_in_use(drivers: Drivers) -> None:
    assert _in_use(drivers, ["base"]) == [
        f"web: {NEW}/web1", f"web: {OLD}/edge1, which another version of vlab made",
    ]  # fmt: skip
    assert _in_use(drivers, ["db"]) == []
    mark_anew(OLD, "edge1", f"<mark lab='{OLD}'/>")
    assert _in_use(drivers, ["db"]) == [f"unknown: {OLD}/edge1, which another version of vlab made"]


def test_a_node_without_its_lab_is_one_of_a_lab_that_can_be_read(drivers: Drivers) -> None:
    assert one_domain(drivers, NodeName("", "web1")).mark.lab == NEW
    with pytest.raises(ConflictError, match="carries a mark"):
        one_domain(drivers, NodeName(OLD, "edge1"))
