"""Frames decoded: each layer that LVS uses, every tunnel, and bytes that are no frame at all."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire import ethernet, ip, mac, tcp, udp
from vlab.wire.frames import Arp, Frame, decode

CLIENT, DIRECTOR = "52:54:00:00:00:01", "52:54:00:00:00:02"
SYN, ACK = 2, 16
REQUEST = ip("10.196.1.73", "10.196.1.74", 6, tcp(3456, 80, SYN, sequence=77))


def decoded(payload: bytes) -> Frame:
    found = decode(ethernet(CLIENT, DIRECTOR, payload))
    assert found is not None
    return found


def test_a_syn() -> None:
    frame = decoded(REQUEST)
    assert (frame.source_mac, frame.destination_mac, frame.type) == (CLIENT, DIRECTOR, 0x0800)
    assert frame.inner is not None and frame.transport is not None
    assert (frame.inner.source, frame.inner.destination) == (IPv4Address("10.196.1.73"), IPv4Address("10.196.1.74"))
    assert (frame.inner.ttl, frame.inner.protocol, frame.outer) == (64, 6, ())
    assert (frame.transport.source_port, frame.transport.destination_port) == (3456, 80)
    assert (frame.transport.sequence, frame.transport.flags) == (77, frozenset({"SYN"}))


def test_padding_of_a_short_frame_is_no_payload() -> None:
    frame = decode(ethernet(CLIENT, DIRECTOR, REQUEST) + bytes(6))
    assert frame is not None and frame.transport is not None
    assert frame.transport.payload == b""


def test_payload_and_ports_of_udp_over_ipv6() -> None:
    frame = decoded(ip("fd00::1", "fd00::2", 17, udp(5000, 53, b"question"), ttl=61))
    assert frame.transport is not None and frame.inner is not None
    assert (frame.inner.destination, frame.inner.ttl) == (IPv6Address("fd00::2"), 61)
    assert (frame.transport.protocol, frame.transport.destination_port, frame.transport.payload) == (
        "udp",
        53,
        b"question",
    )


def test_ipv6_extensions_are_stepped_over() -> None:
    hop_by_hop = bytes([6, 0]) + bytes(6) + tcp(1, 80, SYN)
    frame = decoded(ip("fd00::1", "fd00::2", 0, hop_by_hop))
    assert frame.transport is not None and frame.transport.destination_port == 80
    assert frame.inner is not None and frame.inner.protocol == 6


GRE_PLAIN = struct.pack("!HH", 0, 0x0800)
GRE_WITH_KEY_AND_SUM = struct.pack("!HHII", 0xA000, 0x0800, 1, 2)
GUE = bytes([0, 4, 0, 0])
GUE_WITH_OPTIONS = bytes([1, 4, 0, 0]) + bytes(4)


@pytest.mark.parametrize(
    ("protocol", "payload", "tunnel"),
    [
        (4, REQUEST, "ipip"),
        (47, GRE_PLAIN + REQUEST, "gre"),
        (47, GRE_WITH_KEY_AND_SUM + REQUEST, "gre"),
        (17, udp(40000, 6080, GUE + REQUEST), "gue"),
        (17, udp(40000, 6080, GUE_WITH_OPTIONS + REQUEST), "gue"),
        (17, udp(40000, 6080, bytes([0x45]) + REQUEST[1:]), "gue"),
    ],
)
def test_a_tunnel_carries_the_same_packet(protocol: int, payload: bytes, tunnel: str) -> None:
    plain, wrapped = decoded(REQUEST), decoded(ip("10.30.0.1", "10.30.0.31", protocol, payload))
    assert [header.tunnel for header in wrapped.headers] == [tunnel, ""]
    assert wrapped.outer[0].destination == IPv4Address("10.30.0.31")
    assert wrapped.inner == plain.inner
    assert wrapped.transport == plain.transport


def test_ipv6_in_ipv4_and_ipv4_in_ipv6() -> None:
    six = ip("fd00::1", "fd00::2", 6, tcp(1, 80, SYN))
    assert [str(h.source) for h in decoded(ip("10.0.0.1", "10.0.0.2", 41, six)).headers] == ["10.0.0.1", "fd00::1"]
    assert [str(h.source) for h in decoded(ip("fd00::9", "fd00::8", 4, REQUEST)).headers] == ["fd00::9", "10.196.1.73"]


def test_a_later_fragment_has_no_ports() -> None:
    frame = decoded(ip("10.0.0.1", "10.0.0.2", 6, tcp(1, 80, SYN), fragment=185))
    assert frame.transport is None and frame.inner is not None


def test_arp() -> None:
    question = (
        struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac(CLIENT) + bytes([10, 0, 0, 1]) + bytes(6) + bytes([10, 0, 0, 2])
    )
    frame = decode(mac("ff:ff:ff:ff:ff:ff") + mac(CLIENT) + b"\x08\x06" + question)
    assert frame is not None
    assert frame.arp == Arp(1, CLIENT, IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))


def test_nat_and_tunnels_leave_the_identity_alone() -> None:
    rewritten = decoded(ip("10.30.0.1", "10.30.0.31", 6, tcp(999, 8080, SYN, sequence=77), ttl=63))
    other = decoded(ip("10.196.1.73", "10.196.1.74", 6, tcp(3456, 80, SYN, sequence=78)))
    asked = decoded(REQUEST)
    assert rewritten.transport and other.transport and asked.transport
    assert rewritten.transport.identity == asked.transport.identity != other.transport.identity


def test_a_frame_cut_anywhere_is_decoded_as_far_as_it_goes() -> None:
    whole = ethernet(CLIENT, DIRECTOR, ip("10.30.0.1", "10.30.0.31", 17, udp(40000, 6080, GUE + REQUEST)))
    depths = []
    for length in range(len(whole) + 1):
        frame = decode(whole[:length])
        assert (frame is None) == (length < 14)
        depths.append(len(frame.headers) + (frame.transport is not None) if frame else -1)
    assert depths == sorted(depths)
    assert depths[-1] == 3


@given(st.binary(max_size=200), st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00"]))
def test_no_bytes_are_too_strange(payload: bytes, kind: bytes) -> None:
    for start in (b"", b"\x45", b"\x60", b"\x00\x01\x08\x00\x06\x04"):
        frame = decode(mac(DIRECTOR) + mac(CLIENT) + kind + start + payload)
        assert frame is not None and frame.source_mac == CLIENT
