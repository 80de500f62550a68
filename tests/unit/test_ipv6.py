"""IPv6 from the language to a guest's settings: addresses that read like their IPv4 ones, families that do not mix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address
from itertools import islice
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import labs, lvs_labs
from vlab.cli.report import plain
from vlab.engine.status import NodeState
from vlab.guests.base import Result
from vlab.guests.settings import Address, Route
from vlab.host.kernel import has_ipv6
from vlab.lvs.asking import Bench, ask_all, free_addresses
from vlab.lvs.explain import explain
from vlab.lvs.index import index
from vlab.lvs.modes import mode
from vlab.lvs.probe import MISSING
from vlab.lvs.settings import for_node
from vlab.plain import from_plain, to_plain
from vlab.plan import FoundBridge, Observed, Wanted, make
from vlab.topology.addressing import complete
from vlab.topology.blocks6 import assign, twin
from vlab.topology.family import endpoint
from vlab.topology.lab import Lab, Service
from vlab.topology.parse import Source, parse

FOUR, SIX = IPv4Network("10.0.0.0/8"), IPv6Network("fd00:20:0:0:1::/80")
HOSTS = st.integers(1, FOUR.num_addresses - 2).map(lambda number: FOUR[number])


@given(HOSTS)
def test_an_address_has_the_digits_of_its_host_number(address: IPv4Address) -> None:
    host = int(twin(address, FOUR, SIX)) - int(SIX.network_address)
    assert f"{host:x}" == str(int(address) - int(FOUR.network_address))
    assert twin(address, FOUR, SIX) in SIX


@given(st.sets(HOSTS, min_size=1, max_size=30), st.data())
def test_everyone_gets_an_address_of_their_own_and_a_taken_one_moves_only_its_owner(
    hosts: set[IPv4Address], data: st.DataObject
) -> None:
    wanting = {f"n{i}": host for i, host in enumerate(sorted(hosts))}
    homes = {node: int(twin(host, FOUR, SIX)) for node, host in wanting.items()}
    taken = data.draw(st.sets(st.sampled_from(sorted(homes.values()))))
    found = assign(FOUR, SIX, taken, wanting)
    assert len(set(found.values())) == len(wanting) and not set(found.values()) & taken
    assert {node for node in homes if found[node] != homes[node]} == {n for n, home in homes.items() if home in taken}
    assert all(IPv6Address(address) in SIX for address in found.values())


def test_an_address_is_found_even_where_every_near_one_is_pinned() -> None:
    home = int(twin(FOUR[31], FOUR, SIX))
    first = int(SIX.network_address)
    near = {home, *(first + 0x31 * 16 + digit for digit in range(10, 16))}
    assert assign(FOUR, SIX, near, {"web1": FOUR[31]}) == {"web1": int(SIX.broadcast_address)}


def lab(extra: str = "", services: str = "", network: str = "subnet6: fd00:30::/64") -> Lab:
    lines = [
        "vlab: 1", "name: shop", "networks:", f"  back: {{subnet: 10.30.0.0/24, {network}}}", "  front: {subnet: 10.20.0.0/24}",
        "groups:", f"  web: {{count: 3, virt: container, image: web, networks: [back, front]{extra}}}",
        "  client: {image: client, networks: [back]}",
        *(["directors:", "  lvs:", "    networks: [back]", "    services:", f"      {services}"] if services else []),
    ]  # fmt: skip
    return complete(parse(Source("shop.yaml", "\n".join(lines))))


def six(found: Lab) -> dict[str, str]:
    return {node.name: str(node.nic("back").address6) for node in found.nodes}


def test_nodes_and_the_gateway_have_both_addresses_where_the_network_does() -> None:
    found = lab()
    assert six(found) == {
        "web1": "fd00:30::31/64", "web2": "fd00:30::32/64", "web3": "fd00:30::33/64", "client1": "fd00:30::61/64",
    }  # fmt: skip
    assert found.node("web1").nic("front").address6 is None
    assert [(str(n.subnet6), str(n.gateway6)) for n in found.networks] == [
        ("fd00:30::/64", "fd00:30::254"),
        ("None", "None"),
    ]


def test_pins_count_up_and_a_vip_takes_a_nodes_address() -> None:
    pins = ", addresses6: {back: fd00:30::9}, nodes: {web3: {addresses6: {back: fd00:30::aa}}}"
    assert [six(lab(pins))[f"web{n}"] for n in (1, 2, 3)] == ["fd00:30::9/64", "fd00:30::a/64", "fd00:30::aa/64"]
    moved = six(lab(services="www: {vip: fd00:30::32, port: 80, mode: dr, real_servers: web}"))
    assert [moved[f"web{n}"] for n in (1, 2, 3)] == ["fd00:30::31/64", "fd00:30::32a/64", "fd00:30::33/64"]


def test_a_pinned_gateway6_is_the_labs_own() -> None:
    assert str(lab(network="subnet6: fd00:30::/64, gateway6: fd00:30::1").network("back").gateway6) == "fd00:30::1"


def test_an_ipv6_services_real_servers_are_reached_by_ipv6() -> None:
    www = lab(services="www: {vip: fd00:30::100, port: 80, mode: dr, real_servers: web}").services[0]
    assert (www.vip, [str(s.address) for s in www.real_servers]) == (
        IPv6Address("fd00:30::100"), ["fd00:30::31", "fd00:30::32", "fd00:30::33"],
    )  # fmt: skip
    assert (www.endpoint, endpoint(IPv4Address("10.0.0.1"), 80)) == ("[fd00:30::100]:80", "10.0.0.1:80")


@pytest.mark.parametrize("text", ["10.20.0.100", "fd00:20::100"])
def test_a_field_of_either_family_comes_back_as_it_went(text: str) -> None:
    service = replace(labs.service(), vip=ip_address(text))
    assert from_plain(Service, to_plain(service)) == service


def settings_of(name: str) -> tuple[set[Address], set[Route], dict[str, str]]:
    dual = lvs_labs.dual_stack()
    found = for_node(dual, dual.node(name))
    return set(found.addresses), set(found.routes), {item.key: item.value for item in found.sysctls}


def test_nat_real_servers_have_a_default_route_of_each_family() -> None:
    _, routes, sysctls = settings_of("app1")
    assert {(str(r.destination), str(r.via)) for r in routes} == {("0.0.0.0/0", "10.30.0.1"), ("::/0", "fd00:30::1")}
    assert (sysctls["net/ipv6/conf/all/forwarding"], sysctls["net/ipv6/conf/eth0/accept_dad"]) == ("0", "0")


def test_dr_and_tun_real_servers_have_the_vips_on_lo_and_a_tunnel_of_each_family() -> None:
    addresses, routes, _ = settings_of("web1")
    assert {Address("lo", IPv6Interface(f"fd00:20::{n}/128")) for n in (101, 102)} <= addresses
    assert not routes  # back's MTU has room for the outer header
    dual = lvs_labs.dual_stack()
    tunnels = [(t.name, t.kind, str(t.local)) for t in for_node(dual, dual.node("web1")).tunnels]
    assert tunnels == [("vlab-ipip1", "ipip", "10.30.0.61"), ("vlab-ip6tnl1", "ip6tnl", "fd00:30::61")]


def test_only_directors_of_ipv6_services_pass_ipv6_on() -> None:
    _, _, sysctls = settings_of("lvs1")
    assert (sysctls["net/ipv6/conf/all/forwarding"], sysctls["net/ipv4/ip_forward"]) == ("1", "1")
    dual = lvs_labs.dual_stack()
    only = replace(dual, services=tuple(s for s in dual.services if s.vip.version == 6))
    alone = {item.key: item.value for item in for_node(only, only.node("lvs1")).sysctls}
    assert (alone["net/ipv6/conf/all/forwarding"], alone["net/ipv4/ip_forward"]) == ("1", "0")


def test_real_servers_announce_segments_that_fit_where_the_inner_network_has_no_room() -> None:
    dual = lvs_labs.dual_stack()
    role = next(r for r in index(dual).serving["web1"] if r.service.name == "tun6")
    front, back = role.node.nics
    tight = replace(role, node=replace(role.node, nics=(front, replace(back, mtu=1500))))
    routes = mode("tun").real_server(tight).routes
    assert [(str(r.destination), str(r.via), r.device, r.advmss) for r in routes] == [
        ("fd00:20::/65", "::", "eth0", 1400), ("fd00:20:0:0:8000::/65", "::", "eth0", 1400),
    ]  # fmt: skip


def test_a_container_needs_another_module_of_its_host_for_ipv6() -> None:
    services = {s.name: s for s in lvs_labs.dual_stack().services}
    assert [mode("tun").host_features(services[name]) for name in ("tun4", "tun6")] == [("ipip",), ("ip6_tunnel",)]


@pytest.mark.parametrize("make", [lvs_labs.web_db, lvs_labs.tunnel, lvs_labs.mixed])
def test_a_lab_without_subnet6_has_no_setting_of_ipv6(make: Callable[[], Lab]) -> None:
    found = [for_node(make(), node) for node in make().nodes]
    assert not [item.key for each in found for item in each.sysctls if "ipv6" in item.key]
    assert not [item for each in found for item in each.addresses if item.address.version == 6]


@pytest.mark.parametrize(
    ("name", "words"), [("nat6", "rewrites"), ("dr6", "neighbour discovery"), ("tun6", "IPv6 in IPv6")]
)
def test_the_way_of_a_packet_is_told_in_ipv6s_words(name: str, words: str) -> None:
    steps = " ".join(row.setting for row in explain(lvs_labs.dual_stack(), name))
    assert words in steps and "ARP" not in steps and "arp_ignore" not in steps


def test_status_speaks_of_ipv6_only_where_there_is_some() -> None:
    without = NodeState("web1", "web", "container", "none", "running", "web", {"back": "10.30.0.31"})
    assert list(plain(without)) == ["name", "group", "virt", "accel", "state", "image", "addresses"]
    assert plain(replace(without, addresses6={"back": "fd00:30::31"}))["addresses6"] == {"back": "fd00:30::31"}


@pytest.mark.parametrize(("found", "why"), [("", "missing"), ("fd00:31::1/64", "fd00:31::1/64")])
def test_a_bridge_with_another_ipv6_address_is_mended(found: str, why: str) -> None:
    here = lab()
    bridges = tuple(
        FoundBridge(n.bridge, n.name, n.mtu, f"{n.gateway}/24", found if n.subnet6 else "") for n in here.networks
    )
    steps = make(Wanted(here, ()), Observed(namespace=True, bridges=bridges)).steps
    assert [(step.id, step.why) for step in steps] == [
        ("ensure-bridge/back", f"its IPv6 address is {why}, not fd00:30::254/64"),
    ]  # fmt: skip


def test_a_host_without_ipv6_is_known(tmp_path: Path) -> None:
    assert not has_ipv6(tmp_path)
    (tmp_path / "proc/sys/net/ipv6/conf/all").mkdir(parents=True)
    assert has_ipv6(tmp_path)


class Listener:
    """A client's channel that only remembers what it was told to run."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def run(self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0) -> Result:  # noqa: ARG002 - Channel's
        self.told += argv
        return Result(MISSING, b"", b"")

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        raise NotImplementedError(f"{path} {content!r} {mode}")

    def get(self, path: str) -> bytes:
        raise NotImplementedError(path)

    def feed(self, path: str, content: bytes) -> None:
        raise NotImplementedError(f"{path} {content!r}")

    def wait(self, timeout: float) -> None:
        raise NotImplementedError(str(timeout))

    def shell(self) -> Sequence[str] | None:
        return None


@pytest.mark.parametrize(("name", "own", "borrowed"), [
    ("nat4", "10.20.0.121", "10.20.0.253"), ("nat6", "fd00:20::121", "fd00:20::ffff:ffff:ffff:fffe"),
])  # fmt: skip
def test_a_client_asks_from_addresses_of_the_vips_family(name: str, own: str, borrowed: str) -> None:
    dual = lvs_labs.dual_stack()
    service = replace(next(s for s in dual.services if s.name == name), scheduler="sh")
    clients = {node.name: Listener() for node in dual.nodes}
    bench = Bench(replace(dual, services=(service,)), clients.__getitem__, lambda _: {80: "http"}, 0.0, Event())
    ask_all(bench, [service], None)
    told = clients["client1"].told
    line = next(text for text in told if text.startswith(f"{name} http"))
    sources = line.split()[7:]
    assert (sources[0], sources[1]) == (own, borrowed)
    assert len({ip_address(source).version for source in sources}) == 1
    assert f"address replace {borrowed}/{ip_address(borrowed).max_prefixlen} dev eth0" in " ".join(told)


def test_borrowed_addresses_are_nobodys() -> None:
    dual = lvs_labs.dual_stack()
    taken = {a.ip for n in dual.nodes for nic in n.nics for a in nic.addresses} | {s.vip for s in dual.services}
    taken |= {own for n in dual.networks for own in (n.gateway, n.gateway6) if own}
    for vip in (IPv4Address("10.20.0.100"), IPv6Address("fd00:20::100")):
        found = set(islice(free_addresses(dual, "front", vip), 120))
        assert len(found) == 120 and not found & taken
        assert {address.version for address in found} == {vip.version}
