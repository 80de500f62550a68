"""A container's namespaces as a ``Channel``: ``nsenter`` into those of its init process.

Files are read and written by commands inside, never through /proc/PID/root: a symbolic link made in the container must not
lead the host anywhere. (That something is there may be seen that way, to know when to ask.)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vlab.errors import GuestError, WaitError
from vlab.guests.base import Result
from vlab.guests.wait import NotYet, wait_until
from vlab.run import run

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = (f"PATH={PATH}", "HOME=/root", "LC_ALL=C.UTF-8")

_PUT = 'beside="$1.vlab~"; install -D -m "$2" /dev/stdin "$beside"; mv -fT -- "$beside" "$1"'

_ORDERS = "/run/systemd/private"
"""The socket through which systemd takes orders."""

_JOIN = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo 0 >"$1" || :; shift; n=$((n - 1)); done 2>/dev/null; exec "$@"'
"""Join the control groups whose process lists are the first arguments, then become the rest: what is run inside counts against
the container's limits, as lxc-attach does it."""


class NamespaceChannel:
    """``node`` is the name in messages, ``domain`` libvirt's; ``pid`` the container's init as the host sees it."""

    def __init__(self, node: str, domain: str, pid: int) -> None:
        self._node = node
        self._domain = domain
        self._pid = pid

    def run(self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60.0) -> Result:
        # setpriv: nsenter leaves a child in the PID namespace, which must die with it when time is up.
        # env: nothing of the host's environment; and its «not found» is the command's own exit code 127.
        inside = ["setpriv", "--pdeathsig", "KILL", "--", "env", "-i", *ENVIRONMENT, *argv]
        try:
            result = run([*self._enter(), *inside], input=input, timeout=timeout, check=False)
        except WaitError as error:
            raise WaitError(f"{self._node}: «{' '.join(argv)[:80]}» did not end within {timeout:g} s") from error
        # nsenter dies of the signal its child died of; shells and the guest agent say 128 and more.
        return result if result.code >= 0 else replace(result, code=128 - result.code)

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write beside ``path`` and move it there, so no reader sees half of it; makes missing folders."""
        result = self.run(["/bin/sh", "-euc", _PUT, "sh", path, f"{mode:o}"], input=content)
        self._refuse(result, f"cannot write {path}")

    def get(self, path: str) -> bytes:
        result = self.run(["cat", "--", path])
        self._refuse(result, f"cannot read {path}")
        return result.stdout

    def feed(self, path: str, content: bytes) -> None:
        result = self.run(["/bin/sh", "-euc", '[ -e "$1" ]; cat >"$1"', "sh", path], input=content)
        self._refuse(result, f"cannot write into {path}")

    def wait(self, timeout: float) -> None:
        """Return once systemd takes orders. A look from outside tells when to ask: five programs are run for each question inside."""

        def answers() -> None:
            self._refuse_gone()
            if not _is_there(Path(f"/proc/{self._pid}/root{_ORDERS}")) or self.run(["test", "-S", _ORDERS]).code:
                raise NotYet("systemd does not answer yet")

        wait_until(f"{self._node}: systemd to take orders", answers, timeout=timeout, slowest=0.2)

    def shell(self) -> Sequence[str]:
        terminal = os.environ.get("TERM", "linux")
        return [*self._enter(), "env", "-i", *ENVIRONMENT, f"TERM={terminal}", "/bin/bash", "-l"]

    def _refuse_gone(self) -> None:
        if not is_init_of(self._pid, self._domain):
            raise GuestError(f"{self._node} does not run any more", hint="vlab status; vlab up starts it again")

    def _enter(self) -> list[str]:
        self._refuse_gone()
        groups = control_groups(Path(f"/proc/{self._pid}/cgroup").read_text())
        join = ["/bin/sh", "-c", _JOIN, "sh", str(len(groups)), *groups]
        return [*join, "nsenter", "--target", str(self._pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--"]

    def _refuse(self, result: Result, what: str) -> None:
        if result.code:
            raise GuestError(f"{self._node}: {what}", details=result.error_text.splitlines())


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def control_groups(membership: str, root: Path = Path("/sys/fs/cgroup")) -> list[str]:
    """The process lists of the groups that a process is in (its /proc/PID/cgroup), as far as the host has them mounted."""
    found: list[Path] = []
    for line in membership.splitlines():
        _, names, path = line.split(":", 2)
        hierarchy = names.removeprefix("name=") if names else ""
        found += [root / hierarchy / path.lstrip("/") / "cgroup.procs"]
    return [str(procs) for procs in found if procs.is_file()]


def is_init_of(pid: int, domain: str) -> bool:
    """Is ``pid`` still the init of that libvirt-LXC domain? The number may have gone to another process of the host."""
    try:
        parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        words = Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")
    except (OSError, IndexError):
        return False
    return words[0].endswith(b"libvirt_lxc") and domain.encode() in words
