"""The few Linux system calls that Python 3.11 does not have, with errors as ``OSError``.

All but ``pidfd_getfd`` act on the calling thread alone: ``namespace.py`` and ``mounts.py`` call them in threads of their own; nothing else
should.
"""

from __future__ import annotations

import ctypes
import functools
import os

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SHARED = 0x100000
MNT_DETACH = 2


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace behind ``descriptor``. A thread that enters a mount namespace must have its own ``CLONE_FS`` before."""
    _checked(_libc().setns(descriptor, kind), "setns")


def unshare(flags: int) -> None:
    _checked(_libc().unshare(flags), "unshare")


def mount(source: str, target: str, filesystem: str | None, flags: int, options: str | None = None) -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, filesystem, options)]
    _checked(_libc().mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]), target)


def umount(target: str, flags: int = 0) -> None:
    _checked(_libc().umount2(os.fsencode(target), flags), target)


def pidfd_getfd(process: int, descriptor: int) -> int:
    """A descriptor of ours, closed on exec, for what ``descriptor`` is in the process behind a pidfd."""
    copy = int(_libc().syscall(_PIDFD_GETFD, process, descriptor, 0))
    _checked(copy < 0, "pidfd_getfd")
    return copy


_PIDFD_GETFD = 438
"""include/uapi/asm-generic/unistd.h, and all architectures' own; glibc has no name for it before 2.36."""


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, subject: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), subject)
