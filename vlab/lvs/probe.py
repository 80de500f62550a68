"""Asking services from inside a node: what is asked, which program asks, and who answered.

A probe is one class, found by the name that an image recipe writes beside a port (``serves: {80: http}``); it says how many
requests prove something, and which program makes them. A program takes all that a node has to ask at once, because a process
start in an emulated guest is dear.

What an image must do for its probe: **http**: the first line of ``/`` is the node's host name. **udp**: a datagram is answered by
one whose first line is the node's host name. **mysql**: user «lab» with password «lab» may log in from anywhere and
``SELECT @@hostname``. **tcp**: nothing; it only connects, and names nobody.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import ClassVar

from vlab.lvs.models import Address
from vlab.lvs.sockets import SCRIPT as SOCKETS

TIMEOUT = 5
"""Seconds that one request may take."""

MISSING = 127
"""The exit code of a program that the asking node does not have."""

BORROWED = 300
"""Seconds after which the kernel takes borrowed addresses away by itself, if nobody did before."""

REFUSED = "Connection refused"
"""How a request fails that ip_vs gives to nobody: it answers with ICMP «port unreachable»."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request. ``name`` is who answered, empty where the answer named nobody; ``failure`` says what went wrong.
    ``source`` and ``port`` are the asker's own, None and 0 where the program does not tell."""

    name: str = ""
    failure: str = ""
    source: Address | None = None
    port: int = 0


@dataclass(frozen=True, slots=True)
class Answers:
    """``replies`` in the order of the requests."""

    replies: tuple[Reply, ...] = ()

    @property
    def counts(self) -> Counter[str]:
        """Good answers by the name that they gave."""
        return Counter(reply.name for reply in self.replies if reply.name)

    @property
    def good(self) -> int:
        return sum(not reply.failure for reply in self.replies)

    @property
    def refused(self) -> int:
        return sum(REFUSED in reply.failure for reply in self.replies)

    @property
    def failures(self) -> tuple[str, ...]:
        return tuple(reply.failure for reply in self.replies if reply.failure)


@dataclass(frozen=True, slots=True)
class Ask:
    """``requests`` to one service, each on a connection of its own. ``held``: all are opened before the first is asked and closed after
    the last. ``sources`` are taken in turn (none: the node's own address), those in ``borrowed`` are put on ``device`` meanwhile.
    ``first_port`` is the first request's source port, the next has the next; 0 leaves ports to the kernel."""

    service: str
    probe: str
    vip: Address
    port: int
    requests: int
    held: bool = False
    sources: tuple[Address, ...] = ()
    borrowed: tuple[Address, ...] = ()
    device: str = ""
    first_port: int = 0


class Program:
    """What makes requests on a node: one command for several asks."""

    holds: ClassVar[bool] = False
    """Can it keep all connections open at once, and take any source address?"""

    def command(self, asks: Sequence[Ask]) -> Sequence[str]:
        """The argv; it exits with ``MISSING`` where the node lacks the program."""
        raise NotImplementedError

    def parse(self, output: str) -> Mapping[str, Answers]:
        """The answers by service name."""
        raise NotImplementedError


class Sockets(Program):
    """Perl, which every Debian has: plain sockets, so addresses, ports and the order of things are ours."""

    holds = True

    def command(self, asks: Sequence[Ask]) -> Sequence[str]:
        lines = "".join(f"{_line(ask)}\n" for ask in asks)
        borrowed = {(address, ask.device): None for ask in asks for address in ask.borrowed}
        addresses = [f"{a}/{a.max_prefixlen} dev {device}" for a, device in borrowed]
        lasting = f"valid_lft {BORROWED} preferred_lft 0"
        added = "".join(f"address replace {text} {lasting}\n" for text in addresses)
        removed = "".join(f"address delete {text}\n" for text in addresses)
        return ["sh", "-c", _WITH_ADDRESSES, "sh", SOCKETS, lines, added, removed]

    def parse(self, output: str) -> Mapping[str, Answers]:
        made: dict[str, list[Reply]] = {}
        for line in output.splitlines():
            service, source, port, word, text = (*line.split(" ", 4), "")[:5]
            own = ip_address(source) if source != "-" else None
            reply = Reply(text if word == "ok" else "", text if word == "failed" else "", own, int(port))
            made.setdefault(service, []).append(reply)
        return {service: Answers(tuple(replies)) for service, replies in made.items()}


# perl -e, not a file: the node's disk stays as it is. The lock: who is done must not take away what another still uses.
# The trap: addresses go also when somebody ends the shell.
_WITH_ADDRESSES = f"""\
command -v perl >/dev/null || exit {MISSING}
[ -z "$3" ] || {{ exec 9>/run/vlab-borrowed && flock -w {BORROWED} 9 || exit 1; }}
trap '[ -z "$4" ] || printf %s "$4" | ip -force -batch - >/dev/null 2>&1' EXIT
trap 'exit 143' TERM INT HUP
[ -z "$3" ] || printf %s "$3" | ip -batch - >&2 || exit 1
printf %s "$2" | perl -e "$1" {TIMEOUT}
"""


def _line(ask: Ask) -> str:
    words = [ask.service, ask.probe, int(ask.held), ask.vip, ask.port, ask.requests, ask.first_port, *ask.sources]
    return " ".join(map(str, words))


class MysqlClient(Program):
    """The MariaDB client, once for all requests: «\\r» on a line of its own closes the connection and opens the next. The client
    ends at its first error, so each run of it gives answers and at most one failure, and the rest is left to a new run."""

    # --skip-reconnect: a client that has lost its connection must not open one that nobody counts.
    # --unbuffered: answers are out before the client can die.
    _script = f"""\
command -v mariadb >/dev/null || exit {MISSING}
questions() {{
  i=1
  while echo "SELECT CONCAT('ok ', @@hostname);"; [ "$i" -lt "$1" ]; do
    printf '%s\\n' '\\r'
    i=$((i + 1))
  done
}}
set -f
IFS='
'
while [ "$#" -ge 4 ]; do
  left=$4
  while [ "$left" -gt 0 ]; do
    said=$(questions "$left" | mariadb --no-defaults --connect-timeout={TIMEOUT} --skip-reconnect --unbuffered \\
        -h "$2" -P "$3" -ulab -plab -N -B 2>&1)
    why=
    for line in $said; do
      case $line in
        "ok "*) echo "$1 $line"; left=$((left - 1)) ;;
        *) why=${{why:-$line}} ;;
      esac
    done
    [ "$left" -gt 0 ] || break
    echo "$1 failed ${{why:-the client died}}"
    left=$((left - 1))
  done
  shift 4
done
"""

    def command(self, asks: Sequence[Ask]) -> Sequence[str]:
        words = (str(word) for ask in asks for word in (ask.service, ask.vip, ask.port, ask.requests))
        return ["sh", "-c", self._script, "sh", *words]

    def parse(self, output: str) -> Mapping[str, Answers]:
        made: dict[str, list[Reply]] = {}
        for line in output.splitlines():
            service, word, text = (*line.split(" ", 2), "")[:3]
            failure = re.sub(r" at line \d+", "", text) if word == "failed" else ""
            made.setdefault(service, []).append(Reply(failure=failure) if failure else Reply(text))
        return {service: Answers(tuple(replies)) for service, replies in made.items()}


@dataclass(frozen=True, slots=True)
class Probe:
    """One protocol's way to ask. ``base`` and ``per_server`` are how many requests a check makes at least, in all and per real server;
    ``most`` are too many, however long a turn of the scheduler is."""

    name: str
    program: Program
    base: int
    per_server: int
    most: int


_SOCKETS, _MYSQL = Sockets(), MysqlClient()
_PROBES = {
    made.name: made
    for made in (
        Probe("http", _SOCKETS, 12, 4, 240),
        Probe("tcp", _SOCKETS, 12, 4, 48),
        Probe("udp", _SOCKETS, 12, 4, 48),
        Probe("mysql", _MYSQL, 6, 2, 48),
    )
}


def probe(name: str) -> Probe:
    """The probe called ``name``; a name that nobody knows is asked by plain connects."""
    return _PROBES.get(name, _PROBES["tcp"])
