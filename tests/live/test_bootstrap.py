"""``bootstrap`` on a host that is ready, where it has nothing to do but to start vlab. Nothing is installed here."""

from __future__ import annotations

import fcntl
import subprocess
import time
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from tests.unit.test_bootstrap import ECHO, bootstrap, clone
from vlab import errors

__all__ = ["clone"]


@pytest.fixture
def made(clone: Path) -> Path:
    """The clone with an environment whose vlab prints its arguments and exits with 7."""
    done = bootstrap(clone / "bootstrap", "--dry-run")
    if "packages" in done.stderr or "starting" in done.stderr or "/dev/kvm" in done.stderr or done.returncode:
        pytest.skip(f"this host is not ready: {done.stderr.strip()}")
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/python").symlink_to("/usr/bin/python3")
    (clone / ".venv/bin/vlab").write_text(ECHO)
    (clone / ".venv/bin/vlab").chmod(0o755)
    digest = subprocess.run(
        ["sha256sum"], stdin=(clone / "pyproject.toml").open("rb"), capture_output=True, text=True, check=True
    )
    stamp = f"plain {Path('/usr/bin/python3').resolve()} {digest.stdout.strip()} {clone}"
    (clone / ".venv/vlab-stamp").write_text(stamp + "\n")
    return clone


def test_vlab_gets_its_arguments_as_they_are_and_gives_its_exit_code(made: Path) -> None:
    done = bootstrap(made / "bootstrap", "up", "a b", "*", "", "--as", "x", cwd=Path("/"))
    assert (done.stdout, done.stderr, done.returncode) == ("<up><a b><*><><--as><x>", "", 7)


def test_on_a_ready_host_it_adds_less_than_half_a_second(made: Path) -> None:
    def once() -> float:
        began = time.monotonic()
        bootstrap(made / "bootstrap", "ls")
        return time.monotonic() - began

    assert min(once() for _ in range(3)) < 0.5


def test_vlab_is_compiled_for_those_who_may_not_write_here() -> None:
    assert Path(cache_from_source(errors.__file__)).is_file()


@pytest.mark.parametrize("words", [("ls",), ("test",)])
def test_another_pyproject_or_the_suite_needs_another_environment(made: Path, words: tuple[str, ...]) -> None:
    if words == ("ls",):
        with (made / "pyproject.toml").open("a") as file:
            file.write("\n")
    assert "installing vlab into" in bootstrap(made / "bootstrap", "--dry-run", *words).stderr


def test_one_bootstrap_of_a_folder_at_a_time(made: Path) -> None:
    with (made / "bootstrap").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            [made / "bootstrap", "ls"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == "bootstrap: waiting for another bootstrap of this folder to end\n"
        assert waiting.poll() is None
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert waiting.communicate(timeout=30)[0] == "<ls>"
