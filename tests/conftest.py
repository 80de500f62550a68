"""What every test of vlab shares: which tests are live, and what they need.

Everything under ``tests/live`` boots real guests and is marked ``live`` by where it is. Without root or libvirt those tests are
skipped with the reason; ``./bootstrap test`` sets ``VLAB_LIVE=required``, and then a host that is not ready fails them.
Everything under ``tests/unit`` needs no privileges, and ``unit/conftest.py`` sees to it that they have none.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
from pathlib import Path

import pytest

LIVE = Path(__file__).parent / "live"
SOCKETS = ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(LIVE):
            item.add_marker(pytest.mark.live)
    # What takes seconds comes before what takes minutes.
    items.sort(key=lambda item: item.path.is_relative_to(LIVE))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("live") is None or not (lack := lacking()):
        return
    if os.environ.get("VLAB_LIVE") == "required":
        pytest.fail(f"this host cannot run live tests: {lack}", pytrace=False)
    pytest.skip(lack)


@functools.cache
def lacking() -> str:
    """Why no guest can be booted here; empty when one can."""
    if os.geteuid() != 0:
        return "live tests need root"
    if not any(map(listens, SOCKETS)):
        return "libvirt does not answer: ./bootstrap test starts it"
    return ""


def listens(path: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    except OSError:
        return False
    return True


def need(*programs: str) -> None:
    """Skip the calling test, with the reason, where one of ``programs`` is not installed."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
