"""What each forwarding mode asks for, and that a mode is one class and nothing else."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import pytest

from tests.unit import lvs_labs
from vlab.errors import UsageError
from vlab.guests.settings import Route
from vlab.lvs.index import Role, index
from vlab.lvs.modes import ANYWHERE, ON_LINK, Needs, mode, names
from vlab.lvs.settings import for_node
from vlab.topology.lab import Lab


def role(lab: Lab, node: str) -> Role:
    return index(lab).serving[node][0]


def values(lab: Lab, node: str) -> dict[str, str]:
    it = role(lab, node)
    return {
        item.key.removeprefix("net/ipv4/conf/"): item.value for item in mode(it.service.mode).real_server(it).sysctls
    }


def test_the_modes_are_those_of_the_topology_language() -> None:
    assert names() == ["nat", "dr", "tun"]


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="fullnat") as caught:
        mode("fullnat")
    assert caught.value.hint == "modes: nat, dr, tun"


@pytest.mark.parametrize("name", ["nat", "dr", "tun"])
def test_each_mode_says_what_it_is(name: str) -> None:
    it = mode(name)
    assert it.title and it.keepalived and it.ipvsadm
    words = {"client": "client1", "vip": "10.0.0.1", "director": "lvs1", "server": "web1"}
    assert all("{" not in step.format(**words) for step in it.path)


def test_nat_real_servers_reply_through_the_director() -> None:
    it = role(lvs_labs.web_db(), "web1")
    assert mode("nat").real_server(it).routes == (Route(ANYWHERE, IPv4Address("10.30.0.2"), "eth0"),)
    assert mode("nat").replies_through_director


def test_dr_real_servers_own_the_vip_and_keep_silent_about_it() -> None:
    it = role(lvs_labs.web_db(), "db1")
    needs = mode("dr").real_server(it)
    assert [(a.device, a.address) for a in needs.addresses] == [("lo", IPv4Interface("10.30.0.200/32"))]
    assert values(lvs_labs.web_db(), "db1") == {
        "all/arp_ignore": "1", "eth0/arp_ignore": "1", "all/arp_announce": "2", "eth0/arp_announce": "2",
    }  # fmt: skip
    assert needs.routes == ()


def test_tun_real_servers_decapsulate_and_announce_segments_that_fit() -> None:
    it = role(lvs_labs.tunnel(), "web1")
    needs = mode("tun").real_server(it)
    assert [(t.name, t.kind, t.local) for t in needs.tunnels] == [("vlab-ipip1", "ipip", IPv4Address("10.30.0.11"))]
    found = values(lvs_labs.tunnel(), "web1")
    assert {key for key, value in found.items() if key.endswith("rp_filter") and value == "0"} == {
        "all/rp_filter", "vlab-ipip1/rp_filter", "eth1/rp_filter", "eth0/rp_filter",
    }  # fmt: skip
    assert [(str(r.destination), r.via, r.device, r.advmss) for r in needs.routes] == [
        ("10.20.0.0/25", ON_LINK, "eth0", 1440), ("10.20.0.128/25", ON_LINK, "eth0", 1440),
    ]  # fmt: skip


def test_tun_needs_no_smaller_segments_where_the_inner_network_has_room() -> None:
    it = role(lvs_labs.tunnel(), "web1")
    front, back = it.node.nics
    roomy = replace(it, node=replace(it.node, nics=(front, replace(back, mtu=1600))))
    assert mode("tun").real_server(roomy).routes == ()


def test_only_tun_needs_something_of_a_containers_host() -> None:
    service = lvs_labs.web_db().services[0]
    assert {name: mode(name).host_features(service) for name in names()} == {"nat": (), "dr": (), "tun": ("ipip",)}


def test_each_tunnel_has_its_device_its_words_and_its_room() -> None:
    lab = lvs_labs.wrapped()
    udp, gre = (mode("tun").real_server(each) for each in index(lab).serving["web1"])
    assert [(t.name, t.kind) for t in udp.tunnels] == [("vlab-ipip0", "ipip")]
    assert [port.port for port in udp.fou_ports] == [6080]
    assert [(t.name, t.kind) for t in gre.tunnels] == [("vlab-gre0", "gre")]
    assert gre.fou_ports == ()
    assert [mode("tun").lvs_method(s) for s in lab.services] == ["TUN type gue port 6080 remcsum", "TUN type gre"]
    # 1500 less the outer headers (20 + 8 + 4 + 8, and 20 + 4), less 40 of IP and TCP.
    assert [route.advmss for needs in (udp, gre) for route in needs.routes] == [1420, 1436]
    assert [mode("tun").host_features(s) for s in lab.services] == [("ipip", "fou"), ("ip_gre",)]


def test_of_two_tunnels_the_smaller_room_serves_both() -> None:
    lab = lvs_labs.wrapped()
    routes = for_node(lab, lab.node("web1")).routes
    assert [(route.table, route.advmss) for route in routes if route.table] == [(100, 1420)]


def test_with_snat_real_servers_need_nothing_and_the_director_tracks_connections() -> None:
    lab = lvs_labs.full_nat()
    assert mode("nat").real_server(role(lab, "web1")) == Needs()
    needs = mode("nat").director(index(lab).directing["lvs1"][0])
    assert {item.key: item.value for item in needs.sysctls}["net/ipv4/vs/conntrack"] == "1"
    assert "net/ipv4/vs/conntrack" not in {
        item.key for item in mode("nat").director(index(lvs_labs.web_db()).directing["lvs1"][0]).sysctls
    }
    assert any("rewrites the source from {client}" in step for step in mode("nat").steps(lab.services[0]))


def test_real_servers_off_the_vips_network_answer_through_the_labs_gateway() -> None:
    lab = lvs_labs.routed()
    nat, dr, tun = index(lab).serving["web1"]
    assert mode("nat").real_server(nat).rules == ()
    for it in (dr, tun):
        needs = mode(it.service.mode).real_server(it)
        assert [(rule.source, rule.table) for rule in needs.rules] == [(it.service.vip, 100)]
        assert [(r.destination, r.via, r.table) for r in needs.routes] == [(ANYWHERE, IPv4Address("10.30.0.254"), 100)]


@pytest.mark.parametrize("name", ["nat", "dr", "tun"])
def test_every_director_forwards_and_sends_no_redirects(name: str) -> None:
    it = index(lvs_labs.web_db()).directing["lvs1"][0]
    needs = mode(name).director(it)
    found = {item.key: item.value for item in needs.sysctls}
    assert found.pop("net/ipv4/ip_forward") == "1"
    assert found == {f"net/ipv4/conf/{d}/send_redirects": "0" for d in ("all", "default", "eth0", "eth1")}
    assert [(a.device, str(a.address)) for a in needs.addresses] == [("eth0", "10.20.0.100/32")]


@pytest.mark.parametrize("name", ["nat", "dr", "tun"])
def test_every_item_says_why(name: str) -> None:
    lab = lvs_labs.tunnel()
    needs = mode(name).real_server(role(lab, "web1"))
    parts = (needs.tunnels, needs.sysctls, needs.addresses, needs.routes, needs.rules, needs.fou_ports)
    reasons = [[item.why for item in items] for items in parts]
    assert all(why for several in reasons for why in several)
