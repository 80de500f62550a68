"""IPv6 for real: what the kernel does with a VIP, both families through every mode, what else an IPv6 service can be told (marks,
netmasks, snat, tunnels, routed networks), and a lab that gets IPv6 and loses it again.

That every service of ``topologies/dual-stack.yaml`` is balanced as declared is ``test_topologies``'; it is one of them.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface, IPv6Network, ip_address, ip_network
from pathlib import Path
from shlex import quote

import pytest

from tests.live.harness import TOPOLOGIES, eventually, host, lives, running, status, traces, verify, vlab
from tests.live.networks import BACK, network_lab
from vlab.guests import transition
from vlab.guests.settings import Address, Link, Route, Rule, Settings, Sysctl
from vlab.host import links, routing
from vlab.host.namespace import inside
from vlab.lvs.ipv6 import sysctls
from vlab.run import run
from vlab.topology.lab import namespace

pytestmark = pytest.mark.live

LAB = "t-ipv6"
FILE = Path(__file__).with_name("ipv6-keys.yaml")
VIP = "fd00:20::101"
"""That of the direct routing service: real servers have it too."""


ANSWERS_ON_81 = (
    "sed -i 's/listen 0.0.0.0:80 /listen [::]:81; listen 0.0.0.0:80 /' /etc/nginx/nginx.conf && nginx -s reload"
)


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    with running(FILE, LAB, "--no-verify"):
        for node in ("app1", "app2"):
            on(LAB, node, ANSWERS_ON_81)
        yield LAB
    assert traces(LAB) == []


def test_it_is_dual_stack_and_more() -> None:
    """What the tests here prove of its services is true of the shipped topology's."""
    shipped = (TOPOLOGIES / "dual-stack.yaml").read_text().splitlines()
    kept = set(FILE.read_text().splitlines())
    assert [line for line in shipped if re.match(r" +\w+[46]:", line) and line not in kept] == []


def on(lab: str, node: str, command: str, *, check: bool = True) -> str:
    return vlab("exec", f"{lab}/{node}", "--", "sh", "-c", command, check=check).out


def neighbour(lab: str, address: str) -> str:
    """The MAC address that client1 learns when it asks for its neighbour anew, empty when nobody answers."""
    look = (
        f"ip -6 neigh flush dev eth0; curl -s -m 2 -o /dev/null 'http://[{address}]/'; ip -j -6 neigh show to {address}"
    )
    found = json.loads(on(lab, "client1", look))
    return str(found[0].get("lladdr", "")) if found else ""


def mac(lab: str, node: str, device: str = "eth0") -> str:
    return on(lab, node, f"cat /sys/class/net/{device}/address").strip()


def test_faults_are_named_in_both_families(lab: str) -> None:
    """At once: each is told with what was seen of IPv4 and of IPv6. That all are mended again is the next test's to prove."""
    faults = {"nat-return-path": "app1", "director-does-not-forward": "lvs1", "client-arp-stale": "client1"}
    try:
        for rule, node in faults.items():
            vlab("fault", "inject", rule, lab, "--node", node)
        found = vlab("check", lab, "-o", "json", check=False).json()
    finally:
        vlab("fault", "clear", lab)
    assert found["unread"] == {}
    evidence: dict[tuple[str, str], str] = {}
    for it in found["findings"]:
        place = it["rule"], it["subject"]
        evidence[place] = "\n".join([evidence.get(place, ""), *it["evidence"]])
    assert evidence.keys() == set(faults.items())
    for text in evidence.values():
        assert re.search(r"fd00:|ipv6", text) and re.search(r"10\.20\.0|ipv4", text), text


def test_both_families_are_proved_in_every_mode(lab: str) -> None:
    verify(lab)
    seen = status(lab)
    assert {n["name"]: n["addresses6"] for n in seen["nodes"]}["web1"] == {
        "front": "fd00:20::61",
        "back": "fd00:30::61",
    }
    assert [(n["subnet6"], n["gateway6"]) for n in seen["networks"]] == [
        ("fd00:30::/64", "fd00:30::254"), ("fd00:20::/64", "fd00:20::254"),
    ]  # fmt: skip
    hosts = on(lab, "client1", "getent ahosts web1.front").split()
    assert {"10.20.0.61", "fd00:20::61"} <= set(hosts)


def test_only_the_director_is_found_by_the_vip_though_real_servers_have_it(lab: str) -> None:
    """Containers (the host's kernel) and VMs (the lab's): a VIP on lo needs no counterpart of arp_ignore."""
    assert neighbour(lab, VIP) == mac(lab, "lvs1")
    assert f"inet6 {VIP}/128" in on(lab, "web1", "ip -6 address show lo")
    assert f"inet6 {VIP}/128" in on(lab, "edge1", "ip -6 address show lo")
    on(lab, "lvs1", f"ip address del {VIP}/128 dev eth0")
    try:
        assert not neighbour(lab, VIP)
    finally:
        on(lab, "lvs1", f"ip address replace {VIP}/128 dev eth0 nodad preferred_lft 0")
    assert neighbour(lab, VIP) == mac(lab, "lvs1")


def test_a_vip_on_an_interface_is_what_would_answer(lab: str) -> None:
    """The same real servers with the VIP one interface further: the test above could have failed."""
    on(lab, "lvs1", f"ip address del {VIP}/128 dev eth0")
    on(lab, "edge1", f"ip address add {VIP}/128 dev eth0 nodad")
    try:
        assert neighbour(lab, VIP) == mac(lab, "edge1")
    finally:
        on(lab, "edge1", f"ip address del {VIP}/128 dev eth0")
        on(lab, "lvs1", f"ip address replace {VIP}/128 dev eth0 nodad preferred_lft 0")
    assert neighbour(lab, VIP) == mac(lab, "lvs1"), (
        "the client must forget edge1, or it passes the director by from now on"
    )


def test_the_director_never_asks_real_servers_from_a_vip(lab: str) -> None:
    """By the longest matching prefix the kernel would take fd00:20::102 or ::101 for its way to fd00:20::91."""
    asks = "ip -j -6 route get {}"
    assert json.loads(on(lab, "lvs1", asks.format("fd00:20::91")))[0]["prefsrc"] == "fd00:20::1"
    assert json.loads(on(lab, "lvs1", asks.format("fd00:20::10b")))[0]["prefsrc"] == "fd00:20::1"


ELSEWHERE = ("fd00:20::7:1", "fd00:20::7:2")
"""Addresses of another /112 than the client's own."""


def asked(lab: str, *urls: str) -> list[str]:
    """Who answers each of ``urls``, in turn; of those with «from» before them, asked from that address."""
    words = (url.partition(" from ") for url in urls)
    curls = (
        f"curl -s -m 5 {f'--interface {source} ' if source else ''}'http://{url}/' || echo FAILED"
        for url, _, source in words
    )
    return on(lab, "client1", "; ".join(curls)).split()


def test_a_mark_makes_one_service_of_two_ports_and_a_prefix_one_client_of_many(lab: str) -> None:
    address = "ip address {} {}/128 dev eth0 {}; "
    # Deprecated, or the client would take them for its own requests too.
    on(lab, "client1", "".join(address.format("replace", each, "nodad preferred_lft 0") for each in ELSEWHERE))
    one, two = (f"[fd00:20::103]:{port}" for port in (80, 81))
    found = asked(lab, one, two, f"{one} from {ELSEWHERE[0]}", f"{two} from {ELSEWHERE[1]}", one)
    on(lab, "client1", "".join(address.format("del", each, "") for each in ELSEWHERE))
    assert {found[0], found[2]} == {"app1", "app2"}, "another /112 is another client, and rr gives it the other server"
    assert found == [found[0], found[0], found[2], found[2], found[0]]
    assert "FWM  6 IPv6 rr persistent 60 mask 112" in on(lab, "lvs1", "ipvsadm -Ln")
    shown = vlab("lvs", "show", lab, "-o", "json").json()
    entry = next(each for each in shown["services"] if each["name"] == "mark6")
    assert (entry["address"], {s["state"] for s in entry["real_servers"]}) == ("FWM 6 IPv6", {"up"})


def test_what_lvs_show_would_have_typed_is_what_the_kernel_saved(lab: str) -> None:
    lines = vlab("lvs", "show", lab, "--ipvsadm").out.splitlines()
    typed = [{*line.split()} - {"ipvsadm"} for line in lines if line.startswith("ipvsadm -")]
    saved = [{*line.split()} for line in on(lab, "lvs1", "ipvsadm -Sn").splitlines()]
    assert len(typed) == len(saved) and all(any(words <= line for line in saved) for words in typed)


def test_with_snat_a_server_beside_the_client_sees_the_director(lab: str) -> None:
    words = on(lab, "client1", "for n in 1 2; do curl -s -m 5 'http://[fd00:20::104]/who'; done").split()
    servers, clients = ({word.rpartition(":")[0] for word in each} for each in (words[::2], words[1::2]))
    assert (servers, clients) == ({"fd00:20::61", "fd00:20::91"}, {"fd00:20::1"}), words


def test_tunnels_wrap_as_they_were_told_and_their_devices_take_it(lab: str) -> None:
    def received() -> dict[str, int]:
        links = json.loads(on(lab, "web1", "ip -j -s link"))
        return {link["ifname"]: link["stats64"]["rx"]["packets"] for link in links}

    before = received()
    assert asked(lab, "[fd00:20::106]", "[fd00:20::107]") == ["web1", "web1"]
    after = received()
    assert {device for device in after if after[device] > before[device]} >= {"vlab-ip6gre1", "vlab-ip6tnl1"}


def test_the_host_reaches_an_ipv6_service_inside(lab: str) -> None:
    def name() -> str:
        with socket.create_connection((VIP.replace("101", "100"), 80), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.makefile().read().split("\n\n")[-1].strip()

    assert inside(namespace(lab), name) in ("app1", "app2")


def without_ipv6(target: Path) -> Path:
    text = re.sub(r", subnet6: [0-9a-f:]+/64", "", FILE.read_text())
    target.write_text("".join(line for line in text.splitlines(keepends=True) if not re.match(r" +\w+6:", line)))
    return target


MORE = """; ip -br link show type ip6gre | grep vlab; ip -6 rule | grep 100; ip -6 route show table 100
[ ! -e /sys/module/fou ] || ip fou show
if command -v ipvsadm >/dev/null; then nft list ruleset; ls /etc/vlab; fi
"""


def inner(lab: str) -> dict[str, str]:
    """What is set of IPv6 inside a guest of each part, but for link-local addresses, which every Linux has."""
    look = (
        "ip -6 -br address show scope global; ip -6 route | grep -v ^fe80; ip -br link show type ip6tnl | grep vlab;"
        "cat /proc/sys/net/ipv6/conf/all/forwarding; cat /etc/hosts; grep . /proc/sys/net/ipv6/conf/*/accept_dad;"
        "grep . /proc/sys/net/ipv6/conf/eth*/accept_ra /proc/sys/net/ipv6/conf/*/router_solicitations"
    )
    names = ("web1", "app1", "lvs1")
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: on(lab, name, look + MORE, check=False), names), strict=True))


def _words(seen: dict[str, str]) -> dict[str, list[str]]:
    """Without the order of addresses, which the tests above changed when they took a VIP away and gave it back."""
    return {name: sorted(text.split()) for name, text in seen.items()}


# nginx waits for a request for 60 s.
CONNECTED = "exec 3<>/dev/tcp/fd00:30::31/80; echo connected >/run/told; read -r line <&3; echo ended >/run/told"


def told(lab: str) -> str:
    return on(lab, "lvs1", "cat /run/told", check=False).strip()


def test_ipv6_goes_and_comes_without_restarting_anybody(lab: str, tmp_path: Path) -> None:
    before, ran = inner(lab), lives(lab)
    on(lab, "lvs1", f"setsid bash -c {quote(CONNECTED)} </dev/null >/dev/null 2>&1 &")
    eventually("a connection from an address that goes", lambda: told(lab) == "connected", 20)
    vlab("up", str(without_ipv6(tmp_path / "four.yaml")), "--as", lab, "--no-verify")
    assert told(lab) == "ended", "it went with its address: keepalived would wait for each of its own, for 5 s"
    four = inner(lab)
    for name, text in four.items():
        assert not re.search(r"fd00|vlab-ip6|6080|vlab-marks|vlab-snat", text), name
        assert re.search(r"eth0/accept_dad:1\n", text) and "eth0/accept_ra:1\n" in text, name
    bridges = host("ip", "-n", namespace(lab), "-6", "address", "show", "scope", "global")
    assert "fd00" not in bridges
    assert routing.routed6(lab) == frozenset() != routing.routed(lab)
    eventually(
        "keepalived serves IPv6 no more", lambda: ":" not in on(lab, "lvs1", "ipvsadm -Sn").replace(":80", ""), 20
    )
    assert all("addresses6" not in node for node in status(lab)["nodes"])
    vlab("up", str(FILE), "--as", lab)
    assert len(routing.routed6(lab)) == 2
    assert _words(inner(lab)) == _words(before)
    assert lives(lab) == ran


# Without guests: the namespace's own side, and transitions on a machine that is only a network namespace.


def test_a_bridge_has_ipv6_where_its_network_does_and_says_nothing_by_itself() -> None:
    six = replace(BACK, subnet6=IPv6Network("fd00:30::/64"), gateway6=IPv6Address("fd00:30::254"))
    with network_lab() as name:
        assert links.observe(namespace(name)).bridges[0].address6 is None
        for wanted in (six, six, replace(six, gateway6=IPv6Address("fd00:30::1"))):
            links.ensure_bridge(namespace(name), name, wanted)
            shown = json.loads(host("ip", "-n", namespace(name), "-j", "-6", "address", "show", BACK.bridge))
            assert [(a["local"], a.get("tentative")) for a in shown[0]["addr_info"]] == [(str(wanted.gateway6), None)]
            assert links.observe(namespace(name)).bridges[0].address6 == IPv6Interface(f"{wanted.gateway6}/64")
        links.ensure_bridge(namespace(name), name, BACK)
        assert links.observe(namespace(name)).bridges[0].address6 is None


def test_routing_leaves_the_bridges_their_ipv6_addresses_and_goes_without_a_trace() -> None:
    six = replace(BACK, subnet6=IPv6Network("fd00:30::/64"), gateway6=IPv6Address("fd00:30::254"), routed=True)
    with network_lab() as name:
        links.ensure_bridge(namespace(name), name, six)
        here, nowhere = frozenset({six.bridge}), frozenset[str]()
        for networks, found in (([six], here), ([six], here), ([replace(six, routed=False)], nowhere)):
            routing.apply(name, networks)
            assert (routing.routed(name), routing.routed6(name)) == (found, found)
            assert links.observe(namespace(name)).bridges[0].address6 == IPv6Interface("fd00:30::254/64")
        assert host("ip", "netns", "exec", namespace(name), "nft", "list", "ruleset") == ""


MACHINE = """
set -eu
mount -t sysfs sysfs /sys
mkdir -p /run/t /run/vlab
mount -t tmpfs tmpfs /run/t
mkdir /run/t/upper /run/t/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/t/upper,workdir=/run/t/work /etc
ip link set lo up
ip link add eth0 address 52:54:00:00:00:01 type veth peer name far0
ip link set far0 up
"""
SEEN = (
    "ip -6 -o address show scope global | sed 's/^[0-9]*: //'; ip -6 route show dev eth0 | grep -v fe80 || :;"
    "ip -6 rule; ip -6 route show table 100 2>/dev/null || :;"
    "grep . /proc/sys/net/ipv6/conf/*/accept_* /proc/sys/net/ipv6/conf/all/forwarding | grep -v far0"
)
FOUR = Settings(
    "web1", "1" * 32, (Link("eth0", "52:54:00:00:00:01", 1500),), addresses=(Address("eth0", IPv4Interface("10.20.0.31/24")),)
)  # fmt: skip
OWN = Address("eth0", IPv6Interface("fd00:20::31/64"))
NAT = replace(
    FOUR, sysctls=sysctls(("eth0",)), addresses=(*FOUR.addresses, OWN),
    routes=(Route(ip_network("::/0"), ip_address("fd00:20::1"), "eth0"),),
)  # fmt: skip
DR = replace(
    NAT, addresses=(*NAT.addresses, Address("lo", IPv6Interface(f"{VIP}/128"))),
    sysctls=(replace(NAT.sysctls[0], value="1"), *NAT.sysctls[1:]),
    routes=(
        *(Route(half, ip_address("::"), "eth0", 1400) for half in IPv6Network("fd00:20::/64").subnets()),
        Route(ip_network("::/0"), ip_address("fd00:20::254"), "eth0", 1400, table=100),
    ),
    rules=(Rule(ip_address(VIP), 100),),
)  # fmt: skip
ALL: dict[str, Settings] = {"four": FOUR, "nat": NAT, "dr": DR}


def machine(*scripts: str) -> str:
    steps = "".join(f"sh <<'STEP{i}'\n{script}\nSTEP{i}\n" for i, script in enumerate(scripts))
    alone = ["unshare", "--net", "--mount", "--uts", "--", "sh", "-s"]
    return run(alone, input=f"{MACHINE}{steps}{SEEN}".encode()).text


@pytest.mark.parametrize("one", ALL)
@pytest.mark.parametrize("two", ALL)
def test_going_from_one_to_the_other_is_like_starting_there(one: str, two: str) -> None:
    fresh = machine(transition.script(None, ALL[two]))
    assert ("nodad" in fresh, "tentative" in fresh) == (two != "four", False)
    assert machine(transition.script(None, ALL[one]), transition.script(ALL[one], ALL[two])) == fresh


def test_a_vip_that_floated_stays_when_it_is_the_nodes_own() -> None:
    """keepalived gave it with the subnet's length, and takes that away once it hears that the pair is one director."""
    own = replace(NAT, addresses=(*NAT.addresses, Address("eth0", IPv6Interface(f"{VIP}/128"))))
    as_a_pair = (transition.script(None, NAT), f"ip address add {VIP}/64 dev eth0 nodad preferred_lft 0")
    forgotten = f"ip address del {VIP}/64 dev eth0 2>/dev/null || :"
    assert machine(*as_a_pair, transition.script(NAT, own), forgotten) == machine(transition.script(None, own))


def test_a_setting_that_the_kernel_lacks_is_an_error_not_silence() -> None:
    odd = replace(FOUR, sysctls=(Sysctl("net/ipv6/conf/eth9/accept_dad", "0", "1"),))
    with pytest.raises(Exception, match="eth9"):
        machine(transition.script(None, odd))
