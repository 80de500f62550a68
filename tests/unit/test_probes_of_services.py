"""Each probe's command, run for real where its program is here, and what it makes of the output."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread

import pytest

from vlab.lvs.probe import MISSING, REFUSED, Answers, Ask, probe
from vlab.run import run

LOCAL = IPv4Address("127.0.0.1")


class Web(BaseHTTPRequestHandler):
    """Names a node in its first line, a different one on each connection; every fifth answer is an error."""

    connections = 0

    def do_GET(self) -> None:
        Web.connections += 1
        self.send_response(503 if Web.connections % 5 == 0 else 200)
        self.end_headers()
        self.wfile.write(f"web{Web.connections % 2 + 1}\nmore text\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def web() -> Iterator[int]:
    """The port of a server with connections in parallel."""
    Web.connections = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


def asked(*asks: Ask) -> Mapping[str, Answers]:
    program = probe(asks[0].probe).program
    return program.parse(run(program.command(asks), check=False).text)


def test_http_makes_one_connection_a_request_in_one_process(web: int) -> None:
    answers = asked(Ask("www", "http", LOCAL, web, 12))["www"]
    assert Web.connections == 12
    assert answers.counts == Counter(web1=5, web2=5) and answers.good == 10
    assert answers.failures == ("HTTP status 503",) * 2
    assert len({reply.port for reply in answers.replies}) == 12


def test_many_services_are_one_process_from_chosen_addresses_and_ports(web: int) -> None:
    sources = (LOCAL + 4, LOCAL + 5)
    first = 20000 + os.getpid() % 10000  # another in each run: the kernel keeps closed ones for a minute
    made = asked(
        Ask("one", "http", LOCAL, web, 4, sources=sources),
        Ask("two", "tcp", LOCAL, web, 3, first_port=first, sources=(LOCAL,)),
    )
    assert [reply.source for reply in made["one"].replies] == [*sources, *sources]
    assert [reply.port for reply in made["two"].replies] == [first, first + 1, first + 2]
    assert [reply.name for reply in made["two"].replies] == [""] * 3 and made["two"].good == 3


def test_held_connections_are_all_open_before_the_first_is_asked() -> None:
    """A server that takes connections one at a time has eight waiting in its queue when it sees the first request."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=16)
    seen: list[int] = []

    def serve() -> None:
        first, *others = [listener.accept()[0] for _ in range(8)]
        seen.append(len(others))
        for connection in (first, *others):
            connection.recv(1000)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nweb1\n")
            connection.close()

    Thread(target=serve, daemon=True).start()
    answers = asked(Ask("www", "http", LOCAL, listener.getsockname()[1], 8, held=True))["www"]
    assert answers.counts == Counter(web1=8) and seen == [7]


def test_udp_names_who_answered() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    peers: list[int] = []

    def serve() -> None:
        for _ in range(3):
            _, peer = server.recvfrom(100)
            peers.append(peer[1])
            server.sendto(b"web1\n", peer)

    Thread(target=serve, daemon=True).start()
    answers = asked(Ask("names", "udp", LOCAL, server.getsockname()[1], 3, first_port=42000))["names"]
    assert answers.counts == Counter(web1=3) and peers == [42000, 42001, 42002]


@pytest.mark.parametrize("name", ["http", "tcp", "udp"])
def test_a_closed_port_is_a_failure_with_its_reason(name: str) -> None:
    answers = asked(Ask("www", name, LOCAL, 1, 3))["www"]
    assert answers.failures == (REFUSED,) * 3 and answers.refused == 3 and answers.good == 0


def test_a_node_without_the_program_says_so() -> None:
    for name in ("http", "mysql"):
        _shell, *rest = probe(name).program.command([Ask("www", name, LOCAL, 80, 1)])
        done = run(["env", "-i", "PATH=/nowhere", "/bin/sh", *rest], check=False)
        assert done.code == MISSING


STAND_IN = """\
#!/bin/bash
# As the MariaDB client in batch mode: it connects when it starts and at each line of «\\r», and ends at its first error.
connect() {
  read -r server <turns && sed -i 1d turns
  [ "$server" != locked ] && return
  echo "ERROR 4151 (HY000)$1: Access denied, this account is locked" >&2
  exit 1
}
connect
line=0
while read -r words; do
  line=$((line + 1))
  case $words in
    "SELECT CONCAT('ok ', @@hostname);") echo "ok $server" ;;
    '\\r') connect " at line $line" ;;
    *) exit 3 ;;
  esac
done
"""


def asked_by_stand_in(folder: Path, turns: Sequence[str], requests: int) -> tuple[Answers, list[str]]:
    """What the mysql probe finds where the scheduler gives its connections to ``turns``, and the turns that are left."""
    (folder / "mariadb").write_text(STAND_IN)
    (folder / "mariadb").chmod(0o755)
    (folder / "turns").write_text("".join(f"{turn}\n" for turn in turns))
    it = probe("mysql").program
    argv = it.command([Ask("sql", "mysql", LOCAL, 3306, requests)])
    done = run(["env", "-C", str(folder), f"PATH={folder}:/usr/bin:/bin", *argv], check=False)
    return it.parse(done.text)["sql"], (folder / "turns").read_text().split()


def test_mysql_counts_each_connection_once_and_names_who_answered(tmp_path: Path) -> None:
    answers, left = asked_by_stand_in(tmp_path, ["db1", "db2", "db3"] * 3, 6)
    assert [reply.name for reply in answers.replies] == ["db1", "db2", "db3"] * 2
    assert left == ["db1", "db2", "db3"]


@pytest.mark.parametrize(
    "turns", [["locked", "db1"] * 4, ["db1", "locked", "locked", "db2"] * 2, ["db1", "db2"] * 2 + ["locked"] * 4]
)
def test_mysql_failures_are_one_each_and_the_asking_goes_on(tmp_path: Path, turns: list[str]) -> None:
    answers, left = asked_by_stand_in(tmp_path, turns, len(turns) - 1)
    reason = "ERROR 4151 (HY000): Access denied, this account is locked"
    asked = turns[:-1]
    assert answers.counts == Counter(name for name in asked if name != "locked")
    assert answers.failures == (reason,) * asked.count("locked")
    assert left == turns[-1:]


def test_an_unknown_protocol_is_asked_by_plain_connects() -> None:
    assert probe("gopher") is probe("tcp")
