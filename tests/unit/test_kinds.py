"""The virt kinds: each one's domain XML is the golden one, and what differs between them is what their names promise."""

from __future__ import annotations

import pytest
from lxml import etree

from tests.unit.guest_nodes import FOLDER, LAB, TUNED, WEB1, clone
from tests.unit.lvs_golden import matches
from vlab.errors import UsageError
from vlab.hypervisors import xml
from vlab.hypervisors.kind import VirtKind, kind, names
from vlab.topology.lab import Node

KINDS = [kind(name) for name in names()]


def domain(virt: VirtKind, node: Node, host: str = "tcg") -> etree._Element:
    return virt.domain(LAB, node, clone(virt.form), virt.accelerator(host), FOLDER)


def test_the_kinds_of_version_1() -> None:
    assert names() == ["container", "emulated", "full", "para"]


@pytest.mark.parametrize("virt", KINDS, ids=names())
@pytest.mark.parametrize("host", ["kvm", "tcg"])
def test_domain_is_the_golden_one(virt: VirtKind, host: str) -> None:
    matches(f"xml/{virt.name}.{host}.xml", xml.text(domain(virt, WEB1, host)))


@pytest.mark.parametrize("virt", KINDS, ids=names())
def test_limits_and_two_networks_are_the_golden_ones(virt: VirtKind) -> None:
    matches(f"xml/{virt.name}.tuned.xml", xml.text(domain(virt, TUNED)))


@pytest.mark.parametrize("virt", KINDS, ids=names())
def test_every_kind_says_what_it_is(virt: VirtKind) -> None:
    assert virt.__doc__ and virt.title and virt.uri.endswith("///system")
    assert virt.cost(WEB1) >= WEB1.memory


def test_only_those_that_want_kvm_get_it() -> None:
    given = {virt.name: virt.accelerator("kvm") for virt in KINDS}
    assert given == {"container": "none", "emulated": "tcg", "full": "kvm", "para": "kvm"}
    assert {virt.accelerator("tcg") for virt in KINDS} == {"none", "tcg"}


def test_emulated_has_no_virtio_disk_or_network() -> None:
    made = domain(kind("emulated"), TUNED)
    assert made.xpath("//disk/target/@bus") == ["sata"]
    assert made.xpath("//interface/model/@type") == ["e1000", "e1000"]


def test_a_container_without_a_quota_is_held_to_its_cpus() -> None:
    assert domain(kind("container"), WEB1).xpath("string(//cputune/quota)") == str(xml.PERIOD)


def test_an_unknown_kind_is_met_with_the_nearest_name() -> None:
    with pytest.raises(UsageError) as near:
        kind("contaner")
    with pytest.raises(UsageError) as far:
        kind("xen")
    assert near.value.hint == "did you mean container?"
    assert far.value.hint == "one of: container, emulated, full, para"
