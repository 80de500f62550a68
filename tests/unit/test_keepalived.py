"""keepalived.conf: golden files. keepalived's own opinion of them is ``live/test_keepalived.py``'s."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit import lvs_labs
from tests.unit.lvs_golden import matches
from tests.unit.service_key_labs import keys
from vlab.lvs.keepalived import render
from vlab.topology.lab import Lab

LABS = [*lvs_labs.SHAPES, keys]


@pytest.mark.parametrize("make", LABS, ids=lambda make: make.__name__)
def test_text_is_the_golden_one(make: Callable[[], Lab]) -> None:
    lab = make()
    matches(f"keepalived/{lab.name}.conf", render(lab, lab.node("lvs1")))


@pytest.mark.parametrize("make", LABS, ids=lambda make: make.__name__)
def test_nothing_is_left_to_keepaliveds_defaults(make: Callable[[], Lab]) -> None:
    lab = make()
    text, each = render(lab, lab.node("lvs1")), [one for service in lab.services for one in service.each()]
    for word in ("protocol", "lvs_sched", "lvs_method", "delay_loop", "connect_timeout", "retry", "delay_before_retry"):
        unmarked = [s for s in each if word != "protocol" or s.fwmark is None]
        assert len(re.findall(rf"^    {word} +\S", text, re.MULTILINE)) == len(unmarked)
    assert "vrrp_strict" not in text
    assert text.count("persistence_timeout") == sum(s.persistence is not None for s in each)


def test_a_path_with_keepaliveds_own_marks_is_quoted() -> None:
    lab = lvs_labs.direct()
    (www,) = lab.services
    edited = replace(lab, services=(replace(www, check=replace(www.check, path="/a!b")),))
    assert 'path "/a!b"\n' in render(edited, edited.node("lvs1"))
