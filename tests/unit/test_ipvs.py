"""ipvsadm 1.31's output, read into data."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from vlab.lvs import ipvs
from vlab.lvs.ipvs import NO_ADDRESS, Counters, Table, counted, parse

TABLE = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.20.0.100:80 wlc
  -> 10.30.0.11:80                Masq    1      0          4         
  -> 10.30.0.12:80                Masq    3      2          17        
TCP  10.30.0.200:3306 lc persistent 300
  -> 10.30.0.21:3306              Route   1      0          0         
  -> 10.30.0.22:3306              Tunnel  0      0          0         
TCP  10.30.0.201:443 sh (sh-port) persistent 60 mask 255.255.255.0
UDP  10.20.0.100:53 rr ops
FWM  1 rr
  -> 10.30.0.99:0                 Masq    1      0          0         
TCP  [fd00::1]:80 rr
  -> [fd00::2]:80                 Route   1      0          0         
"""  # noqa: W291 - ipvsadm pads its last column

STATS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.20.0.100:80                     21      126      105     9450 1234567890
  -> 10.30.0.11:80                       4       24       20     1800     2340
  -> 10.30.0.12:80                      17      102       85     7650     9945
TCP  10.30.0.200:3306                    6       42        0     3000        0
  -> 10.30.0.21:3306                     6       42        0     3000        0
  -> 10.30.0.22:3306                     0        0        0        0        0
"""

MARKED_STATS = """\
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
FWM  1                                   3       18       15     1350     2000
  -> 10.30.0.99:0                        3       18       15     1350     2000
"""

THRESHOLDS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n\
  -> RemoteAddress:Port
TCP  10.20.0.100:80 wlc
  -> 10.30.0.11:80                100        80         0          4         \n\
  -> 10.30.0.12:80                50         0          2          17        \n\
FWM  1 rr
  -> 10.30.0.99:0                 0          0          0          0         \n\
"""

VIP, SQL = IPv4Address("10.20.0.100"), IPv4Address("10.30.0.200")


def test_services_and_destinations() -> None:
    table = parse(TABLE)
    www = table.service("tcp", VIP, 80)
    assert www is not None and (www.scheduler, www.persistence, www.flags) == ("wlc", None, ())
    found = www.destination(IPv4Address("10.30.0.12"), 80)
    assert found is not None
    assert (found.method, found.weight, found.active, found.inactive) == ("Masq", 3, 2, 17)
    assert www.destination(IPv4Address("10.30.0.13"), 80) is None
    assert table.service("udp", VIP, 80) is None


def test_persistence_and_flags() -> None:
    table = parse(TABLE)
    sql = table.service("tcp", SQL, 3306)
    assert sql is not None and sql.persistence == 300
    assert [d.method for d in sql.destinations] == ["Route", "Tunnel"]
    tls = table.service("tcp", IPv4Address("10.30.0.201"), 443)
    assert tls is not None and (tls.persistence, tls.netmask, tls.flags) == (60, 24, ("(sh-port)",))
    assert tls.scheduler_flags == {"sh-port"} and not tls.one_packet
    dns = table.service("udp", VIP, 53)
    assert dns is not None and (dns.persistence, dns.flags, dns.destinations) == (None, ("ops",), ())
    assert dns.one_packet and dns.netmask == 32


def test_every_service_is_read() -> None:
    text = parse(TABLE + "FWM  2 IPv6 rr\n  -> [fd00::2]:0   Route   1      0          0\n")
    assert [service.protocol for service in text.services] == ["tcp", "tcp", "tcp", "udp", "fwm", "tcp", "fwm"]


def test_a_firewall_mark_is_a_service_with_the_mark_for_a_port() -> None:
    marked = parse(TABLE + MARKED_STATS).service("fwm", NO_ADDRESS, 1)
    assert marked is not None and (marked.scheduler, marked.counters.conns) == ("rr", 3)
    found = marked.destination(IPv4Address("10.30.0.99"), 0)
    assert found is not None and (found.method, found.counters.in_packets) == ("Masq", 18)


def test_thresholds_come_from_a_listing_of_their_own() -> None:
    text = TABLE + THRESHOLDS + STATS
    www = parse(text).service("tcp", VIP, 80)
    assert www is not None and [(d.upper, d.lower) for d in www.destinations] == [(100, 80), (50, 0)]
    assert [(d.weight, d.active, d.counters.conns) for d in www.destinations] == [(1, 0, 4), (3, 2, 17)]
    again = counted(parse(text), STATS).service("tcp", VIP, 80)
    assert again is not None and again.destinations[0].upper == 100
    assert parse(text).service("fwm", NO_ADDRESS, 1) is not None


SIX = """\
TCP  [fd00::1]:80                        3       18        0     1350        0
  -> [fd00::2]:80                        3       18        0     1350        0
"""


def test_an_ipv6_netmask_is_a_length() -> None:
    lines = "TCP  [fd00::1]:80 rr persistent 60 mask 64\nTCP  [fd00::1]:81 rr persistent 60\n"
    assert [service.netmask for service in parse(lines).services] == [64, 128]


def test_ipv6_is_read_with_its_counters() -> None:
    service = parse(TABLE + STATS + SIX).service("tcp", IPv6Address("fd00::1"), 80)
    assert service is not None and (service.scheduler, service.counters.conns) == ("rr", 3)
    found = service.destination(IPv6Address("fd00::2"), 80)
    assert found is not None and (found.method, found.counters.in_bytes) == ("Route", 1350)


def test_both_listings_together_have_counters() -> None:
    table = parse(TABLE + STATS)
    www = table.service("tcp", VIP, 80)
    assert www is not None
    assert www.counters == Counters(21, 126, 105, 9450, 1234567890)
    assert [d.counters.conns for d in www.destinations] == [4, 17]
    assert www.counters - Counters(1, 2, 3, 4, 5) == Counters(20, 124, 102, 9446, 1234567885)


def test_counters_alone_bring_a_table_up_to_date() -> None:
    whole = parse(TABLE + STATS)
    assert counted(parse(TABLE), STATS) == Table(tuple(s for s in whole.services if s.counters != Counters()))
    assert counted(whole, "") == Table()
    fewer = "\n".join(line for line in STATS.splitlines() if "10.30.0.12" not in line)
    www = counted(whole, fewer).service("tcp", VIP, 80)
    assert www is not None and [d.counters.conns for d in www.destinations] == [4, 0]


def test_what_is_no_table_is_an_empty_one() -> None:
    assert parse("").services == ()
    assert (
        parse(
            "Can't initialize ipvs: Protocol not available\nAre you sure that IP Virtual Server is built in?\n"
        ).services
        == ()
    )


def test_the_kernels_own_file_tells_how_many_connections_there_were() -> None:
    total = """\
   Total Incoming Outgoing         Incoming         Outgoing
   Conns  Packets  Packets            Bytes            Bytes
      1F       A0       3C             2F10             1234

 Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
       0        0        0                0                0
"""
    assert ipvs.total(total) == 31
    with pytest.raises(ValueError, match="no statistics"):
        ipvs.total("")
