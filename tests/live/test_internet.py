"""Internet access of a lab: the process, its device and rules come, work as far as a host without internet shows, and go."""

from __future__ import annotations

import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tests.conftest import need
from tests.live.harness import host
from vlab.host import internet, links
from vlab.host.namespace import inside
from vlab.topology.lab import Lab, Network

pytestmark = pytest.mark.live

LISTENERS = (("203.0.113.1", 80), ("127.0.0.1", 81))


def network(name: str, subnet: str, *, online: bool) -> Network:
    net = IPv4Network(subnet)
    return Network(name, net, 1500, internet=online, gateway=net[-2], bridge=f"b{secrets.token_hex(5)}")


@pytest.fixture
def lab() -> Iterator[Lab]:
    need("slirp4netns", "nft")
    networks = (network("front", "10.0.2.0/25", online=True), network("back", "10.30.0.0/24", online=False))
    made = Lab(f"test{secrets.token_hex(3)}", "test", networks, (), (), ())
    try:
        links.create_namespace(made.namespace)
        for item in networks:
            links.ensure_bridge(made.namespace, made.name, item)
        yield made
    finally:
        internet.stop(made.name)
        links.delete_namespace(made.namespace)


def within(lab: Lab, *argv: str) -> str:
    return host("ip", "netns", "exec", lab.namespace, *argv)


def forwarding(lab: Lab) -> str:
    return inside(lab.namespace, Path("/proc/sys/net/ipv4/ip_forward").read_text).strip()


def test_it_comes_up_inside_the_lab_only_and_goes(lab: Lab) -> None:
    before = (
        host("nft", "list", "ruleset"),
        host("ip", "addr"),
        host("ip", "route"),
        host("sysctl", "net.ipv4.ip_forward"),
    )
    internet.start(lab)
    pid = internet.running()[lab.name]
    internet.start(lab)
    assert internet.running()[lab.name] == pid
    assert "192.168.0.100/24" in within(lab, "ip", "-4", "addr", "show", "vlabnet0")
    assert "default via 192.168.0.2 dev vlabnet0" in within(lab, "ip", "route")
    assert "masquerade" in within(lab, "nft", "list", "ruleset")
    assert forwarding(lab) == "1"
    after = (
        host("nft", "list", "ruleset"),
        host("ip", "addr"),
        host("ip", "route"),
        host("sysctl", "net.ipv4.ip_forward"),
    )
    assert after == before
    internet.stop(lab.name)
    internet.stop(lab.name)
    assert lab.name not in internet.running()
    assert "vlabnet0" not in within(lab, "ip", "link")
    assert within(lab, "nft", "list", "ruleset") == ""
    assert forwarding(lab) == "0"


def guest(lab: Lab, name: str, network: Network) -> str:
    """A namespace that stands for a guest on ``network``, its default route to the lab's gateway; returns its name."""
    space, device = f"g-{name}-{lab.name}", f"v{secrets.token_hex(5)}"
    address = f"{network.subnet[10]}/{network.subnet.prefixlen}"
    for words in (
        f"netns add {space}",
        f"link add {device} type veth peer name eth0 netns {space}",
        f"-n {space} addr add {address} dev eth0",
        f"-n {space} link set lo up",
        f"-n {space} link set eth0 up",
        f"-n {space} route add default via {network.gateway}",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    links.adopt(lab.namespace, device, network.bridge, f"{name}.{network.name}", network.mtu, lab.name)
    return space


@pytest.fixture
def outside() -> Iterator[str]:
    """A namespace that stands for the host and the internet at once: slirp4netns runs in it, and 203.0.113.1 answers in it."""
    name = f"vlab-out{secrets.token_hex(3)}"
    links.create_namespace(name)
    subprocess.run(["ip", "-n", name, "addr", "add", "203.0.113.1/32", "dev", "lo"], check=True)
    servers = [inside(name, partial(ThreadingHTTPServer, where, SimpleHTTPRequestHandler)) for where in LISTENERS]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield name
    for server in servers:
        server.shutdown()
        server.server_close()
    links.delete_namespace(name)


def test_guests_get_out_from_internet_networks_only(lab: Lab, outside: str) -> None:
    inside(outside, lambda: internet.start(lab))
    spaces = [guest(lab, item.name, item) for item in lab.networks]
    try:
        assert reaches(spaces[0], "203.0.113.1", 80)
        assert not reaches(spaces[1], "203.0.113.1", 80)
        assert not reaches(spaces[0], "192.168.0.2", 81), "the host's 127.0.0.1 is within reach"
        neighbour = str(lab.networks[1].subnet[10])
        with inside(spaces[1], lambda: socket.create_server((neighbour, 82))):
            assert reaches(spaces[1], neighbour, 82)
            assert not reaches(spaces[0], neighbour, 82), "the namespace routes between networks"
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], check=False)


def reaches(space: str, address: str, port: int) -> bool:
    try:
        inside(space, lambda: socket.create_connection((address, port), timeout=2)).close()
    except OSError:
        return False
    return True
