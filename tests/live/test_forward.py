"""``vlab forward`` reaches servers inside a lab's namespace. Needs root, no libvirt."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address

import pytest

from tests.live.networks import network_lab
from vlab.errors import ConflictError, UsageError
from vlab.host import links
from vlab.host.forward import Forward, _carrier, serve
from vlab.host.namespace import inside
from vlab.topology.lab import namespace as namespace_of

pytestmark = pytest.mark.live


@pytest.fixture
def lab() -> Iterator[str]:
    with network_lab() as name:
        yield name


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"from inside" * 100_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def served(lab: str) -> Iterator[str]:
    """A lab in whose namespace 10.30.0.254:80 serves a page."""
    server = inside(namespace_of(lab), lambda: ThreadingHTTPServer(("10.30.0.254", 80), Page))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield lab
    server.shutdown()
    server.server_close()


@pytest.fixture
def forwarding() -> Iterator[Callable[..., None]]:
    """Start forwards in a thread; they end with the test."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(lab: str, *forwards: Forward) -> None:
        ready = threading.Event()
        thread = threading.Thread(
            target=serve, args=(forwards, namespace_of(lab)), kwargs={"ready": ready.set, "stop": stop}, daemon=True
        )
        thread.start()
        threads.append(thread)
        assert ready.wait(5)

    yield start
    stop.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_forwards_reach_a_server_inside(served: str, forwarding: Callable[..., None]) -> None:
    address = IPv4Address("10.30.0.254")
    forwarding(served, Forward(18080, address, 80), Forward(18081, address, 80))
    for number in (18080, 18081):
        page = subprocess.run(["curl", "-s", f"http://127.0.0.1:{number}/"], capture_output=True, check=True).stdout
        assert page == b"from inside" * 100_000


def test_half_a_closed_connection_still_carries_the_answer(lab: str, forwarding: Callable[..., None]) -> None:
    def listener() -> socket.socket:
        return socket.create_server(("10.30.0.254", 7))

    with inside(namespace_of(lab), listener) as server:

        def echo_at_the_end() -> None:
            connection = server.accept()[0]
            heard = b"".join(iter(lambda: connection.recv(65536), b""))
            connection.sendall(heard[::-1])
            connection.close()

        threading.Thread(target=echo_at_the_end, daemon=True).start()
        forwarding(lab, Forward(18082, IPv4Address("10.30.0.254"), 7))
        with socket.create_connection(("127.0.0.1", 18082), timeout=5) as client:
            client.sendall(b"abc" * 50_000)
            client.shutdown(socket.SHUT_WR)
            assert b"".join(iter(lambda: client.recv(65536), b"")) == b"cba" * 50_000


def test_a_refused_connection_ends_and_the_next_one_works(served: str, forwarding: Callable[..., None]) -> None:
    forwarding(served, Forward(18083, IPv4Address("10.30.0.254"), 81), Forward(18084, IPv4Address("10.30.0.254"), 80))
    assert subprocess.run(["curl", "-s", "-m5", "http://127.0.0.1:18083/"], check=False).returncode in (52, 56)
    assert subprocess.run(["curl", "-s", "-m5", "-o/dev/null", "http://127.0.0.1:18084/"], check=False).returncode == 0


def test_a_port_in_use_is_a_conflict(lab: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConflictError, match="in use"):
        forward = Forward(taken.getsockname()[1], IPv4Address("10.30.0.254"), 80)
        serve([forward], namespace_of(lab), ready=lambda: None, stop=threading.Event())


def test_forwards_of_a_lab_that_is_not_there_are_refused() -> None:
    with pytest.raises(UsageError):
        serve([], "vlab-no-such-lab", ready=lambda: None, stop=threading.Event())


def test_forwards_end_with_their_lab(lab: str) -> None:
    gone = threading.Timer(0.3, links.delete_namespace, [namespace_of(lab)])
    with pytest.raises(ConflictError, match="gone"):
        serve([], namespace_of(lab), ready=gone.start, stop=threading.Event())


def test_a_connection_called_off_in_the_middle_of_a_dial_ends(lab: str) -> None:
    """At each turn of the event loop from before the dial until well after it; 3.11's ``wait_for`` does not hear it at some of them."""

    async def ended(server: socket.socket, turns: int) -> bool:
        target = Forward(18086, IPv4Address("10.30.0.254"), server.getsockname()[1])
        ours, client = socket.socketpair()
        with client:
            reader, writer = await asyncio.open_connection(sock=ours)
            carrier = asyncio.ensure_future(_carrier(target, namespace_of(lab))(reader, writer))
            for _ in range(turns):
                await asyncio.sleep(0)
            carrier.cancel()
            over, _ = await asyncio.wait([carrier], timeout=2)
            writer.close()
        return bool(over)

    with inside(namespace_of(lab), lambda: socket.create_server(("10.30.0.254", 0))) as server:
        stuck = [turns for turns in range(30) if not asyncio.run(ended(server, turns))]
    assert stuck == []


def test_ctrl_c_ends_it_with_connections_open(lab: str) -> None:
    with inside(namespace_of(lab), lambda: socket.create_server(("10.30.0.254", 7))) as server:
        program = f"""
import signal, threading
from ipaddress import IPv4Address
from vlab.host.forward import Forward, serve
signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts this test may ignore it
target = Forward(18085, IPv4Address("10.30.0.254"), 7)
serve([target], {namespace_of(lab)!r}, ready=lambda: print("ready", flush=True), stop=threading.Event())
"""
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            with socket.create_connection(("127.0.0.1", 18085), timeout=5):
                server.accept()[0].close()
                child.send_signal(signal.SIGINT)
                said = child.communicate(timeout=5)[1].decode()
        finally:
            child.kill()
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "never retrieved" not in said
