"""The filter's language: what each word keeps, how words bind, and what is refused in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire import ethernet, ip, mac, tcp, udp
from vlab.errors import UsageError
from vlab.wire.filters import parse
from vlab.wire.frames import Frame, decode

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"


def made(data: bytes) -> Frame:
    found = decode(data)
    assert found is not None
    return found


SYN = ip("10.20.0.61", "10.20.0.100", 6, tcp(40000, 80, 2))
FRAMES = {
    "web": made(ethernet(A, B, SYN)),
    "wrapped": made(ethernet(B, A, ip("10.30.0.1", "10.30.0.31", 4, SYN))),
    "dns": made(ethernet(A, B, ip("10.20.0.61", "10.20.0.53", 17, udp(53, 5353, b"")))),
    "six": made(ethernet(A, B, ip("fd00::1", "fd00::2", 6, tcp(1, 443, 2)))),
    "ping": made(ethernet(A, B, ip("10.20.0.61", "10.20.0.100", 1, bytes(8)))),
    "arp": made(mac(B) + mac(A) + bytes.fromhex("0806 0001080006040001") + mac(A) + bytes([10, 20, 0, 61]) + bytes(6)
                + bytes([10, 20, 0, 100])),
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("", "web wrapped dns six ping arp"),
        ("tcp", "web wrapped six"),
        ("udp", "dns"),
        ("icmp", "ping"),
        ("arp", "arp"),
        ("ip6", "six"),
        ("ip", "web wrapped dns ping"),
        ("port 80", "web wrapped"),
        ("src port 80", ""),
        ("dst port 80", "web wrapped"),
        ("src port 53", "dns"),
        ("host 10.20.0.100", "web wrapped ping arp"),
        ("src host 10.20.0.100", ""),
        ("host 10.30.0.31", "wrapped"),
        ("host fd00::2", "six"),
        ("net 10.30.0.0/24", "wrapped"),
        ("dst net 10.20.0.96/28", "web wrapped ping arp"),
        ("ether host 52:54:00:00:00:0B and not arp", "web wrapped dns six ping"),
        ("tcp port 80", "web wrapped"),
        ("not tcp", "dns ping arp"),
        ("udp or tcp and port 443", "dns six"),
        ("(udp or tcp) and port 443", "six"),
        ("not (tcp or udp) host 10.20.0.61", "ping arp"),
        ("! tcp && ! udp || port 443", "six ping arp"),
    ],
)
def test_what_is_kept(words: str, kept: str) -> None:
    assert [name for name, frame in FRAMES.items() if parse(words)(frame)] == kept.split()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tcp prot 80", "--filter: 'prot' is no word of it"),
        ("port http", "--filter: 'http' is no port\n(hint: write port 80)"),
        ("port 65536", "--filter: '65536' is no port"),
        ("port", "--filter: a value after 'port' is missing at the end"),
        ("host web1", "--filter: 'web1' is no address\n(hint: write host 10.20.0.100; vlab status shows addresses)"),
        ("net 10.20.0.1/24", "--filter: '10.20.0.1/24' is no subnet"),
        ("(tcp", "--filter: a '(' is not closed\n(hint: add a ')')"),
        ("tcp)", "--filter: ')' closes nothing\n(hint: remove it)"),
        ("tcp and", "--filter: a word is missing at the end"),
        ("not", "--filter: a word is missing at the end"),
        ("ether port 80", "--filter: 'ether' needs 'host' behind it"),
        ("ether host web1", "--filter: 'web1' is no MAC"),
        ("(" * 5000, "--filter: it has 5000 words\n(hint: use at most 400)"),
    ],
)
def test_what_is_refused(words: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(words)
    assert str(refused.value).startswith(said)


WORDS = st.sampled_from(
    ["tcp", "and", "or", "not", "(", ")", "host", "port", "80", "10.20.0.100", "src", "ether", "é", "²"]
)


@given(st.lists(WORDS, max_size=12))
def test_every_text_is_a_filter_or_a_refusal(words: list[str]) -> None:
    try:
        keep = parse(" ".join(words))
    except UsageError as refused:
        assert refused.hint
    else:
        assert {keep(frame) for frame in FRAMES.values()} <= {True, False}
