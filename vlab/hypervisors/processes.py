"""The host's processes behind libvirt's domains: which one a guest is, and its end before libvirt asks for it.

libvirt is patient with what it destroys. It asks a container's init with SIGTERM for 1.8 s, which the init of a PID namespace never hears.
After its SIGTERM to QEMU it sleeps 0.2 s before it looks again (virProcessKillPainfullyDelay in src/util/virprocess.c), also when its
own look at the monitor told it that QEMU is going. Of a guest whose process is gone already it finds nothing to wait for. Nothing is lost
by that: the clone is thrown away, and has never been flushed.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from vlab.host.syscalls import pidfd_getfd
from vlab.hypervisors import cgroups

PID_FILES = Path("/run/libvirt/qemu")

ENDS_WITHIN = 2.0
"""Seconds for a killed QEMU to leave its memory; libvirt waits itself for one that takes longer."""

REAPED_WITHIN = 0.1
"""Seconds for its parent to take note: until then libvirt thinks that it lives."""

LOOK = 0.001


class Driver:
    """How the guests of a libvirt driver are processes of this host; this one's are none, as those of libvirt's own test driver. ``id`` is
    libvirt's number of the domain."""

    uri: ClassVar[str]

    def pid(self, name: str, id: int) -> int:  # noqa: ARG002 - others look for it
        """Raises ``OSError`` or ``ValueError`` when there is none, or it is 0."""
        return 0

    def kill(self, pid: int, name: str) -> None:
        """End the process that ``pid`` told. Raises ``OSError``."""

    def remains(self, id: int) -> str:  # noqa: ARG002 - libvirt leaves nothing of most guests
        """What ``clear`` is to remove when the domain has gone, told while it is there; empty for nothing."""
        return ""

    def clear(self, remains: str) -> None:
        """Remove what ``remains`` told."""


class Qemu(Driver):
    uri = "qemu:///system"

    def pid(self, name: str, id: int) -> int:  # noqa: ARG002 - QEMU's number is in a file
        return int((PID_FILES / f"{name}.pid").read_text())

    def kill(self, pid: int, name: str) -> None:
        """A pidfd names one process for ever, so a pid used again in between is not hit.

        QEMU's sockets stay open here until it is gone: libvirt looks for the process as soon as its monitor is closed, which is 10 ms
        before. No longer: a call of libvirt's that waits for QEMU's answer ends with the monitor, and others wait for that call."""
        with ExitStack() as ending:
            process = os.pidfd_open(pid)
            ending.callback(os.close, process)
            if not is_qemu_of(name, Path(f"/proc/{pid}/cmdline").read_bytes()):
                return
            for descriptor in _sockets(pid):
                ending.callback(os.close, pidfd_getfd(process, descriptor))
            signal.pidfd_send_signal(process, signal.SIGKILL)
            if select.select([process], [], [], ENDS_WITHIN)[0]:
                _await_reaping(process)


class Lxc(Driver):
    """libvirt's id of a container is the pid of its controller, whose only child is the container's init."""

    uri = "lxc:///system"

    def pid(self, name: str, id: int) -> int:  # noqa: ARG002 - a container is known by its controller
        children = Path(f"/proc/{id}/task/{id}/children").read_text().split() if id > 0 else []
        return int(children[0]) if children else 0

    def kill(self, pid: int, name: str) -> None:  # noqa: ARG002 - the controller would not leave its number to another
        os.kill(pid, signal.SIGKILL)

    def remains(self, id: int) -> str:
        return cgroups.of_container(id)

    def clear(self, remains: str) -> None:
        cgroups.remove(remains)


_DRIVERS: dict[str, Driver] = {each.uri: each for each in (Qemu(), Lxc())}
_OTHER = Driver()
URIS = tuple(_DRIVERS)


def guest(name: str, uri: str, id: int) -> int:
    """The pid of a domain: QEMU's own, or the init of a container; 0 when there is none."""
    try:
        return _DRIVERS.get(uri, _OTHER).pid(name, id)
    except (OSError, ValueError):
        return 0


@contextmanager
def killed(name: str, uri: str, id: int) -> Iterator[None]:
    """Kill the guest's process, for libvirt to find it gone within the block, and clear what libvirt leaves of it afterwards. Fine when it
    is gone; one that cannot be killed here is left to libvirt."""
    driver = _DRIVERS.get(uri, _OTHER)
    remains = driver.remains(id)
    with suppress(OSError):
        if pid := guest(name, uri, id):
            driver.kill(pid, name)
    try:
        yield
    finally:
        driver.clear(remains)


def _sockets(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/fd").iterdir()
    return [int(entry.name) for entry in found if str(entry.readlink()).startswith("socket:")]


def _await_reaping(process: int) -> None:
    deadline = time.monotonic() + REAPED_WITHIN
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            signal.pidfd_send_signal(process, 0)
            time.sleep(LOOK)


def is_qemu_of(name: str, cmdline: bytes) -> bool:
    """Whether the process with this command line, words that end in NUL, is the QEMU that libvirt started for domain ``name``."""
    words = cmdline.split(b"\0")
    told = [value for option, value in pairwise(words) if option == b"-name"]
    return any(value.split(b",")[0] == f"guest={name}".encode() for value in told)
