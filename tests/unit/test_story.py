"""The way of one request, told from synthetic sightings: seed 001's four rows, DR, TUN, a packet that got lost, and what is not its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.lvs_golden import matches
from tests.wire import ethernet, ip, tcp, udp
from vlab.engine.trace import questions
from vlab.images.recipe import catalogue
from vlab.lvs.sequence import mermaid
from vlab.lvs.story import GATEWAY, Row, Sighting, Story, tell
from vlab.topology.addressing import complete
from vlab.topology.lab import Lab, Service
from vlab.topology.parse import parse, read
from vlab.topology.ports import PortRange
from vlab.wire.frames import decode

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
SYN, SYN_ACK, RST_ACK = 2, 18, 20
GATEWAYS = {"front": "0a:00:00:00:00:01", "back": "0a:00:00:00:00:02"}


class Way:
    """Frames as they pass the interfaces of a lab; each ``hop`` is seen where it is sent and where it arrives."""

    def __init__(self, name: str) -> None:
        source = read(str(TOPOLOGIES / f"{name}.yaml"))
        self.lab: Lab = complete(parse(source, images=catalogue()), None)
        self.service: Service = self.lab.services[0]
        self.sightings: list[Sighting] = []
        self.now = 1_000_000

    def mac(self, name: str, network: str) -> str:
        return GATEWAYS[network] if name == GATEWAY else self.lab.node(name).nic(network).mac

    def hop(self, sender: str, receiver: str, network: str, packet: bytes, *, arrives: bool = True) -> None:
        source, destination = (self.mac(name, network) for name in (sender, receiver))
        frame = decode(ethernet(source, destination, packet))
        assert frame is not None
        self.now += 50_000
        self.sightings.append(Sighting(self.now, sender, network, sent=True, frame=frame))
        if arrives:
            self.sightings.append(Sighting(self.now + 5_000, receiver, network, sent=False, frame=frame))

    def datagrams(self, *, snat: bool = False) -> Way:
        """The same lab with its service by UDP."""
        self.service = replace(self.service, protocol="udp", snat=snat)
        return self

    def told(self) -> Story:
        return tell(self.lab, self.service, "client1", self.sightings[::-1], GATEWAYS.values())


def syn(source: str, destination: str, *, port: int = 80, ttl: int = 64) -> bytes:
    return ip(source, destination, 6, tcp(3456, port, SYN, sequence=1000), ttl=ttl)


def answer(source: str, destination: str, *, flags: int = SYN_ACK, ttl: int = 64) -> bytes:
    return ip(source, destination, 6, tcp(80, 3456, flags, sequence=5000, acknowledged=1001), ttl=ttl)


def nat() -> Way:
    way = Way("seed-001")
    way.hop("client1", "lvs1", "front", syn("10.196.1.73", "10.196.1.74"))
    way.hop("lvs1", "web1", "back", syn("10.196.1.73", "10.1.1.2", ttl=63))
    way.hop("web1", "lvs1", "back", answer("10.1.1.2", "10.196.1.73"))
    way.hop("lvs1", "client1", "front", answer("10.196.1.74", "10.196.1.73", ttl=63))
    return way


def direct() -> Way:
    way = Way("dr")
    client, vip = str(way.lab.node("client1").address("lan")), str(way.service.vip)
    way.hop("client1", "lvs1", "lan", syn(client, vip))
    way.hop("lvs1", "web1", "lan", syn(client, vip, ttl=63))
    way.hop("web1", "client1", "lan", answer(vip, client))
    return way


def tunnel() -> Way:
    way = Way("tun")
    client, vip = str(way.lab.node("client1").address("front")), str(way.service.vip)
    lvs1, web1 = (str(way.lab.node(name).address("back")) for name in ("lvs1", "web1"))
    way.hop("client1", "lvs1", "front", syn(client, vip))
    way.hop("lvs1", "web1", "back", ip(lvs1, web1, 4, syn(client, vip, ttl=63)))
    way.hop("web1", "client1", "front", answer(vip, client))
    return way


def routed() -> Way:
    """As dr.yaml, but the client is on another network than the real servers: the lab's gateway is between them."""
    way = Way("modes")
    client, vip = str(way.lab.node("client1").address("front")), str(way.service.vip)
    way.hop("client1", "lvs1", "front", syn(client, vip))
    way.hop("lvs1", "web1", "back", syn(client, vip, ttl=63))
    way.hop("web1", GATEWAY, "back", answer(vip, client))
    way.hop(GATEWAY, "client1", "front", answer(vip, client, ttl=63))
    return way


def ends(row: Row) -> tuple[str, str, str]:
    return row.packet, str(row.source), str(row.destination)


def test_nat_is_table_2_of_seed_001() -> None:
    story = nat().told()
    assert story.complete
    assert [ends(row) for row in story.rows] == [
        ("request", "10.196.1.73:3456", "10.196.1.74:80"),
        ("rewritten", "10.196.1.73:3456", "10.1.1.2:80"),
        ("reply", "10.1.1.2:80", "10.196.1.73:3456"),
        ("rewritten", "10.196.1.74:80", "10.196.1.73:3456"),
    ]
    assert [(r.sender, r.receiver) for r in story.rows] == [
        ("client1", "lvs1"), ("lvs1", "web1"), ("web1", "lvs1"), ("lvs1", "client1")
    ]  # fmt: skip
    assert [(r.source.name, r.destination.name) for r in story.rows] == [
        ("client1", "www"), ("client1", "web1"), ("web1", "client1"), ("www", "client1")
    ]  # fmt: skip


def changed(row: Row) -> list[str]:
    return [change.what for change in row.changes]


def test_direct_routing_changes_macs_and_nothing_of_the_packet() -> None:
    story = direct().told()
    assert [row.packet for row in story.rows] == ["request", "forwarded", "reply"]
    assert changed(story.rows[1]) == ["source MAC", "destination MAC", "TTL"]
    assert story.rows[0].destination == story.rows[1].destination == story.rows[2].source
    assert (story.rows[2].sender, story.rows[2].receiver, story.complete) == ("web1", "client1", True)


def test_an_answer_over_the_labs_gateway_is_followed() -> None:
    story = routed().told()
    assert (story.complete, story.fault) == (True, "")
    assert [(r.packet, r.sender, r.receiver, r.network) for r in story.rows[2:]] == [
        ("reply", "web1", GATEWAY, "back"),
        ("forwarded", GATEWAY, "client1", "front"),
    ]
    assert {change.what for change in story.rows[3].changes} == {"source MAC", "destination MAC", "TTL"}


def test_a_gateway_that_forwards_nothing_is_told() -> None:
    way = routed()
    way.sightings = way.sightings[:-2]
    assert way.told().fault == "gateway took the reply and sent nothing on"


def test_a_tunnel_adds_a_header_which_the_real_server_takes_off() -> None:
    way = tunnel()
    story = way.told()
    lvs1, web1 = (way.lab.node(name).address("back") for name in ("lvs1", "web1"))
    assert [row.packet for row in story.rows] == ["request", "wrapped", "reply"]
    assert [str(outer) for outer in story.rows[1].outer] == [f"ipip {lvs1} → {web1}"]
    assert story.rows[0].destination == story.rows[1].destination
    assert [(c.by, c.before, c.after) for c in story.unwrapped] == [("web1", f"ipip {lvs1} → {web1}", "")]
    assert (story.rows[2].outer, story.rows[2].receiver, story.complete) == ((), "client1", True)


def ask(source: str, destination: str, *, port: int = 80, ttl: int = 64, client_port: int = 3456) -> bytes:
    return ip(source, destination, 17, udp(client_port, port, b"name\n"), ttl=ttl)


def echo(source: str, destination: str, *, ttl: int = 64, client_port: int = 3456) -> bytes:
    """An answer of the same bytes as the question."""
    return ip(source, destination, 17, udp(80, client_port, b"name\n"), ttl=ttl)


def nat_udp(inner: str = "10.196.1.73", *, snat: bool = False) -> Way:
    way = Way("seed-001").datagrams(snat=snat)
    way.hop("client1", "lvs1", "front", ask("10.196.1.73", "10.196.1.74"))
    way.hop("lvs1", "web1", "back", ask(inner, "10.1.1.2", ttl=63))
    way.hop("web1", "lvs1", "back", echo("10.1.1.2", inner))
    way.hop("lvs1", "client1", "front", echo("10.196.1.74", "10.196.1.73", ttl=63))
    return way


def direct_udp() -> Way:
    way = Way("dr").datagrams()
    client, vip = str(way.lab.node("client1").address("lan")), str(way.service.vip)
    way.hop("client1", "lvs1", "lan", ask(client, vip))
    way.hop("lvs1", "web1", "lan", ask(client, vip, ttl=63))
    way.hop("web1", "client1", "lan", echo(vip, client))
    return way


def tunnel_udp() -> Way:
    way = Way("tun").datagrams()
    client, vip = str(way.lab.node("client1").address("front")), str(way.service.vip)
    lvs1, web1 = (str(way.lab.node(name).address("back")) for name in ("lvs1", "web1"))
    way.hop("client1", "lvs1", "front", ask(client, vip))
    way.hop("lvs1", "web1", "back", ip(lvs1, web1, 4, ask(client, vip, ttl=63)))
    way.hop("web1", "client1", "front", echo(vip, client))
    return way


@pytest.mark.parametrize(
    ("way", "packets"),
    [
        (nat_udp, ["request", "rewritten", "reply", "rewritten"]),
        (lambda: nat_udp("10.1.1.1", snat=True), ["request", "rewritten", "reply", "rewritten"]),
        (direct_udp, ["request", "forwarded", "reply"]),
        (tunnel_udp, ["request", "wrapped", "reply"]),
    ],
    ids=["nat", "full nat", "dr", "tun"],
)
def test_a_datagrams_way_and_its_answers_of_the_same_bytes(way: Callable[[], Way], packets: list[str]) -> None:
    made = way()
    story = made.told()
    assert ([row.packet for row in story.rows], story.fault) == (packets, "")
    assert all(row.arrived and row.flags == () for row in story.rows)
    assert (story.rows[-1].receiver, str(story.rows[-1].source)) == ("client1", f"{made.service.vip}:80")


def test_datagrams_of_other_clients_and_of_health_checks_are_not_its_way() -> None:
    way = nat_udp()
    plain = way.told()
    way.hop("client1", "lvs1", "front", ask("10.196.1.73", "10.196.1.74", client_port=3457))
    way.hop("lvs1", "web2", "back", ask("10.196.1.73", "10.1.1.3", ttl=63, client_port=3457))
    way.hop("lvs1", "web2", "back", ask("10.1.1.1", "10.1.1.3", client_port=40000))
    way.hop("web2", "lvs1", "back", echo("10.1.1.3", "10.1.1.1", client_port=40000))
    assert way.told() == plain


@pytest.mark.parametrize(
    ("kept", "fault"),
    [
        (1, "client1 sent it on front to lvs1, where it did not arrive"),
        (4, "web1 took the request and answered nothing"),
        (6, "lvs1 took the reply and sent nothing on"),
    ],
)
def test_where_a_datagram_was_lost(kept: int, fault: str) -> None:
    way = nat_udp()
    way.sightings = way.sightings[:kept]
    assert (way.told().fault, way.told().complete) == (fault, False)


def test_a_datagram_of_a_list_of_ports_goes_to_the_first() -> None:
    way = direct_udp()
    ports = (PortRange(80, 80), PortRange(443, 443))
    way.service = replace(way.service, ports=ports)
    assert [row.packet for row in way.told().rows] == ["request", "forwarded", "reply"]


@pytest.mark.parametrize(("protocol", "serves", "spoken"), [
    ("udp", {80: "udp"}, ["udp"]), ("udp", {}, ["udp"]), ("udp", {80: "http"}, ["udp"]),
    ("tcp", {80: "http"}, ["http", "tcp"]), ("tcp", {80: "mysql"}, ["mysql", "tcp"]), ("tcp", {}, ["tcp"]),
])  # fmt: skip
def test_a_request_is_in_the_services_own_protocol(protocol: str, serves: dict[int, str], spoken: list[str]) -> None:
    service = replace(Way("dr").service, protocol=protocol)
    assert [ask.probe for ask in questions(service, serves)] == spoken


@pytest.mark.parametrize("way", [nat, direct, tunnel], ids=lambda way: way.__name__)
def test_mermaid_is_the_golden_one(way: Callable[[], Way]) -> None:
    matches(f"mermaid/{way.__name__}.mmd", mermaid(way().told()) + "\n")


def test_a_refusal_is_told_with_who_refused() -> None:
    way = nat()
    way.sightings = way.sightings[:4]
    way.hop("web1", "lvs1", "back", answer("10.1.1.2", "10.196.1.73", flags=RST_ACK))
    way.hop("lvs1", "client1", "front", answer("10.196.1.74", "10.196.1.73", flags=RST_ACK, ttl=63))
    story = way.told()
    assert (story.complete, story.fault) == (False, "web1 refused the connection (RST)")
    assert story.rows[-1].flags == ("RST", "ACK")


def test_an_answer_past_the_director_is_none_that_the_client_takes() -> None:
    """NAT's classic: client and real server on one network."""
    way = Way("seed-001")
    way.hop("web1", "lvs1", "back", syn("10.1.1.2", "10.196.1.74"))
    way.hop("lvs1", "web2", "back", syn("10.1.1.2", "10.1.1.3", ttl=63))
    way.hop("web2", "web1", "back", answer("10.1.1.3", "10.1.1.2"))
    story = tell(way.lab, way.service, "web1", way.sightings)
    assert len(story.rows) == 3
    assert story.fault == (
        "the answer came to web1 from 10.1.1.3:80, which it never asked: it waits for 10.196.1.74:80"
    )


def test_full_nat_is_followed_by_its_sequence_numbers() -> None:
    way = Way("seed-001")
    way.hop("client1", "lvs1", "front", syn("10.196.1.73", "10.196.1.74"))
    way.hop("lvs1", "web1", "back", syn("10.1.1.1", "10.1.1.2", ttl=63))
    way.hop("web1", "lvs1", "back", answer("10.1.1.2", "10.1.1.1"))
    way.hop("lvs1", "client1", "front", answer("10.196.1.74", "10.196.1.73", ttl=63))
    story = way.told()
    assert story.complete
    assert changed(story.rows[1])[:2] == ["source", "destination"]
    assert changed(story.rows[3])[:2] == ["source", "destination"]


@pytest.mark.parametrize(
    ("kept", "fault"),
    [
        (0, "client1 sent nothing to 10.196.1.74:80 (perhaps nobody told it the MAC of 10.196.1.74)"),
        (1, "client1 sent it on front to lvs1, where it did not arrive"),
        (2, "lvs1 took the request and sent nothing on"),
        (3, "lvs1 sent it on back to web1, where it did not arrive"),
        (4, "web1 took the request and answered nothing"),
        (6, "lvs1 took the reply and sent nothing on"),
        (8, ""),
    ],
)
def test_where_it_was_lost(kept: int, fault: str) -> None:
    way = nat()
    way.sightings = way.sightings[:kept]
    story = way.told()
    assert (story.fault, story.complete) == (fault, not fault)
    assert fault in mermaid(story)


def test_what_others_send_is_not_its_way() -> None:
    way = nat()
    other = ip("10.196.1.80", "10.196.1.74", 6, tcp(3456, 80, SYN, sequence=43))
    stray = [replace(s, node="web2") for s in way.sightings if s.node == "web1" and not s.sent]
    plain = way.told()
    way.hop("lvs1", "web2", "back", ip("10.1.1.1", "10.1.1.3", 6, tcp(40000, 80, SYN, sequence=42)))
    way.hop("lvs1", "client1", "front", other)
    way.sightings += [*stray, *(replace(s, time=s.time + 900_000) for s in way.sightings[:2])]
    assert way.told() == plain
