"""SSH keys, made once with ``ssh-keygen``: vlab's own pair, whose public half may log in to every guest as root, and a host
key for each clone, so that ``vlab ssh`` knows whom it talks to before it ever did."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vlab.guests.settings import File
from vlab.run import run

HOST_KEY = "ssh_host_ed25519_key"


def public_key(root: Path) -> str:
    """The line for ``authorized_keys``; the pair is made when it is missing. ``root`` is the state folder."""
    return _half(_pair(private_key(root), "vlab")).read_text().strip()


def known_public_key(root: Path) -> str:
    """As ``public_key``, but nothing is made: empty when the pair is missing or not for this user to read."""
    try:
        return _half(private_key(root)).read_text().strip()
    except OSError:
        return ""


def private_key(root: Path) -> Path:
    """Where vlab's own private key is, made or not."""
    return root / "ssh" / "id_ed25519"


def host_key_files(clone: Path) -> tuple[File, ...]:
    """The guest's SSH host key as files for its first configuration; kept in its clone folder."""
    key = _pair(clone / HOST_KEY, "")
    why = "the host key that vlab ssh checks"
    return (
        File(f"/etc/ssh/{HOST_KEY}", key.read_text(), 0o600, why),
        File(f"/etc/ssh/{HOST_KEY}.pub", _half(key).read_text(), 0o644, why),
    )


def host_key(clone: Path) -> str:
    """The public host key («ssh-ed25519 AAAA…») of a clone, empty when it has none."""
    path = _half(clone / HOST_KEY)
    return path.read_text().strip() if path.is_file() else ""


def _half(private: Path) -> Path:
    """The public half's file."""
    return private.with_name(f"{private.name}.pub")


def _pair(private: Path, comment: str) -> Path:
    """Make the pair in a folder of its own and move it, the private half last: who sees that sees both."""
    if not private.is_file():
        private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=private.parent) as folder:
            made = Path(folder) / "key"
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(made)])
            _half(made).replace(_half(private))
            made.replace(private)
    return private
