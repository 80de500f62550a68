"""Unit tests need no privileges: run as root, they pass once more without a single capability and without libvirt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AGAIN = "VLAB_UNIT_AGAIN"
HIDE_LIBVIRT = 'mkdir -p /run/libvirt && mount -t tmpfs none /run/libvirt && exec "$@"'
WITHOUT = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]


@pytest.mark.skipif(os.geteuid() != 0, reason="not root: the unit tests already run without privileges")
@pytest.mark.skipif(AGAIN in os.environ, reason="this is the second run")
def test_unit_tests_need_no_privileges(tmp_path: Path) -> None:
    pytest_again = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        f"--basetemp={tmp_path / 'again'}",
    ]
    argv = [*pytest_again, "--ignore=tests/unit/test_linters.py", "tests/unit"]
    done = subprocess.run(
        ["unshare", "--mount", "--", "sh", "-c", HIDE_LIBVIRT, "sh", *WITHOUT, "--", *argv],
        cwd=ROOT, env={**os.environ, AGAIN: "1"}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
