"""Each probe's command, run for real where its program is here, and what it makes of the output."""

from __future__ import annotations

import shutil
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import IPv4Address
from threading import Thread

import pytest

from vlab.lvs.probe import MISSING, probe
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


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_http_makes_one_connection_a_request_in_one_process() -> None:
    server = HTTPServer(("127.0.0.1", 0), Web)
    Thread(target=server.serve_forever, daemon=True).start()
    it = probe("http")
    answers = it.parse(run(it.command(LOCAL, server.server_port, 12), check=False).text)
    server.shutdown()
    assert Web.connections == 12
    assert answers.counts == Counter(web1=5, web2=5) and answers.good == 10
    assert answers.failures == ("HTTP status 503",) * 2


@pytest.mark.parametrize("name", ["http", "tcp"])
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_closed_port_is_a_failure_with_its_reason(name: str) -> None:
    it = probe(name)
    answers = it.parse(run(it.command(LOCAL, 1, 3), check=False).text)
    assert answers.good == 0 and len(answers.failures) == 3
    assert all("refused" in text or "connect" in text for text in answers.failures)


def test_tcp_connects_and_names_nobody() -> None:
    server = HTTPServer(("127.0.0.1", 0), Web)
    Thread(target=server.serve_forever, daemon=True).start()
    it = probe("tcp")
    answers = it.parse(run(it.command(LOCAL, server.server_port, 3), check=False).text)
    server.shutdown()
    assert (answers.anonymous, answers.counts, answers.failures) == (3, Counter(), ())


@pytest.mark.parametrize("name", ["http", "mysql", "tcp"])
def test_a_node_without_the_program_says_so(name: str) -> None:
    _shell, *rest = probe(name).command(LOCAL, 80, 1)
    done = run(["env", "-i", "PATH=/nowhere", "/bin/sh", *rest], check=False)
    assert done.code == MISSING


def test_mysql_output() -> None:
    answers = probe("mysql").parse("ok db1\nok db2\nfailed ERROR 2002 (HY000): Can't connect\nok db1\n")
    assert answers.counts == Counter(db1=2, db2=1)
    assert answers.failures == ("ERROR 2002 (HY000): Can't connect",)


def test_an_unknown_protocol_is_asked_by_plain_connects() -> None:
    assert probe("gopher") is probe("tcp")
