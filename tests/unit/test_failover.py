"""What a failover cost, from records; and the load itself, against a real server on this host."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from tests.unit import lvs_labs
from vlab.lvs import failover, load
from vlab.lvs.failover import Cost, Measured
from vlab.lvs.load import Record, Request
from vlab.topology.family import Address

PAIR = lvs_labs.pair().pairs[0]
HERE = IPv4Address("127.0.0.1")


def record(down: tuple[float, float], until: float = 12.0, *, survivors: int = 4, back: float | None = None) -> Record:
    """A request each 50 ms, of which those between ``down`` fail; four connections that answer each half second but then, of which
    ``survivors`` live."""
    ticks = [round(i * 0.05, 3) for i in range(int(until / 0.05))]
    requests = [
        Request(t, t + 0.9, "no_answer") if down[0] <= t < down[1] else Request(t, t + 0.01, "ok") for t in ticks
    ]
    halves = [i * 0.5 for i in range(int(until / 0.5))]
    resumed = down[1] if back is None else back
    lively = [t for t in halves if t < down[0] or t >= resumed]
    answers = {n: [t for t in lively if n <= survivors or t < down[0]] for n in range(1, 5)}
    deaths = dict.fromkeys(range(survivors + 1, 5), (down[1], "reset"))
    return Record(tuple(sorted(requests, key=lambda request: request.end)), answers, deaths)


def test_an_outage_lies_between_two_good_answers() -> None:
    found = failover.cost(record((6.0, 9.0)), since=5.5, until=11.9)
    assert found.outage_ms == 3050
    assert (found.lost, found.connections, found.survived) == (60, 4, 4)
    assert 120 <= found.requests <= 130


def test_a_connection_that_answers_late_survives_and_one_that_is_reset_does_not() -> None:
    assert failover.cost(record((6.0, 9.0), survivors=1), 5.5, 11.9).survived == 1
    assert failover.cost(record((6.0, 9.0), back=11.0), 5.5, 11.9).survived == 4


def test_connections_that_died_before_are_not_counted() -> None:
    assert failover.cost(record((6.0, 9.0), survivors=3), 10.0, 11.9).connections == 3


def test_no_outage_is_the_pace_of_the_requests() -> None:
    found = failover.cost(record((20.0, 21.0)), 5.0, 11.9)
    assert found.outage_ms == 50 and found.lost == 0


def test_no_answer_any_more_is_no_number() -> None:
    found = failover.cost(record((6.0, 30.0)), 5.5, 11.9)
    assert found.outage_ms is None and found.survived == 0


def test_a_failover_is_over_once_all_is_decided() -> None:
    assert not failover.over(record((6.0, 9.0), until=5.9), 5.0), "not begun"
    assert not failover.over(record((6.0, 9.0), until=8.0), 5.5), "no answers yet"
    assert not failover.over(record((6.0, 9.0), until=11.0, back=11.5), 5.5), "connections are undecided"
    assert failover.over(record((6.0, 9.0)), 5.5)
    assert failover.over(record((6.0, 9.0), survivors=0), 5.5)


def test_without_an_outage_it_is_over_once_each_connection_was_asked_after_the_longest_gap() -> None:
    """A host may be late just before one looks: then nothing is known of the connections yet, and none may be counted as dead."""
    late = record((10.4, 11.0), until=11.5, back=11.5)
    quick = [request for request in late.requests if request.ok]
    late = Record(tuple(quick), late.answers, late.deaths)
    assert failover.cost(late, 5.0, late.now).survived == 0
    assert not failover.over(late, 5.0, 0.0), "nobody has asked them since"
    asked = record((10.4, 11.0), until=14.0)
    later = Record(tuple(request for request in asked.requests if request.ok), asked.answers, asked.deaths)
    assert failover.over(later, 5.0, 0.0) and not failover.over(later, 5.0), "no outage was as long"
    assert failover.cost(later, 5.0, later.now).survived == 4


def test_load_is_warm_when_connections_have_answered_several_times() -> None:
    assert not failover.warm(record((20.0, 21.0), until=3.0), 5.0, 4)
    assert not failover.warm(record((20.0, 21.0)), 5.0, 5)
    assert failover.warm(record((20.0, 21.0)), 5.0, 4)


def measured(**changed: object) -> Measured:
    facts: dict[str, object] = {
        "service": "www", "director": "lvs", "mode": "nat", "sync": True, "client": "client1", "killed": "lvs1",
        "took_over": "lvs2", "active_after": "lvs2", "back_seconds": 5.0, "failover": Cost(3100, 100, 60, 4, 4),
        "back": Cost(60, 200, 0, 4, 4),
    }  # fmt: skip
    return Measured(**(facts | changed))  # type: ignore[arg-type]  # as the fields have it


def failed(**changed: object) -> set[str]:
    return {it.id for it in failover.judged(PAIR, [measured(**changed)]) if not it.ok}


def test_a_failover_as_it_should_be_passes() -> None:
    assert failed() == set()
    assert failed(sync=False, failover=Cost(3100, 100, 60, 4, 0), back=Cost(60, 200, 0, 0, 0)) == set()


@pytest.mark.parametrize(
    ("changed", "ids"),
    [
        ({"took_over": ""}, {"failover/lvs/takeover"}),
        ({"active_after": "lvs1"}, {"failover/lvs/back"}),
        ({"failover": Cost(4001, 100, 80, 4, 4)}, {"failover/www/outage"}),
        ({"failover": Cost(None, 100, 80, 4, 4)}, {"failover/www/outage"}),
        ({"failover": Cost(3100, 100, 60, 4, 3)}, {"failover/www/connections"}),
        ({"sync": False}, {"failover/www/connections"}),
        ({"back": Cost(3000, 200, 60, 4, 4)}, {"failover/www/back"}),
    ],
)
def test_what_is_not_as_it_should_be_is_told(changed: dict[str, object], ids: set[str]) -> None:
    assert failed(**changed) == ids


def test_with_preemption_the_first_node_is_to_be_active_again() -> None:
    pair = lvs_labs.pair(preempt=True).pairs[0]
    assert failover.active_after(pair, "lvs1", "lvs2") == "lvs1"
    assert failover.active_after(pair, "lvs2", "lvs1") == "lvs1"
    assert failover.active_after(PAIR, "lvs1", "lvs2") == "lvs2"


def test_clients_are_neither_directors_nor_real_servers_and_quick_ones_come_first() -> None:
    lab = lvs_labs.pair()
    www, sql = lab.services
    assert [node.name for node in failover.clients(lab, www, frozenset({"container"}))] == ["client1"]
    assert [node.name for node in failover.clients(lab, sql, frozenset())] == ["web1", "web2", "web3"]


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class Six(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture(params=["127.0.0.1", "::1"])
def listening(request: pytest.FixtureRequest) -> Iterator[tuple[Address, int]]:
    """Address and port of a web server."""
    here = ip_address(request.param)
    try:
        server = {4: ThreadingHTTPServer, 6: Six}[here.version]((str(here), 0), Page)
    except OSError as error:
        pytest.skip(f"this host has no {here}: {error}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield here, server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed")
@pytest.mark.parametrize("http", [True, False])
def test_the_load_writes_what_happens_and_ends_when_told(
    listening: tuple[Address, int], tmp_path: Path, *, http: bool
) -> None:
    log, stop = tmp_path / "log", tmp_path / "stop"
    with subprocess.Popen(load.command(*listening, str(log), str(stop), http=http)) as run:
        time.sleep(1.5)
        stop.touch()
        assert run.wait(5) == 0
    found = load.parse(log.read_text())
    assert len(found.requests) >= 10 and all(request.ok for request in found.requests)
    assert len(found.answers) == (load.KEPT if http else 0) and found.deaths == {}


@pytest.mark.skipif(shutil.which("perl") is None, reason="perl is not installed")
def test_the_load_tells_of_a_refusal(tmp_path: Path) -> None:
    log, stop = tmp_path / "log", tmp_path / "stop"
    with subprocess.Popen(load.command(HERE, 1, str(log), str(stop), http=True)) as run:
        time.sleep(0.5)
        stop.touch()
        assert run.wait(5) == 0
    found = load.parse(log.read_text())
    assert {request.why for request in found.requests} == {"Connection_refused"}
    assert set(found.deaths) == set(range(1, load.KEPT + 1))


def test_a_log_that_is_being_written_is_read_as_far_as_it_is_whole() -> None:
    found = load.parse("r 0.050 0.060 ok\nk 1 0.1 0.2\nd 2 0.300 reset\nr 0.1")
    assert found == Record((Request(0.05, 0.06, "ok"),), {1: [0.2]}, {2: (0.3, "reset")})
