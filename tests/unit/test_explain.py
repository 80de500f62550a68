"""``vlab explain``: every setting has a row and a reason; a service tells the way of a packet."""

from __future__ import annotations

import pytest

from tests.unit import lvs_labs
from tests.unit.service_key_labs import keys
from vlab.errors import UsageError
from vlab.lvs.explain import explain


def test_a_node_has_its_parts_and_a_reason_for_every_setting() -> None:
    rows = explain(lvs_labs.web_db(), "web1")
    assert rows[1].setting == "real server of www"
    assert all(row.why for row in rows)
    assert ("route", "default via 10.30.0.2 on eth0") in {(row.subject, row.setting) for row in rows}
    assert any(row.setting == "send_redirects=0 on all, default, eth0" for row in rows)


def test_a_service_tells_the_way_of_a_packet_and_the_split() -> None:
    rows = explain(lvs_labs.direct(), "www")
    text = [row.setting for row in rows]
    assert rows[0].setting == "10.20.0.100:80/tcp, wrr, dr"
    assert any("client1 asks by ARP for 10.20.0.100; only lvs1 answers" in line for line in text)
    assert "one turn: web1 web1 web1 web2" in text


@pytest.mark.parametrize(
    "make", [lvs_labs.web_db, lvs_labs.direct, lvs_labs.tunnel, lvs_labs.mixed, lvs_labs.pair, keys]
)
def test_everything_can_be_explained(make: object) -> None:
    assert callable(make)
    lab = make()
    for name in [*(node.name for node in lab.nodes), *(service.name for service in lab.services)]:
        assert explain(lab, name)


def test_a_pair_says_what_floats_and_why() -> None:
    rows = explain(lvs_labs.pair(), "lvs2")
    told = {row.setting: row.why for row in rows if row.subject == "pair"}
    assert "VRRP id 51, priority 190" in told
    assert told["10.30.0.4 on back floats"] == "nat real servers route to it; only the active node has it"
    assert {"preempt: false", "sync: true"} <= told.keys()
    assert "default via 10.30.0.4 on eth0" in {row.setting for row in explain(lvs_labs.pair(), "web1")}


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="web9"):
        explain(lvs_labs.web_db(), "web9")
