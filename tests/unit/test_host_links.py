"""Marks of links, and the kernel's tables as data."""

from __future__ import annotations

import sys
from ipaddress import IPv4Interface

from hypothesis import given
from hypothesis import strategies as st

from vlab.host import marks
from vlab.host.marks import Bridge, Link, Port
from vlab.run import run

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,30}(\.[a-z0-9-]{1,30})?", fullmatch=True)

NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     128       1    0    0    0     0          0         0      129       2    0    0    0     0       0          0
v0123456789: 5000 50 1 7 0 0 0 0 6000 60 2 8 0 0 0 0
"""


@given(NAMES, NAMES)
def test_a_mark_comes_back(lab: str, name: str) -> None:
    assert marks.parse_mark(marks.mark(lab, name)) == (lab, name)


def test_a_foreign_alias_is_no_mark() -> None:
    assert [marks.parse_mark(alias) for alias in ("", "uplink", "vlab", "vlab:x", "vlan:x:y")] == [None] * 5


def test_only_marked_links_are_ours() -> None:
    found = marks.ours([
        Link(1, "lo", "", 65536, "", 0, IPv4Interface("127.0.0.1/8")),
        Link(2, "b0", "bridge", 1500, "vlab:shop:back", 0, IPv4Interface("10.30.0.254/24")),
        Link(3, "v1", "veth", 1400, "vlab:shop:web1.back", 2),
        Link(4, "v2", "tun", 1500, "vlab:shop:web2.back", 0),
        Link(5, "br9", "bridge", 1500, "mine", 0),
        Link(6, "vlabnet0", "tun", 1500, "", 0),
    ])  # fmt: skip
    assert found.bridges == (Bridge("b0", "back", 1500, "shop", IPv4Interface("10.30.0.254/24")),)
    assert found.ports == (Port("v1", "web1.back", "b0", 1400, "shop"), Port("v2", "web2.back", "", 1500, "shop"))


def test_device_names_have_a_form() -> None:
    assert all(marks.DEVICE.fullmatch(name) for name in ("v0123456789", "babcdef0123"))
    assert not any(
        marks.DEVICE.fullmatch(name) for name in ("veth0", "br0", "virbr0", "vnet12", "v012345678", "b0123456789a")
    )


def test_a_bridges_address_is_stable_local_and_unicast() -> None:
    mac = marks.bridge_mac("shop", "back")
    assert mac == marks.bridge_mac("shop", "back") != marks.bridge_mac("s01", "back")
    assert int(mac[:2], 16) & 3 == 2


def test_counters_are_read_by_device() -> None:
    found = marks.parse_counters(NET_DEV)
    assert found["lo"] == marks.Counters(128, 1, 0, 129, 2, 0)
    assert found["v0123456789"] == marks.Counters(5000, 50, 7, 6000, 60, 8)


def test_two_threads_may_be_the_first_to_need_netlink() -> None:
    """pyroute2's modules import each other: entered from two sides at once, one thread found a half-imported module."""
    program = """
import threading
from vlab.host import links
failed = []
def first():
    with links._explained("x"): pass
def second():
    links._netlink(None, lambda ip: None)
def guarded(deed):
    try: deed()
    except ImportError as error: failed.append(error)
threads = [threading.Thread(target=guarded, args=(deed,)) for deed in (second, first)]
for thread in threads: thread.start()
for thread in threads: thread.join()
raise SystemExit(len(failed))
"""
    for _ in range(4):
        assert run([sys.executable, "-c", program], check=False).code == 0
