"""What ``conftest`` takes from all unit tests is really gone, here and in what a test starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vlab.host.syscalls import CLONE_NEWNET, unshare


def test_no_capability_is_in_effect() -> None:
    assert _field(Path("/proc/thread-self/status").read_text(), "CapEff") == 0
    with pytest.raises(PermissionError):
        unshare(CLONE_NEWNET)


def test_a_program_that_a_test_starts_has_no_capability() -> None:
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    assert (_field(status, "CapEff"), _field(status, "CapPrm")) == (0, 0)


def test_libvirt_is_not_there() -> None:
    assert not list(Path("/run/libvirt").glob("*sock*"))


def _field(status: str, name: str) -> int:
    line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1], 16)
