"""Asking a service from inside a node: which command sends N requests, each on a connection of its own, and who answered.

A probe is one class, found by the name that an image recipe writes beside a port (``serves: {80: http}``). It makes one command
for all N requests, because a process start in an emulated guest is dear.

What an image must do for its probe: **http**: the first line of ``/`` is the node's host name. **mysql**: user «lab» with
password «lab» may log in from anywhere and ``SELECT @@hostname``. **tcp**: nothing; it only connects, and names nobody.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import ClassVar

TIMEOUT = 5
"""Seconds that one request may take."""

MISSING = 127
"""The exit code of a probe whose program the asking node does not have."""


@dataclass(frozen=True, slots=True)
class Answers:
    """``counts`` are answers by the name that the answer gave; ``anonymous`` are good answers that named nobody;
    ``failures`` say what went wrong, one each."""

    counts: Counter[str] = field(default_factory=Counter)
    anonymous: int = 0
    failures: tuple[str, ...] = ()

    @property
    def good(self) -> int:
        return self.counts.total() + self.anonymous


class Probe:
    """One protocol's way to ask."""

    name: ClassVar[str] = ""
    base: ClassVar[int]
    """How many requests a check makes at least."""
    per_server: ClassVar[int]
    """How many requests a check makes per real server at least."""
    most: ClassVar[int]
    """How many are too many, however long a turn of the scheduler is."""

    def __init_subclass__(cls) -> None:
        _PROBES[cls.name] = cls()

    def command(self, vip: IPv4Address, port: int, requests: int) -> Sequence[str]:
        """The argv; it exits with ``MISSING`` where the node lacks the program."""
        raise NotImplementedError

    def parse(self, output: str) -> Answers:
        raise NotImplementedError


_PROBES: dict[str, Probe] = {}


def probe(name: str) -> Probe:
    """The probe called ``name``; a name that nobody knows is asked by plain connects."""
    return _PROBES.get(name, _PROBES["tcp"])


class Http(Probe):
    """curl with N URLs in one process; HTTP/1.0 and «Connection: close» make each a connection of its own."""

    name = "http"
    base, per_server, most = 12, 4, 240
    _mark = "vlab-probe"

    def command(self, vip: IPv4Address, port: int, requests: int) -> Sequence[str]:
        report = f"\\n{self._mark} %{{http_code}} %{{errormsg}}\\n"
        script = f'command -v curl >/dev/null || exit {MISSING}; exec curl "$@"'
        options = [
            "--silent",
            "--http1.0",
            "--header",
            "Connection: close",
            "--max-time",
            str(TIMEOUT),
            "--write-out",
            report,
        ]
        return ["sh", "-c", script, "sh", *options, f"http://{vip}:{port}/?[1-{requests}]"]

    def parse(self, output: str) -> Answers:
        counts: Counter[str] = Counter()
        failures: list[str] = []
        for body, code, error in re.findall(rf"(.*?)\n{self._mark} (\d+) (.*?)\n", output, re.DOTALL):
            if code == "200":
                counts[_first_line(body)] += 1
            else:
                failures.append(error.strip() if code == "000" else f"HTTP status {code}")
        return Answers(counts, failures=tuple(failures))


class Mysql(Probe):
    """The MariaDB client, once a request."""

    name = "mysql"
    base, per_server, most = 6, 2, 48
    _script = f"""\
command -v mariadb >/dev/null || exit {MISSING}
i=0
while [ "$i" -lt "$3" ]; do
  if answer=$(mariadb --no-defaults --connect-timeout={TIMEOUT} -h "$1" -P "$2" -ulab -plab -N -B -e 'SELECT @@hostname' 2>&1)
  then echo "ok $answer"
  else echo "failed $answer" | head -n 1
  fi
  i=$((i + 1))
done
"""

    def command(self, vip: IPv4Address, port: int, requests: int) -> Sequence[str]:
        return ["sh", "-c", self._script, "sh", str(vip), str(port), str(requests)]

    def parse(self, output: str) -> Answers:
        lines = [line.partition(" ") for line in output.splitlines()]
        counts = Counter(text for word, _, text in lines if word == "ok")
        return Answers(counts, failures=tuple(text for word, _, text in lines if word == "failed"))


class Tcp(Probe):
    """bash connects and closes again; good for any port, names nobody."""

    name = "tcp"
    base, per_server, most = 6, 2, 48
    _script = f"""\
command -v bash >/dev/null || exit {MISSING}
i=0
while [ "$i" -lt "$3" ]; do
  if error=$(timeout {TIMEOUT} bash -c ': <"/dev/tcp/$0/$1"' "$1" "$2" 2>&1)
  then echo ok
  else echo "failed ${{error##*: }}" | head -n 1
  fi
  i=$((i + 1))
done
"""

    def command(self, vip: IPv4Address, port: int, requests: int) -> Sequence[str]:
        return ["sh", "-c", self._script, "sh", str(vip), str(port), str(requests)]

    def parse(self, output: str) -> Answers:
        lines = [line.partition(" ") for line in output.splitlines()]
        failures = tuple(text or f"no answer within {TIMEOUT} s" for word, _, text in lines if word == "failed")
        return Answers(anonymous=sum(word == "ok" for word, _, _ in lines), failures=failures)


def _first_line(body: str) -> str:
    lines = body.strip("\n").splitlines()
    return lines[0].strip() if lines else ""
