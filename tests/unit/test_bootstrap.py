"""``bootstrap`` from the outside: what it says, what it leaves alone, what it runs. Nothing is installed or started here:
either it only says what it would do, or the host is ready and it has nothing to do."""

from __future__ import annotations

import os
import shutil
import subprocess
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


def test_the_tests_have_packages_of_their_own(clone: Path, tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", dpkg_query="exit 1", dpkg="echo amd64", apt_get="exit 1")
    named = [
        set(bootstrap(clone / "bootstrap", "--dry-run", *words, path=path).stderr.split()) for words in ([], ["test"])
    ]
    assert "tini" in named[0] & named[1]
    assert named[1] - named[0] >= {"cpio", "curl", "shellcheck"}


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
