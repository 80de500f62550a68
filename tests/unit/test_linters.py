"""Style and types are tests: what ruff, mypy and shellcheck say is part of the suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import need

ROOT = Path(__file__).parents[2]
SCRIPTS = ("bootstrap", ".ci/run")


def passes(*argv: str) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"


def test_ruff_check() -> None:
    passes(sys.executable, "-m", "ruff", "check", ".")


def test_ruff_format() -> None:
    passes(sys.executable, "-m", "ruff", "format", "--check", ".")


def test_mypy_strict() -> None:
    passes(sys.executable, "-m", "mypy")


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck(script: str) -> None:
    need("shellcheck")
    passes("shellcheck", script)


def test_bootstrap_is_posix_shell() -> None:
    passes("dash" if Path("/bin/dash").exists() else "sh", "-n", "bootstrap")


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_executable(script: str) -> None:
    assert (ROOT / script).stat().st_mode & 0o111 == 0o111
