"""Networks of labs in real namespaces: made, filled, seen from outside, and gone. Needs root, no libvirt."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import eventually, host
from vlab.errors import ConflictError, HostError, UsageError
from vlab.host import links
from vlab.host.forward import Forward, serve
from vlab.host.namespace import FOLDER, inside
from vlab.topology.lab import Network
from vlab.topology.lab import namespace as namespace_of

pytestmark = pytest.mark.live

BACK = Network(
    "back", IPv4Network("10.30.0.0/24"), 1400, internet=False, gateway=IPv4Address("10.30.0.254"), bridge="b0123456789"
)


@pytest.fixture
def lab() -> Iterator[str]:
    yield from _lab()


@pytest.fixture
def other() -> Iterator[str]:
    yield from _lab()


def _lab() -> Iterator[str]:
    """The name of a lab with a namespace and the network «back»."""
    name = f"test{secrets.token_hex(3)}"
    links.create_namespace(namespace_of(name))
    links.ensure_bridge(namespace_of(name), name, BACK)
    try:
        yield name
    finally:
        links.delete_namespace(namespace_of(name))


def ip(*words: str, lab: str = "") -> Any:
    """What ``ip -j`` says, in the lab's namespace or the root one."""
    return json.loads(host("ip", *(["-n", namespace_of(lab)] if lab else []), "-j", "-d", *words) or "[]")


def veth() -> str:
    """A new veth in the root namespace, as libvirt leaves one: its peer in a container's namespace (here: one held by nobody)."""
    device = f"v{secrets.token_hex(5)}"
    subprocess.run(["ip", "link", "add", device, "type", "veth", "peer", f"p{device[1:]}"], check=True)
    return device


def port(lab: str, device: str, name: str = "web1.back") -> links.Port:
    return links.Port(device, name, BACK.bridge, BACK.mtu, lab)


def sysctl(lab: str, key: str) -> str:
    return inside(namespace_of(lab), Path(f"/proc/sys/net/{key}").read_text).strip()


def test_a_namespace_is_complete_and_known_to_ip_netns(lab: str) -> None:
    assert namespace_of(lab) in links.namespaces()
    assert namespace_of(lab) in host("ip", "netns", "list")
    assert [link["ifname"] for link in ip("link", lab=lab)] == ["lo", BACK.bridge]
    assert "UP" in ip("link", "show", "lo", lab=lab)[0]["flags"]
    keys = ("ipv4/ip_forward", "ipv4/conf/all/rp_filter", "ipv4/conf/all/arp_ignore", "ipv6/conf/default/disable_ipv6")
    assert [sysctl(lab, key) for key in keys] == ["0", "0", "1", "1"]


def test_making_and_removing_twice_changes_nothing(lab: str) -> None:
    inode = (FOLDER / namespace_of(lab)).stat().st_ino
    links.create_namespace(namespace_of(lab))
    assert (FOLDER / namespace_of(lab)).stat().st_ino == inode
    links.delete_namespace(namespace_of(lab))
    links.delete_namespace(namespace_of(lab))
    assert namespace_of(lab) not in links.namespaces()
    assert namespace_of(lab) not in host("ip", "netns", "list") + Path("/proc/self/mountinfo").read_text()


def test_a_bridge_is_plain_marked_and_addressed(lab: str) -> None:
    bridge = ip("addr", "show", BACK.bridge, lab=lab)[0]
    options = bridge["linkinfo"]["info_data"]
    assert (options["stp_state"], options["forward_delay"], options["mcast_snooping"]) == (0, 0, 0)
    assert (bridge["mtu"], bridge["ifalias"], bridge["altnames"]) == (1400, f"vlab:{lab}:back", ["back"])
    assert [address["local"] for address in bridge["addr_info"]] == ["10.30.0.254"]
    found = links.observe(namespace_of(lab)).bridges[0]
    assert (found.device, found.network, found.mtu, found.mark, str(found.address)) == (
        BACK.bridge, "back", 1400, lab, "10.30.0.254/24",
    )  # fmt: skip


def test_a_bridge_that_differs_is_mended(lab: str) -> None:
    host("ip", "-n", namespace_of(lab), "addr", "add", "10.99.0.1/24", "dev", BACK.bridge)
    host("ip", "-n", namespace_of(lab), *f"link set {BACK.bridge} mtu 1500 down type bridge stp_state 1".split())
    links.ensure_bridge(namespace_of(lab), lab, BACK)
    bridge = ip("addr", "show", BACK.bridge, lab=lab)[0]
    assert [address["local"] for address in bridge["addr_info"]] == ["10.30.0.254"]
    assert (bridge["mtu"], bridge["linkinfo"]["info_data"]["stp_state"]) == (1400, 0)
    assert "UP" in bridge["flags"]


def test_a_network_named_like_a_device_still_gets_its_bridge(lab: str) -> None:
    odd = Network(
        "lo",
        IPv4Network("10.31.0.0/24"),
        1500,
        internet=False,
        gateway=IPv4Address("10.31.0.254"),
        bridge="b1111111111",
    )
    links.ensure_bridge(namespace_of(lab), lab, odd)
    assert {bridge.network for bridge in links.observe(namespace_of(lab)).bridges} == {"back", "lo"}
    links.remove_bridge(namespace_of(lab), "lo")
    links.remove_bridge(namespace_of(lab), "lo")
    assert {bridge.network for bridge in links.observe(namespace_of(lab)).bridges} == {"back"}


def test_two_labs_have_the_same_addresses_at_once(lab: str, other: str) -> None:
    for name in (lab, other):
        found = links.observe(namespace_of(name)).bridges[0]
        assert (found.mark, str(found.address)) == (name, "10.30.0.254/24")


def test_a_veth_is_adopted_and_goes_with_the_namespace(lab: str) -> None:
    device = veth()
    assert device in links.root_leftovers()
    links.adopt_all(namespace_of(lab), [port(lab, device)])
    assert device not in links.root_leftovers()
    assert links.observe(namespace_of(lab)).ports == (port(lab, device),)
    found = ip("link", "show", "web1.back", lab=lab)[0]
    assert (found["ifname"], found["mtu"], found["master"]) == (device, 1400, BACK.bridge)
    assert "UP" in found["flags"]
    links.adopt_all(namespace_of(lab), [port(lab, device)])
    links.delete_namespace(namespace_of(lab))
    eventually("the veth's peer is gone", lambda: f"p{device[1:]}" not in host("ip", "link"), 10)
    assert device not in host("ip", "link")


def test_a_tap_is_adopted_while_its_owner_runs(lab: str) -> None:
    device = f"v{secrets.token_hex(5)}"
    subprocess.run(["ip", "tuntap", "add", device, "mode", "tap"], check=True)
    links.adopt(namespace_of(lab), device, BACK.bridge, "db1.back", BACK.mtu, lab)
    assert links.observe(namespace_of(lab)).ports == (port(lab, device, "db1.back"),)


def test_a_port_taken_off_its_bridge_is_put_back(lab: str) -> None:
    device = veth()
    links.adopt_all(namespace_of(lab), [port(lab, device)])
    host("ip", "-n", namespace_of(lab), "link", "set", device, "nomaster", "down")
    assert links.observe(namespace_of(lab)).ports[0].bridge == ""
    links.adopt_all(namespace_of(lab), [port(lab, device)])
    assert links.observe(namespace_of(lab)).ports == (port(lab, device),)
    assert "UP" in ip("link", "show", device, lab=lab)[0]["flags"]


def test_the_dying_veth_of_a_predecessor_makes_way(lab: str) -> None:
    device = veth()
    links.adopt_all(namespace_of(lab), [port(lab, device)])
    host("ip", "link", "add", device, "type", "veth", "peer", "name", f"q{device[1:]}")
    links.adopt_all(namespace_of(lab), [port(lab, device)])
    assert links.observe(namespace_of(lab)).ports == (port(lab, device),)
    assert device not in links.root_leftovers()
    assert f"p{device[1:]}" not in host("ip", "link")


def test_a_device_that_is_nowhere_is_named(lab: str) -> None:
    with pytest.raises(HostError, match=r"web7\.back"):
        links.adopt_all(namespace_of(lab), [port(lab, "v0000000000", "web7.back")])


def test_many_threads_adopt_at_once(lab: str) -> None:
    ports = [port(lab, veth(), f"web{number}.back") for number in range(8)]
    threads = [threading.Thread(target=links.adopt_all, args=(namespace_of(lab), [item])) for item in ports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(links.observe(namespace_of(lab)).ports) == set(ports)


def test_counters_count(lab: str) -> None:
    host("ip", "netns", "exec", namespace_of(lab), "ping", "-c1", "-W1", "127.0.0.1")
    found = links.counters(namespace_of(lab))
    assert set(found) == {"lo", BACK.bridge}


# what kill -9 leaves


def test_an_empty_file_is_no_namespace_and_is_taken_over() -> None:
    name = namespace_of(f"test{secrets.token_hex(3)}")
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / name).touch()
    try:
        assert name not in links.namespaces()
        assert name in links.half_made()
        with pytest.raises(UsageError, match="half-made"):
            links.observe(name)
        links.create_namespace(name)
        assert name in links.namespaces()
    finally:
        links.delete_namespace(name)
    (FOLDER / name).touch()
    links.delete_namespace(name)
    assert not (FOLDER / name).exists()


def test_mounts_piled_on_one_another_all_go(lab: str) -> None:
    path = FOLDER / namespace_of(lab)
    subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    links.delete_namespace(namespace_of(lab))
    assert not path.exists()
    assert str(path) not in Path("/proc/self/mountinfo").read_text()


def test_a_mount_kept_by_another_mount_namespace_does_not_keep_the_lab(lab: str) -> None:
    holder = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sleep", "60"])
    try:
        eventually("it has a mount namespace", lambda: _mount_namespace(holder.pid) != _mount_namespace(os.getpid()), 5)
        links.delete_namespace(namespace_of(lab))
        assert namespace_of(lab) not in Path(f"/proc/{holder.pid}/mountinfo").read_text()
    finally:
        holder.kill()
        holder.wait()


def _mount_namespace(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/mnt").readlink())


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4, 8, 16, 32])
def test_killed_at_any_moment_creation_leaves_all_or_nothing(milliseconds: int) -> None:
    name = namespace_of(f"test{secrets.token_hex(3)}")
    program = f"print(flush=True); from vlab.host import links; print(flush=True); links.create_namespace({name!r})"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline(), child.stdout.readline()
    time.sleep(milliseconds / 1000)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    try:
        if name in links.namespaces():
            assert inside(name, Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").read_text).strip() == "1"
        links.create_namespace(name)
        assert name in links.namespaces()
    finally:
        links.delete_namespace(name)
    assert name not in [*links.namespaces(), *links.half_made()]


# inside and forward


def test_inside_leaves_the_caller_where_it_is(lab: str) -> None:
    before = str(Path("/proc/thread-self/ns/net").readlink())
    there = inside(namespace_of(lab), lambda: str(Path("/proc/thread-self/ns/net").readlink()))
    assert there != before == str(Path("/proc/thread-self/ns/net").readlink())
    with pytest.raises(ZeroDivisionError):
        inside(namespace_of(lab), lambda: 1 // 0)
    with pytest.raises(UsageError):
        inside("vlab-no-such-lab", os.getpid)


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"from inside" * 100_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def served(lab: str) -> Iterator[str]:
    """A lab in whose namespace 10.30.0.254:80 serves a page."""
    server = inside(namespace_of(lab), lambda: ThreadingHTTPServer(("10.30.0.254", 80), Page))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield lab
    server.shutdown()
    server.server_close()


@pytest.fixture
def forwarding() -> Iterator[Callable[..., None]]:
    """Start forwards in a thread; they end with the test."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(lab: str, *forwards: Forward) -> None:
        ready = threading.Event()
        thread = threading.Thread(
            target=serve, args=(forwards, namespace_of(lab)), kwargs={"ready": ready.set, "stop": stop}, daemon=True
        )
        thread.start()
        threads.append(thread)
        assert ready.wait(5)

    yield start
    stop.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_forwards_reach_a_server_inside(served: str, forwarding: Callable[..., None]) -> None:
    address = IPv4Address("10.30.0.254")
    forwarding(served, Forward(18080, address, 80), Forward(18081, address, 80))
    for number in (18080, 18081):
        page = subprocess.run(["curl", "-s", f"http://127.0.0.1:{number}/"], capture_output=True, check=True).stdout
        assert page == b"from inside" * 100_000


def test_half_a_closed_connection_still_carries_the_answer(lab: str, forwarding: Callable[..., None]) -> None:
    import socket

    def listener() -> socket.socket:
        return socket.create_server(("10.30.0.254", 7))

    with inside(namespace_of(lab), listener) as server:

        def echo_at_the_end() -> None:
            connection = server.accept()[0]
            heard = b"".join(iter(lambda: connection.recv(65536), b""))
            connection.sendall(heard[::-1])
            connection.close()

        threading.Thread(target=echo_at_the_end, daemon=True).start()
        forwarding(lab, Forward(18082, IPv4Address("10.30.0.254"), 7))
        with socket.create_connection(("127.0.0.1", 18082), timeout=5) as client:
            client.sendall(b"abc" * 50_000)
            client.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: client.recv(65536), b"")) == b"cba" * 50_000


def test_a_refused_connection_ends_and_the_next_one_works(served: str, forwarding: Callable[..., None]) -> None:
    forwarding(served, Forward(18083, IPv4Address("10.30.0.254"), 81), Forward(18084, IPv4Address("10.30.0.254"), 80))
    assert subprocess.run(["curl", "-s", "-m5", "http://127.0.0.1:18083/"], check=False).returncode in (52, 56)
    assert subprocess.run(["curl", "-s", "-m5", "-o/dev/null", "http://127.0.0.1:18084/"], check=False).returncode == 0


def test_a_port_in_use_is_a_conflict(lab: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConflictError, match="in use"):
        forward = Forward(taken.getsockname()[1], IPv4Address("10.30.0.254"), 80)
        serve([forward], namespace_of(lab), ready=lambda: None, stop=threading.Event())


def test_forwards_of_a_lab_that_is_not_there_are_refused() -> None:
    with pytest.raises(UsageError):
        serve([], "vlab-no-such-lab", ready=lambda: None, stop=threading.Event())
