"""verify's judgements, fed with what real tools print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.unit import lvs_labs
from tests.unit.verify_world import World, checked, failed, web_db
from vlab.lvs.checks import Traffic
from vlab.lvs.ipvs import Counters, Destination, Virtual
from vlab.lvs.probe import Answers
from vlab.lvs.status import service_states
from vlab.topology.lab import Lab
from vlab.topology.ports import PortRange


@pytest.mark.parametrize("make", [web_db, lvs_labs.web_db, lvs_labs.tunnel], ids=["rr", "wlc", "tun"])
def test_a_lab_as_declared_passes(make: Callable[[], Lab]) -> None:
    found = checked(World(make()))
    assert [check for check in found.values() if not check.ok] == []
    service = make().services[0].name
    assert {
        f"service/{service}/{part}" for part in ("table", "reachable", "split", "connections", "replies")
    } <= found.keys()
    assert {"node/web1/settings", "node/lvs1/settings"} <= found.keys()


def test_a_pair_as_declared_passes_whichever_is_active() -> None:
    for holder in ("lvs1", "lvs2"):
        found = checked(World(lvs_labs.pair(), holders=(holder,)))
        assert [check for check in found.values() if not check.ok] == []
        waiting = {"lvs1": "lvs2", "lvs2": "lvs1"}[holder]
        assert {f"director/{waiting}/standby", "director/lvs/active", "director/lvs/sync"} <= found.keys()
        assert found["service/www/replies"].expected == f"replies pass {holder} (OutBytes above 0)"


def test_two_active_nodes_or_none_are_told() -> None:
    both = failed(World(lvs_labs.pair(), holders=("lvs1", "lvs2")))
    assert both["director/lvs/active"].found == "lvs1 has all; lvs2 has all"
    none = failed(World(lvs_labs.pair(), holders=()))
    assert none["director/lvs/active"].found == "lvs1 has none; lvs2 has none"


def test_a_pair_of_which_one_is_gone_is_told() -> None:
    found = checked(World(lvs_labs.pair(), dead={"lvs1"}, holders=("lvs2",)))
    assert found["director/lvs/active"].found == "lvs1 does not answer; lvs2 has all"
    assert found["director/lvs/active"].ok and found["service/www/table"].ok
    assert "www: 10.20.0.100:80/tcp is not in the table" in found["director/lvs1/standby"].found
    assert not any(found[id].ok for id in ("director/lvs1/standby", "director/lvs/sync", "node/lvs1/settings"))


def test_sync_is_as_declared_or_told() -> None:
    assert failed(World(lvs_labs.pair(sync=False), syncing=("", ""))) == {}
    found = failed(World(lvs_labs.pair(), syncing=("", "")))
    assert found["director/lvs/sync"].found == "lvs1 none, lvs2 none"


def test_a_second_run_passes_too_although_the_first_left_connections() -> None:
    world = World(lvs_labs.web_db())
    assert failed(world) == {} and failed(world) == {}


def test_a_stranger_who_asks_meanwhile_makes_verify_ask_once_more() -> None:
    world = World(web_db(), strangers=1)
    assert failed(world) == {}
    assert world.ran.count("perl") + world.ran.count("mariadb") == 3
    assert len(failed(World(web_db(), strangers=99))) == 2, "the counters of both services"


def test_counters_are_read_once_their_total_shows_every_request() -> None:
    world = World(web_db(), silent=3)
    assert failed(world) == {}
    assert world.looks == 4, "before the requests, and until it shows them"
    assert world.ran.count("ipvsadm") == 2, "the table before, the counters after"


def test_a_server_that_left_the_table_meanwhile_makes_verify_ask_once_more() -> None:
    world = World(web_db(), flapping="web2")
    assert failed(world) == {}
    assert world.ran.count("perl") == 2


def test_a_persistent_client_whose_ports_ip_vs_remembers_is_asked_again() -> None:
    assert failed(World(lvs_labs.web_db(), reused=2)) == {}


def test_a_table_that_keepalived_is_editing_is_read_again() -> None:
    assert all(check.ok for check in checked(World(web_db(), editing=2), settle=10.0).values())
    assert {id for id, check in checked(World(web_db(), editing=99), settle=1.0).items() if not check.ok} >= {
        "service/www/table"
    }


def test_servers_that_pass_their_checks_later_are_seen_in_a_file() -> None:
    world = World(web_db(), late=3)
    assert all(check.ok for check in checked(world, settle=10.0).values())
    assert world.ran.count("ipvsadm") == 2, "once while they were waited for, and the counters afterwards"


def test_counters_of_servers_that_are_late_are_waited_for() -> None:
    world = World(web_db(), behind=2)
    assert failed(world) == {}
    assert world.ran.count("ipvsadm") == 4, "before the requests, twice too early, and once more"


def test_a_server_that_leaves_meanwhile_takes_its_counters_with_it() -> None:
    (www,) = lvs_labs.direct().services
    (one, other, _) = (Destination(s.address, s.port, "Route", 1, 0, 0, Counters(conns=36)) for s in www.real_servers)
    before = Virtual("tcp", www.vip, www.port, "wrr", destinations=(one, other))
    after = replace(before, destinations=(replace(one, counters=Counters(conns=40)),))
    traffic = Traffic("client1", "lvs1", 12, Answers(), (www.vip,), before=before, after=after)
    assert traffic.connections(www) == {"web1": 4, "web2": 0, "web3": 0}


def test_services_of_one_director_share_its_table_and_nodes_are_inspected_last() -> None:
    world = World(web_db())
    assert failed(world) == {}
    assert world.ran.count("ipvsadm") == 2, "the table before the requests and the counters after them"
    assert world.ran[0] == "ipvsadm" and sorted(world.ran[1:3]) == ["mariadb", "perl"]
    assert world.ran.count("address show") == 7


def test_a_server_whose_health_check_fails_is_named_and_the_rest_still_judged() -> None:
    wrong = failed(World(web_db(), down={"web2"}))
    assert list(wrong) == ["service/www/table"]
    assert wrong["service/www/table"].found == "web2 is down (not in the table)"


def on_ports(*ports: PortRange) -> Lab:
    lab = web_db()
    www, sql = lab.services
    return replace(lab, services=(replace(www, port=ports[0].first, ports=ports), sql))


def test_each_port_of_a_list_is_asked_and_judged_by_its_own_row() -> None:
    world = World(on_ports(PortRange(80, 81)))
    found = checked(world)
    assert [check for check in found.values() if not check.ok] == []
    parts = ("reachable", "split", "connections", "replies")
    assert {f"service/www:{port}/{part}" for port in (80, 81) for part in parts} | {"service/www/table"} <= found.keys()
    assert "to 10.20.0.100:81 answered" in found["service/www:81/reachable"].expected
    assert world.ran.count("perl") == 1, "one process asks both"


def test_a_port_that_is_not_balanced_is_told_though_the_first_is() -> None:
    wrong = failed(World(on_ports(PortRange(80, 81)), stuck_port=81))
    assert set(wrong) == {"service/www:81/split", "service/www:81/connections"}


def test_a_port_that_nobody_answers_on_is_told_with_the_services_own_name() -> None:
    wrong = failed(World(on_ports(PortRange(80, 81)), silent_port=81))
    assert "vlab explain www shows" in wrong["service/www:81/reachable"].hint
    assert "service/www:80/reachable" not in wrong


def test_of_many_ports_the_first_the_last_and_some_between_are_asked() -> None:
    found = checked(World(on_ports(PortRange(80, 81), PortRange(8000, 8017))))
    asked = [id for id in found if id.startswith("service/www:") and id.endswith("/reachable")]
    assert asked == [f"service/www:{port}/reachable" for port in (80, 8004, 8010, 8017)]
    one = checked(World(on_ports(PortRange(80, 80))))
    assert "service/www/reachable" in one, "a list of one port is one service of the kernel"


def test_a_lopsided_split_is_seen_in_answers_and_counters() -> None:
    wrong = failed(World(web_db(), stuck=True))
    assert set(wrong) == {"service/www/split", "service/www/connections"}
    assert wrong["service/www/split"].found == "web1 12, web2 0, web3 0"
    assert wrong["service/www/split"].expected.startswith("answers: web1 4, web2 4, web3 4")


def test_replies_on_the_wrong_way_are_seen() -> None:
    wrong = failed(World(web_db(), reversed_path=True))
    assert wrong["service/www/replies"].found == "OutBytes 0"
    assert "bypass lvs1" in wrong["service/sql/replies"].expected


def test_a_dead_director_and_a_dead_client_are_failed_checks() -> None:
    wrong = failed(World(web_db(), dead={"lvs1", "client1"}))
    assert {"service/www/table", "service/www/reachable", "service/sql/table", "node/lvs1/settings"} <= wrong.keys()
    assert wrong["service/www/table"].found == "lvs1 does not answer"


def test_a_dead_real_server_is_a_failed_check() -> None:
    wrong = failed(World(web_db(), dead={"db3"}, down={"db3"}))
    assert set(wrong) == {"service/sql/table", "node/db3/settings"}


def test_sysctls_count_by_their_effect() -> None:
    key = "net/ipv4/conf/{}/arp_ignore"
    harmless = World(web_db(), touched={"db1": {key.format("eth0"): "0"}})
    assert failed(harmless) == {}
    wrong = failed(World(web_db(), touched={"db1": {key.format("eth0"): "0", key.format("all"): "0"}}))
    assert list(wrong) == ["node/db1/settings"]
    assert "net.ipv4.conf.eth0.arp_ignore is 0, not 1: dr:" in wrong["node/db1/settings"].found


def test_a_node_without_the_protocols_client_leaves_the_asking_to_the_next() -> None:
    world = World(web_db(), without={"web1": {"mariadb"}})
    assert "from web2" in checked(world)["service/sql/reachable"].expected


def test_where_no_node_has_the_client_counters_alone_prove_the_split() -> None:
    found = checked(World(web_db(), without={f"web{i}": {"mariadb"} for i in (1, 2, 3)}))
    assert found["service/sql/connections"].ok and found["service/sql/reachable"].ok
    assert "service/sql/split" not in found


def test_a_service_that_nobody_can_ask_says_what_to_add() -> None:
    lab = web_db()
    alone = replace(lab, nodes=tuple(node for node in lab.nodes if node.name != "client1"))
    assert failed(World(alone))["service/www/reachable"].hint == "add a group with image: client and networks: [front]"


def test_service_states_for_status() -> None:
    lab = lvs_labs.direct()
    (www,) = service_states(lab.services, {"lvs1": World(lab, down={"web2"}).channel("lvs1")})
    assert (www.director, www.vip, www.mode, www.scheduler) == ("lvs", IPv4Address("10.20.0.100"), "dr", "wrr")
    assert [(s.node, s.state, s.weight) for s in www.real_servers] == [
        ("web1", "up", 3), ("web2", "down", 1), ("web3", "quiesced", 0),
    ]  # fmt: skip
    (unknown,) = service_states(lab.services, {})
    assert {s.state for s in unknown.real_servers} == {"unknown"}
