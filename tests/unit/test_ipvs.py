"""ipvsadm 1.31's output, read into data."""

from __future__ import annotations

from ipaddress import IPv4Address

from vlab.lvs.ipvs import Counters, parse

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
    assert tls is not None and (tls.persistence, tls.flags) == (60, ("(sh-port)", "mask", "255.255.255.0"))
    dns = table.service("udp", VIP, 53)
    assert dns is not None and (dns.persistence, dns.flags, dns.destinations) == (None, ("ops",), ())


def test_firewall_marks_and_ipv6_are_passed_over() -> None:
    assert len(parse(TABLE).services) == 4


def test_both_listings_together_have_counters() -> None:
    table = parse(TABLE + STATS)
    www = table.service("tcp", VIP, 80)
    assert www is not None
    assert www.counters == Counters(21, 126, 105, 9450, 1234567890)
    assert [d.counters.conns for d in www.destinations] == [4, 17]
    assert www.counters - Counters(1, 2, 3, 4, 5) == Counters(20, 124, 102, 9446, 1234567885)


def test_what_is_no_table_is_an_empty_one() -> None:
    assert parse("").services == ()
    assert (
        parse(
            "Can't initialize ipvs: Protocol not available\nAre you sure that IP Virtual Server is built in?\n"
        ).services
        == ()
    )
