"""What ipvsadm 1.31 prints, as ``lvs show`` reads it, and the commands that it tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit import lvs_labs
from vlab.images.recipe import catalogue
from vlab.lvs.ipvsadm import typed
from vlab.lvs.listing import Connection, Rates, Totals, commands, connections, entries, rows
from vlab.lvs.modes import mode
from vlab.topology.addressing import complete
from vlab.topology.lab import Lab
from vlab.topology.parse import parse, read

TOPOLOGIES = Path(__file__).parents[2] / "topologies"

LISTINGS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.20.0.100:80 wlc
  -> 10.30.0.11:80                Masq    1      0          4
  -> 10.30.0.12:80                Masq    0      2          17
TCP  [fd00::1]:80 rr
  -> [fd00::2]:80                 Route   1      3          0
FWM  1 IPv6 sh (sh-port)
  -> [fd00::3]:0                  Tunnel  2      0          1
FWM  7 rr persistent 300
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn
  -> RemoteAddress:Port
TCP  10.20.0.100:80 wlc
  -> 10.30.0.11:80                100        50         0          4
  -> 10.30.0.12:80                0          0          2          17
TCP  [fd00::1]:80 rr
  -> [fd00::2]:80                 0          0          3          0
FWM  1 IPv6 sh (sh-port)
  -> [fd00::3]:0                  0          0          0          1
FWM  7 rr persistent 300
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.20.0.100:80                     21      126      105     9450 12345678901
  -> 10.30.0.11:80                       4       24       20     1800     2340
  -> 10.30.0.12:80                      17      102       85     7650     9945
TCP  [fd00::1]:80                        6       42        0     3000        0
  -> [fd00::2]:80                        6       42        0     3000        0
FWM  1 IPv6                              1        2        0       80        0
  -> [fd00::3]:0                         1        2        0       80        0
FWM  7                                   0        0        0        0        0
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port
TCP  10.20.0.100:80                      3       18       15     1350     1500
  -> 10.30.0.11:80                       1        6        5      450      500
  -> 10.30.0.12:80                       2       12       10      900     1000
TCP  [fd00::1]:80                        0        0        0        0        0
  -> [fd00::2]:80                        0        0        0        0        0
FWM  1 IPv6                              0        0        0        0        0
  -> [fd00::3]:0                         0        0        0        0        0
FWM  7                                   0        0        0        0        0
"""

LAB = lvs_labs.web_db()
WWW, SQL = LAB.services


def test_every_entry_with_its_numbers() -> None:
    found = entries(LISTINGS, "lvs1", [WWW])
    assert [(e.name, e.address, e.scheduler, e.flags) for e in found] == [
        ("www", "TCP 10.20.0.100:80", "wlc", ()),
        ("", "TCP [fd00::1]:80", "rr", ()),
        ("", "FWM 1 IPv6", "sh", ("(sh-port)",)),
        ("", "FWM 7", "rr", ("persistent", "300")),
    ]
    www = found[0]
    assert (www.director, www.totals) == ("lvs1", Totals(21, 126, 105, 9450, 12345678901))
    assert www.rates == Rates(3, 18, 15, 1350, 1500)
    web1, web2, web3 = www.real_servers
    assert (web1.node, web1.address, web1.method, web1.weight) == ("web1", "10.30.0.11:80", "Masq", 1)
    assert (web1.upper, web1.lower, web1.active, web1.inactive, web1.state) == (100, 50, 0, 4, "up")
    assert (web2.node, web2.state, web2.totals.connections, web2.rates.in_packets) == ("web2", "quiesced", 17, 12)
    assert (web3.node, web3.state, web3.method, web3.weight) == ("web3", "down", "", 1)
    assert [server.node for _, server in rows(found[1:2]) if server] == [""]


def test_a_declared_service_that_is_not_in_the_table_is_shown() -> None:
    for text in (LISTINGS, ""):
        sql = next(e for e in entries(text, "lvs1", [WWW, SQL]) if e.name == "sql")
        assert (sql.address, sql.scheduler) == ("TCP 10.30.0.200:3306", "")
        assert {server.state for server in sql.real_servers} == {"down"}
        assert len(sql.real_servers) == 3


def test_connections() -> None:
    text = """\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:57  ESTABLISHED 10.20.0.61:43210   10.20.0.100:80     10.30.0.31:80
UDP 00:09  UDP         [fd00::9]:5353     [fd00::1]:53       [fd00::2]:53
IP  120:00 NONE        10.20.0.61:0       0.0.0.1:0          10.30.0.31:0
"""
    assert connections(text) == [
        Connection("TCP", 897, "ESTABLISHED", "10.20.0.61:43210", "10.20.0.100:80", "10.30.0.31:80"),
        Connection("UDP", 9, "UDP", "[fd00::9]:5353", "[fd00::1]:53", "[fd00::2]:53"),
        Connection("IP", 7200, "NONE", "10.20.0.61:0", "0.0.0.1:0", "10.30.0.31:0"),
    ]
    assert connections("") == []


def test_a_saved_table_is_commands() -> None:
    saved = "-A -t 10.20.0.100:80 -s wlc -p 300\n-a -t 10.20.0.100:80 -r 10.30.0.11:80 -m -w 1 -x 100 -y 50\n"
    assert commands(saved) == [
        "ipvsadm -A -t 10.20.0.100:80 -s wlc -p 300",
        "ipvsadm -a -t 10.20.0.100:80 -r 10.30.0.11:80 -m -w 1 -x 100 -y 50",
    ]


def lab(name: str) -> Lab:
    return complete(parse(read(str(TOPOLOGIES / f"{name}.yaml")), images=catalogue()), None)


def commands_of(lab: Lab) -> list[str]:
    return [line for service in lab.services for line in typed(service, mode(service.mode).ipvsadm)]


def test_seed_001s_commands_corrected() -> None:
    assert commands_of(lab("seed-001")) == [
        "ipvsadm -A -t 10.196.1.74:80 -s wlc",
        "ipvsadm -a -t 10.196.1.74:80 -r 10.1.1.2:80 -m -w 1",
        "ipvsadm -a -t 10.196.1.74:80 -r 10.1.1.3:80 -m -w 2",
    ]


@pytest.mark.parametrize(("name", "option"), [("nat", "-m"), ("dr", "-g"), ("tun", "-i")])
def test_each_mode_has_its_option(name: str, option: str) -> None:
    added = [line.split() for line in commands_of(lab(name)) if " -a " in line]
    assert len(added) == 2
    assert all(option in words for words in added)


def test_persistence_and_udp() -> None:
    assert commands_of(lvs_labs.web_db())[4] == "ipvsadm -A -t 10.30.0.200:3306 -s lc -p 300"
    assert any("-A -u 10.30.0.201:53" in line for line in commands_of(lvs_labs.mixed()))


def test_tunnels_that_are_not_ipip_are_typed_out() -> None:
    ends = [line.partition(" -i -w 1")[2] for line in commands_of(lvs_labs.wrapped()) if " -a " in line]
    assert ends == [" --tun-type gue --tun-port 6080 --tun-remcsum"] * 2 + [" --tun-type gre"] * 2
    assert not any("--tun" in line for line in commands_of(lvs_labs.tunnel()))
