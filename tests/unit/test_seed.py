"""Seeds: the same files, folders and modes whether they go into a tree or into an archive."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.conftest import need
from vlab.guests.settings import File
from vlab.images import seed
from vlab.run import run

FILES = (
    File("/etc/hosts", "127.0.0.1 localhost\n"),
    File("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA\n", 0o600),
    File("/etc/vlab/apply.sh", "#!/bin/sh\n", 0o755),
)


def found(tree: Path) -> dict[str, tuple[int, str]]:
    """Path → mode and content of everything below ``tree``."""
    return {
        str(path.relative_to(tree)): (stat.S_IMODE(path.stat().st_mode), path.read_text() if path.is_file() else "")
        for path in sorted(tree.rglob("*"))
    }


WANTED = {
    "etc": (0o755, ""), "etc/hosts": (0o644, "127.0.0.1 localhost\n"),
    "etc/vlab": (0o755, ""), "etc/vlab/apply.sh": (0o755, "#!/bin/sh\n"),
    "root": (0o700, ""), "root/.ssh": (0o700, ""), "root/.ssh/authorized_keys": (0o600, "ssh-ed25519 AAAA\n"),
}  # fmt: skip


def test_a_tree_holds_the_files_and_no_folder_is_opened_up(tmp_path: Path) -> None:
    seed.into_tree(FILES, tmp_path)
    assert found(tmp_path) == WANTED
    seed.into_tree(FILES, tmp_path)
    assert found(tmp_path) == WANTED


def test_an_archive_unpacks_to_the_same(tmp_path: Path) -> None:
    need("busybox")
    run(["busybox", "cpio", "-i", "-d"], input=seed.archive(FILES), cwd=tmp_path)
    assert found(tmp_path / "seed") == WANTED
