"""Network namespaces of labs: they are made, found, removed and entered here, without netlink.

A namespace appears under /run/netns as ``ip netns`` has it, in one step and complete (sysctls written, loopback up), so a run that is
killed leaves either nothing, a whole namespace, or an empty file that ``create_namespace`` takes over and ``delete_namespace`` removes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from vlab.errors import HostError, UsageError
from vlab.host import syscalls, sysctls
from vlab.topology import lab

T = TypeVar("T")

FOLDER = Path("/run/netns")
PREFIX = lab.namespace("")
OWN = "/proc/thread-self/ns/net"
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


def namespaces() -> list[str]:
    """Names of the lab namespaces on this host («vlab-<lab>»), complete ones only."""
    return sorted(path.name for path in _files() if _is_mounted(path))


def half_made() -> list[str]:
    """Names under /run/netns that are ours and no namespace: a run was killed there. ``delete_namespace`` removes them."""
    return sorted(path.name for path in _files() if not _is_mounted(path))


def create_namespace(name: str) -> None:
    """Make the namespace; one that is there already stays as it is. Raises ``HostError`` without the rights."""
    target = FOLDER / name
    if _is_mounted(target):
        return
    with _explained(f"cannot make the network namespace {name}"):
        _share_folder()
        target.touch(mode=0o444)
        in_fresh_thread(lambda: _born(target))


def delete_namespace(name: str) -> None:
    """Remove the namespace with every link in it; nothing happens when there is none. The kernel frees the links soon after.

    Also clears what killed runs left: an empty file, or mounts piled on one another.
    """
    target = FOLDER / name
    with _explained(f"cannot remove the network namespace {name}"):
        while _is_mounted(target):
            syscalls.umount(str(target), syscalls.MNT_DETACH)
        # Unlinking also takes away copies of the mount that other mount namespaces hold.
        target.unlink(missing_ok=True)


def inside(namespace: str | int | None, function: Callable[[], T]) -> T:
    """The result of ``function``, called in a fresh thread that has entered a network namespace; its errors come out.

    ``namespace`` is a lab namespace's name, the pid of a process in one, or None for the caller's own. Sockets made there belong to it
    and can be used from any thread. Raises ``UsageError`` when there is no such namespace, ``HostError`` without the rights.
    """

    def entered() -> T:
        if namespace is not None:
            _enter(namespace)
        return function()

    return in_fresh_thread(entered)


def in_fresh_thread(function: Callable[[], T]) -> T:
    """Call ``function`` in a thread that ends with it, so that what it does to its thread touches nobody else."""
    with ThreadPoolExecutor(max_workers=1) as fresh:
        return fresh.submit(function).result()


def _enter(namespace: str | int) -> None:
    path = Path(f"/proc/{namespace}/ns/net") if isinstance(namespace, int) else FOLDER / namespace
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UsageError(f"{_title(namespace)} does not exist", hint="vlab ls shows the labs that run") from error
    try:
        syscalls.setns(descriptor, syscalls.CLONE_NEWNET)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise UsageError(f"{_title(namespace)} is half-made", hint="vlab up again, or vlab down") from error
        raise HostError(f"cannot enter {_title(namespace)}: {error.strerror}", hint="run vlab as root") from error
    finally:
        os.close(descriptor)


def _title(namespace: str | int) -> str:
    return f"process {namespace}" if isinstance(namespace, int) else f"the network namespace {namespace}"


def _born(target: Path) -> None:
    """Make a namespace of this thread, complete it, and only then give it its name."""
    syscalls.unshare(syscalls.CLONE_NEWNET)
    sysctls.write(sysctls.QUIET)
    _loopback_up()
    syscalls.mount(OWN, str(target), None, syscalls.MS_BIND)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        flags = struct.unpack("16sh14x", request)[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def _share_folder() -> None:
    """As ``ip netns add`` does, so that both can be used side by side and mount namespaces made later follow."""
    FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        syscalls.mount("", str(FOLDER), "none", syscalls.MS_SHARED | syscalls.MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        syscalls.mount(str(FOLDER), str(FOLDER), "none", syscalls.MS_BIND | syscalls.MS_REC)
        syscalls.mount("", str(FOLDER), "none", syscalls.MS_SHARED | syscalls.MS_REC)


def _files() -> list[Path]:
    return [path for path in FOLDER.iterdir() if path.name.startswith(PREFIX)] if FOLDER.is_dir() else []


def _is_mounted(path: Path) -> bool:
    """Whether ``path`` is a live namespace: all of them, and nothing else, are on the kernel's one nsfs device."""
    try:
        return path.stat().st_dev == Path(OWN).stat().st_dev
    except FileNotFoundError:
        return False


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        rights = error.errno in (errno.EPERM, errno.EACCES)
        raise HostError(f"{what}: {error}", hint="run vlab as root" if rights else "") from error
