"""``bootstrap`` from the outside: what it says, what it leaves alone, what it runs. Nothing is installed or started here:
either it only says what it would do, or the host is ready and it has nothing to do."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = [
    "sh",
    "dirname",
    "readlink",
    "flock",
    "id",
    "stat",
    "getent",
    "sha256sum",
    "cat",
    "env",
    "grep",
    "sleep",
    "tail",
]
ECHO = '#!/bin/sh\nprintf "<%s>" "$@"\nexit 7\n'


def bootstrap(
    script: Path, *words: str, cwd: Path = ROOT, path: str = os.environ["PATH"]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *words],
        cwd=cwd,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone's root with a space in its path, without an environment."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("bootstrap", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


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


def tools(folder: Path, **programs: str) -> str:
    """A PATH with the plain tools only, and ``programs`` written as shell scripts."""
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or f"/usr/bin/{tool}")
    for name, body in programs.items():
        script = folder / name.replace("_", "-")
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
    return str(folder)


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(clone: Path) -> None:
    done = bootstrap(clone / "bootstrap", "--dry-run", "up", "lab.yaml")
    assert done.returncode == 0
    assert f"bootstrap: installing vlab into {clone}/.venv" in done.stderr
    assert done.stdout == ""
    assert sorted(p.name for p in clone.iterdir()) == ["bootstrap", "pyproject.toml"]


def test_it_finds_its_folder_through_a_symlink_and_from_anywhere(clone: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to("a clone/bootstrap")
    assert f"{clone}/.venv" in bootstrap(link, "--dry-run", cwd=Path("/")).stderr


def test_missing_packages_are_named(clone: Path, tmp_path: Path) -> None:
    installed = "tini=installed mount=deinstall util-linux:amd64=installed"
    path = tools(tmp_path / "bin", dpkg_query=f"echo {installed}", dpkg="echo amd64", apt_get="echo called >&2; exit 1")
    said = bootstrap(clone / "bootstrap", "--dry-run", path=path).stderr
    line = next(line for line in said.splitlines() if ": libvirt-daemon-system" in line)
    assert "mmdebstrap" in line.split()
    assert "mount" in line.split()
    assert not {"tini", "util-linux"} & set(line.split())
    assert "called" not in said


@pytest.mark.parametrize("architecture", ["", "arm64"], ids=["no apt", "another architecture"])
def test_an_unsupported_host_is_told_so(clone: Path, tmp_path: Path, architecture: str) -> None:
    programs = {"dpkg_query": "exit 1", "dpkg": f"echo {architecture}", "apt_get": "exit 1"} if architecture else {}
    done = bootstrap(clone / "bootstrap", "--dry-run", path=tools(tmp_path / "bin", **programs))
    assert done.returncode == 5
    assert done.stderr == (
        "bootstrap: this is not Debian or Ubuntu on amd64\n(hint: use Debian 12 or later, or Ubuntu 24.04 or later)\n"
    )


def test_without_root_and_sudo_it_says_so(clone: Path, tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", dpkg_query="exit 1", dpkg="echo amd64", apt_get="exit 1")
    (tmp_path / "bin/id").unlink()
    (tmp_path / "bin/id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "bin/id").chmod(0o755)
    done = bootstrap(clone / "bootstrap", "up", path=path)
    assert done.returncode == 5
    assert "(hint: run this as root)" in done.stderr


def test_apt_that_fails_is_told_with_its_own_words(clone: Path, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("not root: sudo would be asked for")
    path = tools(
        tmp_path / "bin", dpkg_query="exit 1", dpkg="echo amd64", apt_get="echo 'E: no such mirror' >&2; exit 100"
    )
    done = bootstrap(clone / "bootstrap", "up", path=path)
    assert done.returncode == 5
    assert "E: no such mirror\nbootstrap: apt-get could not install: libvirt-daemon-system" in done.stderr
    assert "is the network up?" in done.stderr


def test_vlab_gets_its_arguments_as_they_are_and_gives_its_exit_code(made: Path) -> None:
    done = bootstrap(made / "bootstrap", "up", "a b", "*", "", "--as", "x", cwd=Path("/"))
    assert (done.stdout, done.stderr, done.returncode) == ("<up><a b><*><><--as><x>", "", 7)


def test_on_a_ready_host_it_adds_less_than_half_a_second(made: Path) -> None:
    def once() -> float:
        began = time.monotonic()
        bootstrap(made / "bootstrap", "ls")
        return time.monotonic() - began

    assert min(once() for _ in range(3)) < 0.5


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
