"""What files under /proc/net say of a director's node; the texts are a guest's own."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from vlab.lvs import procfs
from vlab.lvs.ipvs import FWMARK, NO_ADDRESS, Destination, Virtual

TRIE = """\
Main:
  +-- 0.0.0.0/1 2 0 2
     +-- 10.20.0.0/24 2 0 1
        +-- 10.20.0.0/31 1 0 0
           |-- 10.20.0.0
              /24 link UNICAST
           |-- 10.20.0.1
              /32 host LOCAL
        |-- 10.20.0.100
           /32 host LOCAL
        |-- 10.20.0.255
           /32 link BROADCAST
     +-- 127.0.0.0/31 1 0 0
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
"""
SIX = """\
fe80000000000000505400fffec5a5cc 04 40 20 80     eth0
fd002000000000000000000000000100 04 80 00 a0     eth0
"""
TABLE = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A140064:0050 wlc persistent 75000 FFFFFF00
  -> 0A1E0020:1F90      Masq    3      2          117
UDP  [fd00:0020:0000:0000:0000:0000:0000:0100]:0035 rr  ops
  -> [fd00:0030:0000:0000:0000:0000:0000:000b]:0035      Tunnel  1      0          0
FWM  0000000A sh
"""


def test_local_addresses_are_those_of_the_node_and_no_broadcast() -> None:
    found = list(procfs.addresses(TRIE))
    assert [str(each) for each in found] == ["10.20.0.1", "10.20.0.100", "127.0.0.1"]
    assert list(procfs.addresses6(SIX))[1] == IPv6Address("fd00:2000::100")


def test_the_kernels_table() -> None:
    web, name = (procfs.table(TABLE).services[place] for place in (0, 1))
    assert web == Virtual("tcp", IPv4Address("10.20.0.100"), 80, "wlc", destinations=(
        Destination(IPv4Address("10.30.0.32"), 8080, "Masq", 3, 2, 117),
    ))  # fmt: skip
    assert (name.protocol, name.address, name.port) == ("udp", IPv6Address("fd00:20::100"), 53)
    assert [(str(d.address), d.method) for d in name.destinations] == [("fd00:30::b", "Tunnel")]
    assert procfs.table(TABLE).services[2] == Virtual(FWMARK, NO_ADDRESS, 10, "sh")
    assert procfs.table("").services == ()
