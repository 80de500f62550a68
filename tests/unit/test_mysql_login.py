"""The login check of the director's image, against a server that speaks the protocol: a real process over a real socket."""

from __future__ import annotations

import hashlib
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest

from vlab.run import run

PROGRAM = Path(__file__).parents[2] / "images" / "director" / "mysql-login"
SALT = bytes(range(1, 21))
NATIVE = b"mysql_native_password"
OK, DENIED = b"\0\0\0\2\0\0\0", b"\xff\x15\x04#28000Access denied"


@dataclass
class Server:
    """Greets, and lets ``user`` in with ``password``. ``first`` is the plugin of the greeting, ``switch`` the one it then wants."""

    user: str
    password: str
    switch: bytes = b""
    greeting: bytes | None = None
    database: bytes = b""

    def serve(self, listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(5)
            if self.greeting is not None:
                peer.sendall(self.greeting)
                return
            hello = (
                b"\x0a10.11\0" + struct.pack("<I", 7) + SALT[:8] + b"\0" + b"\xff\xf7\x21\x02\0\xff\x81\x15" + bytes(10)
            )
            self.send(peer, 0, hello + SALT[8:] + b"\0" + NATIVE + b"\0")
            user, token = self.answer(self.receive(peer))
            salt = SALT
            if self.switch:
                salt = SALT[::-1]
                self.send(peer, 2, b"\xfe" + self.switch + b"\0" + salt + b"\0")
                token = self.receive(peer)
            good = user == self.user and token == self.token(salt)
            self.send(peer, 2, OK if good else DENIED)

    def answer(self, packet: bytes) -> tuple[str, bytes]:
        user, _, rest = packet[32:].partition(b"\0")
        self.database = rest[1 + rest[0] :].split(b"\0")[0] if packet[0] & 8 else b""
        return user.decode(), rest[1 : 1 + rest[0]]

    def token(self, salt: bytes) -> bytes:
        if not self.password:
            return b""
        once = hashlib.sha1(self.password.encode()).digest()
        mask = hashlib.sha1(salt + hashlib.sha1(once).digest()).digest()
        return bytes(a ^ b for a, b in zip(once, mask, strict=True))

    @staticmethod
    def send(peer: socket.socket, sequence: int, payload: bytes) -> None:
        peer.sendall(struct.pack("<I", len(payload))[:3] + bytes([sequence]) + payload)

    @staticmethod
    def receive(peer: socket.socket) -> bytes:
        head = peer.recv(4, socket.MSG_WAITALL)
        return peer.recv(int.from_bytes(head[:3], "little"), socket.MSG_WAITALL)


@contextmanager
def listening(server: Server, address: str = "127.0.0.1") -> Iterator[int]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        thread = Thread(target=server.serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def login(folder: Path, server: Server, account: str, address: str = "127.0.0.1") -> tuple[int, str]:
    (folder / "account").write_text(account)
    with listening(server, address) as port:
        done = run([str(PROGRAM), address, str(port), str(folder / "account")], check=False)
    return done.code, done.error_text.partition(": ")[2].strip()


@pytest.mark.parametrize("password", ["lab", "", "a", "x" * 55, "y" * 64, "pass word é ✓", "z" * 200])
def test_the_right_password_opens(tmp_path: Path, password: str) -> None:
    assert login(tmp_path, Server("lab", password), f"lab\n{password}\n\n") == (0, "")


@pytest.mark.parametrize(("user", "password"), [("lab", "wrong"), ("lab", ""), ("other", "lab")])
def test_a_wrong_account_is_refused_in_the_servers_words(tmp_path: Path, user: str, password: str) -> None:
    assert login(tmp_path, Server("lab", "lab"), f"{user}\n{password}\n\n") == (1, "#28000Access denied")


def test_the_database_is_opened_where_there_is_one(tmp_path: Path) -> None:
    server = Server("lab", "lab")
    assert login(tmp_path, server, "lab\nlab\nshop\n")[0] == 0
    assert server.database == b"shop"


def test_a_server_may_ask_again_with_another_salt(tmp_path: Path) -> None:
    assert login(tmp_path, Server("lab", "lab", switch=NATIVE), "lab\nlab\n\n") == (0, "")


def test_ipv6(tmp_path: Path) -> None:
    if (
        not Path("/proc/net/if_inet6").exists()
        or "00000000000000000000000000000001" not in Path("/proc/net/if_inet6").read_text()
    ):
        pytest.skip("no ::1 here")
    assert login(tmp_path, Server("lab", "lab"), "lab\nlab\n\n", "::1") == (0, "")


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"", "the server closed the connection"),
        (b"\x05\0", "the server closed the connection"),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", "the server closed the connection"),
        (b"\x03\0\0\0\x09ab", "not a MySQL server: protocol version 9"),
        (b"\x17\0\0\0\xff\x10\x04Too many connections", "Too many connections"),
    ],
)
def test_other_greetings_are_failures_with_a_reason(tmp_path: Path, greeting: bytes, words: str) -> None:
    assert login(tmp_path, Server("lab", "lab", greeting=greeting), "lab\nlab\n\n") == (1, words)


def test_another_plugin_is_named(tmp_path: Path) -> None:
    code, words = login(tmp_path, Server("lab", "lab", switch=b"caching_sha2_password"), "lab\nlab\n\n")
    assert code == 1 and words.startswith("the account wants caching_sha2_password")


def test_a_closed_port_and_a_missing_file_are_failures(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    (tmp_path / "account").write_text("lab\nlab\n\n")
    closed = run([str(PROGRAM), "127.0.0.1", port, str(tmp_path / "account")], check=False)
    assert (closed.code, closed.error_text) == (1, f"127.0.0.1 port {port}: connect: Connection refused\n")
    missing = run([str(PROGRAM), "127.0.0.1", port, str(tmp_path / "nothing")], check=False)
    assert missing.code == 1 and "No such file" in missing.error_text
