"""Web services asked from a client's place: small questions, and questions with a body that needs more than one packet. Pure.

Bounded: as many questions of each sort as there are real servers (at most ``MOST``), all at once, ``TIMEOUT`` seconds.
"""

from __future__ import annotations

from vlab.diagnosis.facts import Asked
from vlab.topology.lab import Service

TIMEOUT = 3
MOST = 8
BODY = 3000
"""Bytes: two full packets at any MTU that Ethernet has."""

_CUT = "=== vlab ==="

# Counters of packets that came in damaged: Tcp, Udp, Icmp of /proc/net/snmp and IpExt of /proc/net/netstat.
_SCRIPT = f"""\
command -v curl >/dev/null || exit 127
counters() {{ cat /proc/net/snmp /proc/net/netstat; echo "{_CUT}"; }}
ask() {{ curl -s -Z --parallel-immediate --http1.0 -m {TIMEOUT} -o /dev/null -w '%{{http_code}}\\n' "$@"; echo "{_CUT}"; }}
counters
ask "$1"
ask --data-binary "$(printf '%0{BODY}d' 0)" "$1"
counters
"""


def questions(service: Service) -> int:
    """How many questions of each sort a service is asked."""
    return min(MOST, len(service.real_servers))


def command(service: Service) -> list[str]:
    """The argv; it exits with 127 where there is no curl."""
    return ["sh", "-c", _SCRIPT, "sh", f"http://{service.endpoint}/?[1-{questions(service)}]"]


def parse(node: str, service: Service, output: str) -> Asked:
    """Raises ``ValueError`` when ``output`` is not what ``command(service)`` prints. Any answer in HTTP counts: servers refuse bodies."""
    before, small, large, after, _ = output.split(f"{_CUT}\n")
    grown = _bad_checksums(after) - _bad_checksums(before)
    return Asked(node, questions(service), _answered(small), _answered(large), grown)


def doubtful(asked: Asked) -> bool:
    """Whether a slow host could have lost answers: then it is worth asking again."""
    return asked.large < asked.small


def _answered(text: str) -> int:
    return sum(line != "000" for line in text.split())


def _bad_checksums(text: str) -> int:
    """The sum of all InCsumErrors: each protocol has a line of names and a line of numbers."""
    rows = [line.split() for line in text.splitlines()]
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return sum(
        int(number)
        for names, numbers in pairs
        for name, number in zip(names, numbers, strict=True)
        if name == "InCsumErrors"
    )
