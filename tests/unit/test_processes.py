"""The end of a guest's process, on a process that looks like QEMU's: it has its words and a socket."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from vlab.hypervisors import processes

NAME = "vlab-shop.web1"
_WAITS = "import socket, sys, time; s = socket.socket(fileno=int(sys.argv[1])); s.send(b'!'); time.sleep(60)"


class Lookalike:
    """A process that holds the other end of ``monitor``."""

    def __init__(self, name: str) -> None:
        self.monitor, theirs = socket.socketpair()
        argv = [sys.executable, "-c", _WAITS, str(theirs.fileno()), "-name", f"guest={name},debug-threads=on", "-S"]
        self.process = subprocess.Popen(argv, pass_fds=[theirs.fileno()])
        theirs.close()
        assert self.monitor.recv(1) == b"!"

    def closed(self) -> bool:
        return bool(select.select([self.monitor], [], [], 0)[0]) and not self.monitor.recv(1)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.monitor.close()


@pytest.fixture
def qemu() -> Iterator[Lookalike]:
    process = Lookalike(NAME)
    yield process
    process.end()


def test_libvirt_hears_of_the_end_only_afterwards(qemu: Lookalike) -> None:
    """Of what it reads from the monitor's end: its parent has buried the process by then."""
    buried: list[int] = []
    parent = threading.Thread(target=lambda: buried.append(qemu.process.wait()))
    parent.start()
    processes.Qemu().kill(qemu.process.pid, NAME)
    assert qemu.closed()
    parent.join()
    assert buried == [-9]


@pytest.mark.parametrize("other", ["vlab-shop.web", "vlab-shop.web11", "vlab-shop"])
def test_the_process_of_another_domain_is_not_hit(qemu: Lookalike, other: str) -> None:
    processes.Qemu().kill(qemu.process.pid, other)
    assert qemu.process.poll() is None


def test_only_the_name_that_libvirt_gave_counts() -> None:
    assert processes.is_qemu_of(NAME, f"qemu\0-name\0guest={NAME},debug-threads=on\0-S\0".encode())
    assert processes.is_qemu_of(NAME, f"qemu\0-name\0guest={NAME}\0".encode())
    for words in (f"vi\0guest={NAME},\0", f"grep\0-name\0{NAME}\0", "qemu\0-name\0", ""):
        assert not processes.is_qemu_of(NAME, words.encode())


@pytest.mark.parametrize("uri", processes.URIS)
def test_a_guest_that_is_gone_is_nobodys_process(uri: str) -> None:
    assert processes.guest("vlab-nowhere.web1", uri, -1) == 0
    with processes.killed("vlab-nowhere.web1", uri, -1):
        pass
