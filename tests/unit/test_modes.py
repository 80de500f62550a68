"""What each forwarding mode asks for, and that a mode is one class and nothing else."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import pytest

from tests.unit import lvs_labs
from vlab.errors import UsageError
from vlab.guests.settings import Route
from vlab.lvs.index import Role, index
from vlab.lvs.modes import ANYWHERE, ON_LINK, mode, names
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
    reasons = [[item.why for item in items] for items in (needs.tunnels, needs.sysctls, needs.addresses, needs.routes)]
    assert all(why for several in reasons for why in several)
