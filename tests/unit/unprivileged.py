"""Root without its powers, in this process and what it starts, for as long as a block lasts: Linux capabilities and libvirt's sockets gone.

Capabilities stay permitted to this thread, so that it can take them back (capabilities(7)); a program that it executes gets none, as
SECBIT_NOROOT makes the user root one like all others.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlab.host.syscalls import CLONE_FS, CLONE_NEWNS, MS_REC, mount, setns, unshare

PR_SET_SECUREBITS, SECBIT_NOROOT = 28, 1
MS_SLAVE = 0x80000
VERSION_3 = 0x20080522
LIBVIRT = Path("/run/libvirt")
PATIENCE = 60.0
"""Seconds for which threads that a test left behind are waited for."""

_Header = ctypes.c_uint32 * 2
_Sets = ctypes.c_uint32 * 6  # effective, permitted, inheritable; once more for capabilities over 31
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def without_privileges() -> Iterator[None]:
    """No capability is in effect, and no program that is started has any. For root only."""
    powers = _capabilities()
    _securebits(SECBIT_NOROOT)
    _set_capabilities([0, powers[1], 0, 0, powers[4], 0])
    try:
        yield
    finally:
        _set_capabilities(powers)
        _securebits(0)


@contextmanager
def without_libvirt() -> Iterator[None]:
    """In a mount namespace where libvirt's sockets cannot be found. For root only. Threads that still run at the end are waited for: who
    leaves a mount namespace must be alone (setns(2))."""
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    here = Path.cwd()
    unshare(CLONE_FS | CLONE_NEWNS)
    mount("none", "/", None, MS_SLAVE | MS_REC)
    if LIBVIRT.exists():
        mount("none", str(LIBVIRT), "tmpfs", 0)
    try:
        yield
    finally:
        _alone()
        setns(before, CLONE_NEWNS)
        os.close(before)
        os.chdir(here)


def _alone() -> None:
    deadline = time.monotonic() + PATIENCE
    while len(list(Path("/proc/self/task").iterdir())) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)


def _capabilities() -> list[int]:
    sets = _Sets()
    _checked(_libc.capget(_Header(VERSION_3, 0), sets))
    return list(sets)


def _set_capabilities(sets: list[int]) -> None:
    _checked(_libc.capset(_Header(VERSION_3, 0), _Sets(*sets)))


def _securebits(bits: int) -> None:
    _checked(_libc.prctl(PR_SET_SECUREBITS, bits, 0, 0, 0))


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
