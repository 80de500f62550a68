"""How many containers the host's inotify limit allows."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from vlab.host import inotify


def test_what_fits_is_not_refused() -> None:
    assert inotify.shortage(40, 128, 8) == []
    assert inotify.refuse(1) == []


def test_what_does_not_fit_is_refused_with_the_sum_and_the_remedy() -> None:
    assert inotify.shortage(100, 128, 10) == [
        "100 containers need 300 inotify instances together, and the host allows root 128, of which 10 are in use: "
        "sysctl -w fs.inotify.max_user_instances=512"
    ]


def test_open_instances_are_counted() -> None:
    mine = Path("/proc/self/fd")
    before = inotify.opened(mine)
    descriptor = ctypes.CDLL(None).inotify_init()
    try:
        assert inotify.opened(mine) == before + 1
    finally:
        os.close(descriptor)
    assert inotify.opened(mine) == before
