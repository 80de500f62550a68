"""What guests, clients and bridges say, as facts."""

from __future__ import annotations

import struct
import subprocess
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network

import pytest

from tests.unit.lvs_labs import dual_stack, tunnel, web_db
from vlab.diagnosis import asking, reading
from vlab.diagnosis.facts import ANY6, Connection, Daemon, Guest, Hop, Listener
from vlab.diagnosis.reading import Questions
from vlab.engine import diagnosis
from vlab.host import arp, ndp
from vlab.host.neighbours import Questions as Asked

CUT = "=== vlab ===\n"
NETWORK = """\
[{"ifname":"lo","flags":["LOOPBACK","UP"],"mtu":65536,"link_type":"loopback","address":"00:00:00:00:00:00","addr_info":[{"family":"inet","local":"10.20.0.100","prefixlen":32}]},{"ifname":"eth0","flags":["UP"],"mtu":1500,"link_type":"ether","address":"52:54:00:AA:00:01","addr_info":[{"family":"inet","local":"10.20.0.11","prefixlen":24},{"family":"inet6","local":"fe80::1","prefixlen":64,"scope":"link"},{"family":"inet6","local":"fd00:20::11","prefixlen":64,"scope":"global"}]},{"ifname":"vlab-ipip0","flags":[],"mtu":1480,"link_type":"ipip","address":"10.20.0.11","linkinfo":{"info_kind":"ipip","info_data":{"local":"10.20.0.11"}},"addr_info":[]}]
[{"dst":"default","gateway":"10.20.0.1","dev":"eth0"},{"dst":"10.20.0.0/25","dev":"eth0","metrics":[{"advmss":1440}]}]
[{"dst":"10.20.0.10","dev":"eth0"}]
[{"dst":"10.9.0.1","gateway":"10.20.0.1","dev":"eth0"}]
[{"type":"unicast","dst":"fd00:9::1","from":"::","gateway":"fd00:20::1","dev":"eth0"}]
"""  # fmt: skip
NETWORK6 = """\
[{"type":"unicast","dst":"fd00:20::/65","dev":"eth0","metric":1024,"metrics":[{"advmss":1400}],"pref":"medium"},{"dst":"default","gateway":"fd00:20::1","dev":"eth0","pref":"medium"}]
[{"dst":"fd00:20::100","dev":"eth0","lladdr":"52:54:00:AA:00:02","state":["STALE"]},{"dst":"fd00:20::99","dev":"eth0","state":["FAILED"]}]
"""
FILES = """\
/proc/sys/net/ipv4/conf/all/arp_ignore:0
/proc/sys/net/ipv4/conf/eth0/arp_ignore:1
/proc/modules:ip_vs 200704 8 ip_vs_rr, Live 0x0000000000000000
/proc/modules:ip_vs_rr 16384 2 - Live 0x0000000000000000
/proc/net/arp:IP address       HW type     Flags       HW address            Mask     Device
/proc/net/arp:10.20.0.100      0x1         0x2         52:54:00:AA:00:02     *        eth0
/proc/net/arp:10.20.0.99       0x1         0x0         00:00:00:00:00:00     *        eth0
/etc/ssh/ssh_host_ed25519_key.pub:ssh-ed25519 AAAA:BBBB
"""
SOCKETS = """\
/proc/net/tcp:   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
/proc/net/tcp:   1: 0B00140A:01BB 0A00140A:C350 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
/proc/net/tcp6:   0: 00000000000000000000000000000000:0CEA 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 0 0 0 1
/proc/net/tcp6:   1: 00000000000000000000000001000000:0019 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 0 0 0 1
/proc/net/tcp6:   2: 200000FD000000000000000011000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 0 0 0 1
/proc/net/tcp6:   3: 0000000000000000FFFF00000B00140A:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 0 0 0 1
/proc/net/udp:   9: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0
/proc/net/ip_vs_conn:TCP 0A14000A C350 0A140064 0050 0A1E000B 0050 SYN_RECV         57
"""
SOCKETS += (
    f"/proc/net/ip_vs_conn:TCP fd00:0020:{'0000:' * 5}0010 0000 fd00:0020:{'0000:' * 5}0100 0050 "
    f"fd00:0030:{'0000:' * 5}0011 0050 NONE        299\n"
)
TABLE = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.20.0.100:80 rr
  -> 10.30.0.11:80                Masq    1      0          3
Timeout (tcp tcpfin udp): 900 120 300
master sync daemon (mcast=eth1, syncid=51, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)
"""


PINGS = "10.30.0.11 yes\n10.30.0.12 no\n10.30.0.13 silent\nfd00:30::11 no\n"


def read(questions: Questions = Questions(directs=True, six=True)) -> Guest:  # noqa: B008 - frozen
    return reading.parse(
        questions,
        CUT.join([NETWORK, NETWORK6 if questions.six else "", FILES, SOCKETS, TABLE, "table ip x {\n}\n", PINGS]),
    )


def test_devices_and_addresses() -> None:
    guest = read()
    assert guest.devices["eth0"].mac == "52:54:00:aa:00:01"
    assert (guest.devices["vlab-ipip0"].up, guest.devices["vlab-ipip0"].local) == (False, "10.20.0.11")
    assert guest.addresses == (
        ("lo", ip_interface("10.20.0.100/32")),
        ("eth0", ip_interface("10.20.0.11/24")),
        ("eth0", ip_interface("fd00:20::11/64")),
    ), "link-local addresses are everybody's"


def test_routes_and_hops() -> None:
    guest = read()
    assert [(route.destination, route.via, route.advmss) for route in guest.routes] == [
        (ip_network("0.0.0.0/0"), IPv4Address("10.20.0.1"), None), (ip_network("10.20.0.0/25"), None, 1440),
        (ip_network("fd00:20::/65"), None, 1400), (ip_network("::/0"), IPv6Address("fd00:20::1"), None),
    ]  # fmt: skip
    assert guest.hops == {
        IPv4Address("10.20.0.10"): Hop(None, "eth0"),
        IPv4Address("10.9.0.1"): Hop(IPv4Address("10.20.0.1"), "eth0"),
        IPv6Address("fd00:9::1"): Hop(IPv6Address("fd00:20::1"), "eth0"),
    }


def test_of_arp_ignore_the_larger_value_is_in_force() -> None:
    assert read().in_force("eth0", "arp_ignore") == 1
    assert read().in_force("eth7", "arp_ignore") is None


def test_small_files() -> None:
    guest = read()
    assert guest.modules() == {"ip_vs", "ip_vs_rr"}
    assert guest.neighbours() == dict.fromkeys(
        (IPv4Address("10.20.0.100"), IPv6Address("fd00:20::100")), "52:54:00:aa:00:02"
    )
    assert read(Questions(directs=True)).neighbours6 == {}
    assert guest.line(reading.HOST_KEY) == "ssh-ed25519 AAAA:BBBB"


def test_any_in_ipv6_is_of_ipv6_alone_where_another_listens_in_ipv4() -> None:
    both = (
        SOCKETS
        + "/proc/net/tcp6:   4: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0 0 0 0 0 1\n"
    )
    guest = reading.parse(Questions(), CUT.join([NETWORK, "", FILES, both, TABLE, "", ""]))
    assert {it for it in guest.listeners if it.port == 80} == {
        Listener("tcp", IPv4Address("127.0.0.1"), 80), Listener("tcp", ANY6, 80),
        Listener("tcp", IPv6Address("fd00:20::11"), 80),
    }  # fmt: skip
    assert Listener("tcp", None, 3306) in guest.listeners


def test_listeners_of_both_families() -> None:
    """What of IPv6 is bound to an IPv4 address written in IPv6 is of IPv4."""
    assert read().listeners == {
        Listener("tcp", IPv4Address("127.0.0.1"), 80), Listener("tcp", None, 3306), Listener("udp", None, 53),
        Listener("tcp", ANY6, 3306), Listener("tcp", IPv6Address("::1"), 25), Listener("tcp", IPv6Address("fd00:20::11"), 80),
        Listener("tcp", IPv4Address("10.20.0.11"), 81),
    }  # fmt: skip


def test_whom_a_listener_takes() -> None:
    four, six = IPv4Address("10.20.0.11"), IPv6Address("fd00:20::11")
    assert (Listener("tcp", None, 80).takes(four), Listener("tcp", None, 80).takes(six)) == (True, False)
    assert (Listener("tcp", ANY6, 80).takes(four), Listener("tcp", ANY6, 80).takes(six)) == (False, True)
    assert (Listener("tcp", six, 80).takes(six), Listener("tcp", IPv6Address("::1"), 80).takes(six)) == (True, False)


def test_the_director_s_tables() -> None:
    guest = read()
    client, vip, server = (IPv4Address(text) for text in ("10.20.0.10", "10.20.0.100", "10.30.0.11"))
    client6, vip6, server6 = (IPv6Address(text) for text in ("fd00:20::10", "fd00:20::100", "fd00:30::11"))
    assert guest.connections == (
        Connection(client, 50000, vip, 80, server, "SYN_RECV"),
        Connection(client6, 0, vip6, 80, server6, "NONE"),
    )
    assert guest.daemons == (Daemon("master", "eth1", 51),)
    assert guest.timeouts == (900, 120, 300)
    assert guest.table is not None
    assert guest.table.services[0].destinations[0].inactive == 3
    assert read(Questions()).table is None


def test_pings_tell_what_was_carried() -> None:
    assert read().carried == {
        IPv4Address("10.30.0.11"): True,
        IPv4Address("10.30.0.12"): False,
        IPv4Address("10.30.0.13"): None,
        IPv6Address("fd00:30::11"): False,
    }


@pytest.mark.parametrize("text", ["", "sh: 1: ip: not found\n", CUT * 3])
def test_other_output_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unpack"):
        reading.parse(Questions(), text)


def test_the_command_runs_and_reads_this_machine() -> None:
    """In any place with sh and grep: what is missing is left out."""
    done = subprocess.run(reading.command(Questions()), capture_output=True, text=True, check=True)
    files = done.stdout.split(CUT)[2]
    assert "/proc/sys/kernel/osrelease:" in files
    assert len(done.stdout.split(CUT)) == 7


def test_a_director_pings_what_tunnels_must_carry() -> None:
    lab = tunnel()
    asked = diagnosis.questions(lab, lab.node("lvs1"))
    assert asked.packets == ((IPv4Address("10.30.0.11"), 1500), (IPv4Address("10.30.0.12"), 1500))
    assert reading.command(asked)[-4:] == ["10.30.0.11", "1472", "10.30.0.12", "1472"]
    assert diagnosis.questions(lab, lab.node("web1")) == Questions()


def test_what_is_pinged_in_ipv6_has_larger_headers() -> None:
    """1500 from a client, 60 of headers in it, 40 around it."""
    lab = dual_stack()
    asked = diagnosis.questions(lab, lab.node("lvs1"))
    assert asked.six
    assert asked.packets == ((IPv4Address("10.30.0.61"), 1520), (IPv6Address("fd00:30::61"), 1540))
    assert reading.command(asked)[-4:] == ["10.30.0.61", "1492", "fd00:30::61", "1492"]


def test_a_nat_server_is_asked_for_the_way_to_clients() -> None:
    lab = web_db()
    assert diagnosis.questions(lab, lab.node("web1")).clients == (IPv4Address("10.20.0.10"), IPv4Address("10.20.0.254"))


def test_a_nat_server_is_asked_for_the_way_to_ipv6_clients() -> None:
    lab = dual_stack()
    clients = diagnosis.questions(lab, lab.node("app1")).clients
    assert [str(it) for it in clients if it.version == 6] == [
        "fd00:20::121", "fd00:20::91", "fd00:20::61", "fd00:20::254",
    ]  # fmt: skip


def test_neighbours_are_asked_for_virtual_addresses_and_nodes() -> None:
    front = diagnosis.neighbour_questions(web_db())[0]
    assert front == Asked("vb-front", tuple(IPv4Address(it) for it in ("10.20.0.100", "10.20.0.10", "10.20.0.2")))


def test_in_ipv6_they_are_asked_from_the_bridge_s_own_address() -> None:
    back = next(it for it in diagnosis.neighbour_questions(dual_stack()) if it.source6 == IPv6Address("fd00:30::254"))
    assert {str(it) for it in back.addresses6} == {"fd00:30::1", "fd00:30::31", "fd00:30::32", "fd00:30::61"}
    assert {str(it) for it in back.addresses} == {"10.30.0.1", "10.30.0.31", "10.30.0.32", "10.30.0.61"}


def test_network_filters_of_a_domain() -> None:
    assert diagnosis.filters("<interface type='ethernet'><filterref filter='clean-traffic'/></interface>") == (
        "clean-traffic",
    )


SNMP = "Tcp: InErrs InCsumErrors\nTcp: 0 {tcp}\nUdp: InCsumErrors NoPorts\nUdp: {udp} 7\n"


def test_answers_and_bad_checksums_of_a_client() -> None:
    service = web_db().services[0]
    before, after = SNMP.format(tcp=1, udp=1), SNMP.format(tcp=3, udp=2)
    found = asking.parse("client1", service, CUT.join([before, "200\n000\n200\n", "405\n000\n000\n", after, ""]))
    assert (found.node, found.requests, found.small, found.large, found.bad_checksums) == ("client1", 3, 2, 1, 3)


def test_a_client_without_curl_says_so() -> None:
    argv = asking.command(web_db().services[0])
    assert subprocess.run(argv, env={"PATH": "/nowhere"}, executable="/bin/sh", check=False).returncode == 127


def advertisement(target: str, mac: str, *, hops: int = 255, options: bool = True) -> bytes:
    """As a Linux guest answers a solicitation."""
    source, to = IPv6Address(target), IPv6Address("fd00:20::254")
    body = struct.pack("!BBHI16s", ndp.ADVERTISEMENT, 0, 0, 0x60000000, source.packed)
    body += b"\x02\x01" + bytes.fromhex(mac.replace(":", "")) if options else b""
    body = body[:2] + struct.pack("!H", ndp.checksum(source, to, body)) + body[4:]
    ip = struct.pack("!IHBB16s16s", 6 << 28, len(body), 58, hops, source.packed, to.packed)
    return bytes.fromhex("525400aa0001525400aa0009") + b"\x86\xdd" + ip + body


def test_a_neighbour_solicitation() -> None:
    """RFC 4861, 4.3: to the target's solicited-node group, hop limit 255, with the asker's MAC as an option."""
    made = ndp.request(bytes.fromhex("525400aa0001"), IPv6Address("fd00:20::254"), IPv6Address("fd00:20::100"))
    assert made[:14].hex() == "3333ff000100525400aa000186dd"
    assert made[38:54] == IPv6Address("ff02::1:ff00:100").packed
    assert (made[20], made[21], made[54], len(made)) == (58, 255, 135, 86)
    assert ndp.checksum(IPv6Address("fd00:20::254"), IPv6Address("ff02::1:ff00:100"), made[54:]) == 0
    assert made[78:].hex() == "0101525400aa0001"
    assert ndp.reply(made) is None


def test_neighbour_advertisements() -> None:
    answer = advertisement("fd00:20::100", "52:54:00:aa:00:02")
    assert ndp.reply(answer) == (IPv6Address("fd00:20::100"), "52:54:00:aa:00:02")
    assert ndp.reply(answer + bytes(9)) == ndp.reply(answer), "short frames are padded"
    bare = advertisement("fd00:20::100", "52:54:00:aa:00:02", options=False)
    assert ndp.reply(bare) == (IPv6Address("fd00:20::100"), "52:54:00:aa:00:09"), "its sender's MAC"
    assert ndp.reply(advertisement("fd00:20::100", "52:54:00:aa:00:02", hops=64)) is None
    for cut in range(len(answer)):
        assert ndp.reply(answer[:cut]) is None
    for at in range(12, len(answer)):
        damaged = answer[:at] + bytes([answer[at] ^ 0xFF]) + answer[at + 1 :]
        assert ndp.reply(damaged) != ndp.reply(answer) or at in range(14, 18), at


def test_arp_frames() -> None:
    asked = arp.request(bytes.fromhex("525400aa0001"), IPv4Address("10.20.0.100"))
    assert asked[:6] == b"\xff" * 6
    assert asked[28:32] == bytes(4), "a question from 0.0.0.0 teaches nobody anything"
    assert arp.reply(asked) is None
    answer = arp._HEADER.pack(bytes(6), bytes(6), 0x0806, 1, 0x0800, 6, 4, 2, bytes.fromhex("525400aa0002"),
                              IPv4Address("10.20.0.100").packed, bytes(6), bytes(4))  # fmt: skip
    assert arp.reply(answer + bytes(18)) == (IPv4Address("10.20.0.100"), "52:54:00:aa:00:02")
    assert arp.reply(answer[:20]) is None
