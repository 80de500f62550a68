"""What an IPv6 service can be told beside its mode: marks, persistence netmasks, snat, tunnels, routed networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network

import pytest

from tests.unit import labs, lvs_labs
from tests.unit.test_plan import converged, wanted
from vlab.guests.network_script import change, setup
from vlab.guests.settings import FouPort, Rule, Settings
from vlab.host import routing
from vlab.lvs import inspect, ipvs, listing, marks, procfs, resting, snat, switching
from vlab.lvs.explain import explain
from vlab.lvs.index import index
from vlab.lvs.ipvsadm import typed
from vlab.lvs.modes import ANYWHERE6, mode
from vlab.lvs.settings import for_node
from vlab.plan import Action, make
from vlab.topology.addressing import complete
from vlab.topology.lab import Lab, Network, Service
from vlab.topology.parse import Source, parse

KEYS = lvs_labs.ipv6_keys()


def service(name: str) -> Service:
    return next(service for service in KEYS.services if service.name == name)


def of(node: str) -> Settings:
    return for_node(KEYS, KEYS.node(node))


def said(name: str) -> list[str]:
    return list(typed(service(name), mode(service(name).mode).ipvsadm))


# Marks and persistence.

MARKED = """\
Prot LocalAddress:Port Scheduler Flags
FWM  6 rr
  -> 10.30.0.9:0   Masq    1      0          0
FWM  6 IPv6 rr persistent 60 mask 112
  -> [fd00:30::31]:0   Masq    1      2          3
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
FWM  6                                   9        9        9        9        9
FWM  6 IPv6                              4        8        7       80       70
  -> [fd00:30::31]:0                     4        8        7       80       70
"""


def test_the_mark_of_an_ipv6_service_is_another_than_ipv4s_of_the_same_number() -> None:
    found = ipvs.parse(MARKED).of(service("mark6"))
    assert found is not None and (found.persistence, found.netmask, found.counters.conns) == (60, 112, 4)
    (server,) = found.destinations
    assert (server.address, server.active, server.counters.in_packets) == (IPv6Address("fd00:30::31"), 2, 8)
    assert ipvs.counted(ipvs.parse(MARKED), MARKED) == ipvs.parse(MARKED)
    entry = next(it for it in listing.entries(MARKED, "lvs1", [service("mark6")]) if it.name)
    assert (entry.address, [(s.node, s.state) for s in entry.real_servers]) == (
        "FWM 6 IPv6", [("app1", "up"), ("app2", "down")],
    )  # fmt: skip


def test_the_kernels_own_file_tells_a_marks_family_by_its_destinations() -> None:
    server = "  -> [fd00:0030:0000:0000:0000:0000:0000:0031]:0000      Masq    1      0          0"
    table = procfs.table(f"FWM  00000006 rr\n{server}\nFWM  00000007 rr\n")
    found = table.of(service("mark6"))
    assert found is not None and [str(each.address) for each in found.destinations] == ["fd00:30::31"]
    assert table.service(ipvs.FWMARK, ipvs.NO_ADDRESS, 7) is not None


def test_templates_of_a_mark_have_it_in_the_first_word_of_an_address() -> None:
    seen = """\
IP  00:57  ASSURED     [fd00:20::]:0      [0:6::]:0          [fd00:30::31]:0
TCP 14:58  ESTABLISHED [fd00:20::121]:41235   [fd00:20::103]:81     [fd00:30::31]:81
TCP 14:58  ESTABLISHED [fd00:20::121]:41236   [fd00:20::100]:80     [fd00:30::31]:80
"""
    assert (resting.templates(seen, service("mark6"), "app1"), resting.templates(seen, service("mark6"), "app2")) == (
        1,
        0,
    )
    assert len(resting.open_connections(seen, service("mark6"), "app1")) == 1


def test_what_an_administrator_would_have_typed_names_family_and_length() -> None:
    assert said("mark6") == [
        "ipvsadm -A -f 6 -6 -s rr -p 60 -M 112",
        "ipvsadm -a -f 6 -6 -r [fd00:30::31]:0 -m -w 1",
        "ipvsadm -a -f 6 -6 -r [fd00:30::32]:0 -m -w 1",
    ]
    assert "ip6 daddr fd00:20::103 tcp dport { 80, 81 } meta mark set 6" in marks.render([service("mark6")])
    assert any("the same /112" in row.why for row in explain(KEYS, "mark6"))


@pytest.mark.parametrize(("vip", "length"), [("fd00:30::100", 128), ("10.30.0.100", 32)])
def test_a_client_is_one_address_where_no_length_is_written(vip: str, length: int) -> None:
    text = "\n".join([
        "vlab: 1", "name: shop", "networks:", "  back: {subnet: 10.30.0.0/24, subnet6: fd00:30::/64}", "groups:",
        "  web: {count: 2, image: web, networks: [back]}", "  client: {image: client, networks: [back]}", "directors:",
        "  lvs:", "    networks: [back]", "    services:",
        f"      www: {{vip: {vip}, port: 80, mode: dr, real_servers: web, persistence: 60 s}}",
    ])  # fmt: skip
    (www,) = complete(parse(Source("shop.yaml", text))).services
    assert www.netmask == length


# Full NAT.


def test_full_nat_rewrites_to_the_directors_address_of_the_vips_family() -> None:
    rules = snat.render([role for role in index(KEYS).directing["lvs1"] if role.service.snat])
    assert "ct original ip6 daddr fd00:20::104" in rules
    assert "ip6 daddr { fd00:20::61, fd00:20::91 } snat ip6 to fd00:20::1 " in rules
    four = snat.render([role for role in index(lvs_labs.full_nat()).directing["lvs1"] if role.service.snat])
    assert "ip daddr { 10.20.0.11, 10.20.0.12 } snat ip to 10.20.0.2 " in four
    values = {item.key: item.value for item in of("lvs1").sysctls}
    assert (values["net/ipv4/vs/conntrack"], values["net/ipv6/conf/all/forwarding"]) == ("1", "1")
    assert "vlab-snat.service" in [unit.name for unit in of("lvs1").units]


# Tunnels.


def test_each_tunnel_has_its_device_its_words_and_its_room_in_ipv6() -> None:
    names = ("tun6", "gre6", "gue6", "csum6", "rem6")
    needs = {r.service.name: mode("tun").real_server(r) for r in index(KEYS).serving["web1"] if r.service.name in names}
    assert [needs[name].tunnels[0].kind for name in names] == ["ip6tnl", "ip6gre", "ip6tnl", "ip6tnl", "ip6tnl"]
    assert [[(p.port, p.six) for p in needs[name].fou_ports] for name in names] == [[], [], *[[(6080, True)]] * 3]
    # 1540 less the outer headers (40; 40 + 4; 40 + 8 + 4; 8 more), less 60 of IPv6 and TCP; a full packet of front fits the first.
    assert [{r.advmss for r in needs[name].routes} for name in names] == [set(), {1436}, {1428}, {1428}, {1420}]
    assert [mode("tun").host_features(service(name)) for name in names[:3]] == [
        ("ip6_tunnel",), ("ip6_gre",), ("ip6_tunnel", "fou"),
    ]  # fmt: skip
    assert not any("ipv4" in item.key for each in needs.values() for item in each.sysctls)
    assert said("rem6")[1].endswith("-i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum")


@pytest.mark.parametrize(("name", "words"), [("gre6", "(GRE)"), ("gue6", "(GUE, which is IPv6 in UDP)")])
def test_the_way_of_a_wrapped_packet_is_told(name: str, words: str) -> None:
    assert any("IPv6 header" in row.setting and words in row.setting for row in explain(KEYS, name))


def test_ports_of_both_families_come_and_go_by_themselves() -> None:
    both = replace(of("web1"), fou_ports=(FouPort(6080), FouPort(6080, six=True)))
    four = replace(both, fou_ports=both.fou_ports[:1])
    come, gone = setup(four, both), change(both, four)
    assert "ip -6 -batch - <<'END'\nfou add port 6080 gue\nEND" in come and come.count("fou add") == 1
    assert (
        "ip -6 -force -batch - 2>/dev/null <<'END' || :\nfou del port 6080\nEND" in gone and gone.count("fou del") == 1
    )


# Routed networks.


def test_real_servers_off_the_vips_network_answer_through_the_labs_ipv6_gateway() -> None:
    role = next(role for role in index(KEYS).serving["app1"] if role.service.name == "far6")
    needs = mode("dr").real_server(role)
    assert [(rule.source, rule.table) for rule in needs.rules] == [(IPv6Address("fd00:20::105"), 100)]
    assert [(r.destination, r.via, r.table) for r in needs.routes] == [(ANYWHERE6, IPv6Address("fd00:30::254"), 100)]


def test_nodes_reach_other_routed_networks_in_both_families() -> None:
    assert {(str(r.destination), str(r.via)) for r in of("client1").routes} == {
        ("10.30.0.0/24", "10.20.0.254"), ("fd00:30::/64", "fd00:20::254"),
    }  # fmt: skip
    assert [r.table for r in of("app1").routes if str(r.via) == "fd00:30::254"] == [100], "by default to the director"


def test_a_rule_of_ipv6_is_made_and_removed_by_its_own_family() -> None:
    plain = replace(of("app1"), rules=())
    text = "from fd00:20::105 lookup 100 pref 1000"
    assert f"ip -6 -batch - <<'END'\nrule add {text}\nEND" in setup(plain, of("app1"))
    assert f"ip -6 -force -batch - 2>/dev/null <<'END' || :\nrule del {text}\nEND" in change(of("app1"), plain)


def routed(*, six: bool = True) -> Lab:
    front = Network("front", IPv4Network("10.20.0.0/24"), 1500, internet=False, gateway=labs.BACK.gateway, bridge="b1")
    back = replace(labs.BACK, routed=True)
    subnet = IPv6Network("fd00:20::/64")
    return labs.lab(networks=(back, replace(front, routed=True, subnet6=subnet if six else None)))


def test_the_labs_gateway_forwards_ipv6_between_those_that_have_it() -> None:
    text = routing.rules6(routed().networks)
    assert routing.bridges_routed(text) == {"b1"} and "policy drop" in text and "table ip6 vlab {" in text
    assert routing.bridges_routed(routing.rules(routed().networks)) == {"b0", "b1"}


@pytest.mark.parametrize(("six", "found", "steps"), [
    (True, {"b1"}, 0), (True, set(), 1), (False, {"b1"}, 1), (False, set(), 0),
])  # fmt: skip
def test_a_subnet6_that_comes_or_goes_is_routed_anew(six: bool, found: set[str], steps: int) -> None:  # noqa: FBT001
    lab = routed(six=six)
    seen = replace(converged(lab), routed=frozenset({"b0", "b1"}), routed6=frozenset(found))
    assert len([step for step in make(wanted(lab), seen).steps if step.action is Action.ROUTE]) == steps


# Reading back.

SEEN = """\
[]
[]
[{{"dst":"default","gateway":"fd00:30::1","dev":"eth0"}}]
=== vlab ===
=== vlab ===
=== vlab ===
{rules}
{table}
"""


@pytest.mark.parametrize(("rules", "table", "missing"), [
    ('[{"priority":1000,"src":"fd00:20::105","table":"100"}]', '[{"dst":"default","gateway":"fd00:30::254","dev":"eth0"}]', []),
    ("[]", "[]", ["::/0", "fd00:20::105"]),
])  # fmt: skip
def test_rules_and_their_tables_are_read_in_ipv6(rules: str, table: str, missing: Sequence[str]) -> None:
    only = replace(of("app1"), rules=(Rule(IPv6Address("fd00:20::105"), 100),))
    assert "ip -j -6 -d rule show" in inspect.command(only)[2] and "ip -j rule" not in inspect.command(only)[2]
    found = inspect.parse(only, SEEN.format(rules=rules, table=table))
    assert [str(r.destination) for r in only.routes if r.table and _place(r) not in found.routes] == missing[:1]
    assert [str(r.source) for r in only.rules if (str(r.source), "100") not in found.rules] == missing[1:]


def _place(route: object) -> object:
    return tuple(getattr(route, name) for name in ("destination", "via", "device", "advmss", "table"))


def test_while_two_modes_work_no_way_past_the_director_stays() -> None:
    nat, far = of("app1"), of("client1")
    both = switching.both(far, nat)
    assert "fd00:30::/64" not in {str(route.destination) for route in both.routes}
