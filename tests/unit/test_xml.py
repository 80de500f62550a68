"""The mark in a domain's metadata comes back as it went, and the digest changes when the guest must be made again."""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from tests.unit.guest_nodes import FOLDER, LAB, MARK, TUNED, WEB1, clone
from vlab.hypervisors import xml
from vlab.hypervisors.kind import kind
from vlab.hypervisors.mark import NAMESPACE, Mark
from vlab.plain import hints
from vlab.topology import family
from vlab.topology.lab import Node

# What XML can hold at all: no control characters but those it escapes, no surrogates.
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"))
ADDRESSES = st.ip_addresses(v=4)
SCALARS: dict[object, st.SearchStrategy[Any]] = {
    str: WORDS,
    int: st.integers(),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    IPv4Address: ADDRESSES,
    IPv6Interface: st.ip_addresses(v=6).map(lambda ip: IPv6Interface(f"{ip}/64")),
    family.Address: st.ip_addresses(),
    IPv4Interface: ADDRESSES.map(lambda ip: IPv4Interface(f"{ip}/24")),
}


def fitting(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type, so a field that is added to the shared types is tested without a word here."""
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return st.builds(hint, **{name: fitting(field) for name, field in hints(hint)})
    if get_origin(hint) is tuple:
        return st.lists(fitting(get_args(hint)[0]), max_size=2).map(tuple)
    if type(None) in get_args(hint):
        return st.none() | fitting(get_args(hint)[0])
    return SCALARS[hint]


@given(fitting(Mark))
def test_a_mark_comes_back_as_it_went(mark: Mark) -> None:
    parsed = etree.fromstring(etree.tostring(xml.mark_element(mark)))
    assert xml.read_mark(parsed) == mark


def test_a_mark_is_read_as_libvirt_hands_it_out_without_namespace() -> None:
    element = xml.mark_element(MARK)
    for item in element.iter():
        item.tag = etree.QName(item).localname
    assert xml.read_mark(element) == MARK


def test_another_versions_mark_is_refused() -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        xml.read_mark(etree.fromstring(f'<mark xmlns="{NAMESPACE}" lab="shop"/>'))


def test_a_marked_domain_holds_the_mark() -> None:
    parsed = etree.fromstring(xml.marked(domain(), MARK))
    element = parsed.find(f"metadata/{{{NAMESPACE}}}mark")
    assert element is not None
    assert xml.read_mark(element) == MARK
    assert xml.text(domain()).count("vlab.invalid") == 0, "the domain itself stays unmarked"


def test_the_digest_is_that_of_the_domain_and_its_image() -> None:
    one = xml.digest(domain(), "image")
    assert one == xml.digest(domain(), "image")
    assert len({one, xml.digest(domain(), "other"), xml.digest(domain(TUNED), "image")}) == 3


def test_every_resource_limit_changes_the_digest() -> None:
    variants = [
        replace(WEB1, memory=1 << 29),
        replace(WEB1, cpus=2),
        replace(WEB1, cpu_shares=10),
        replace(WEB1, cpu_quota=0.1),
    ]
    assert len({xml.digest(domain(node)) for node in [WEB1, *variants]}) == 5


def domain(node: Node = WEB1) -> xml.Element:
    return kind("para").domain(LAB, node, clone("direct"), "tcg", FOLDER)
