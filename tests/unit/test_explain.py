"""``vlab explain``: every setting has a row and a reason; a service tells the way of a packet."""

from __future__ import annotations

import pytest

from tests.unit import lvs_labs
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


@pytest.mark.parametrize("make", [lvs_labs.web_db, lvs_labs.direct, lvs_labs.tunnel, lvs_labs.mixed])
def test_everything_can_be_explained(make: object) -> None:
    assert callable(make)
    lab = make()
    for name in [*(node.name for node in lab.nodes), *(service.name for service in lab.services)]:
        assert explain(lab, name)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="web9"):
        explain(lvs_labs.web_db(), "web9")
