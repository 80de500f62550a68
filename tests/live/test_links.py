"""Networks of labs in real namespaces: made, filled, seen from outside, and gone. Needs root, no libvirt."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import eventually, host
from tests.live.networks import BACK, network_lab
from vlab.errors import HostError, UsageError
from vlab.host import links
from vlab.host.namespace import FOLDER, inside
from vlab.topology.lab import Network
from vlab.topology.lab import namespace as namespace_of

pytestmark = pytest.mark.live


@pytest.fixture
def lab() -> Iterator[str]:
    with network_lab() as name:
        yield name


@pytest.fixture
def other() -> Iterator[str]:
    with network_lab() as name:
        yield name


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


def test_a_tap_is_adopted(lab: str) -> None:
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


def test_a_run_killed_between_moving_and_connecting_leaves_a_known_port(lab: str) -> None:
    device = veth()
    with pytest.raises(HostError, match="no bridge"):
        links.adopt(namespace_of(lab), device, "b9999999999", "web1.back", BACK.mtu, lab)
    assert [found.bridge for found in links.observe(namespace_of(lab)).ports] == [""]
    links.adopt_all(namespace_of(lab), [port(lab, device)])
    assert links.observe(namespace_of(lab)).ports == (port(lab, device),)


def test_counters_count(lab: str) -> None:
    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(bytes(100), ("127.0.0.1", 9))

    inside(namespace_of(lab), send)
    found = links.counters(namespace_of(lab))
    assert set(found) == {"lo", BACK.bridge}
    assert found["lo"].rx_bytes >= 128 <= found["lo"].tx_bytes


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


def test_inside_leaves_the_caller_where_it_is(lab: str) -> None:
    before = str(Path("/proc/thread-self/ns/net").readlink())
    there = inside(namespace_of(lab), lambda: str(Path("/proc/thread-self/ns/net").readlink()))
    assert there != before == str(Path("/proc/thread-self/ns/net").readlink())
    with pytest.raises(ZeroDivisionError):
        inside(namespace_of(lab), lambda: 1 // 0)
    with pytest.raises(UsageError):
        inside("vlab-no-such-lab", os.getpid)
