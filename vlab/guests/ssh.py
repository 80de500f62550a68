"""The command line of ``vlab ssh``: into a guest from inside its lab's namespace, with vlab's key, its host key pinned. Pure
but for the one-line ``known_hosts`` file it keeps in the guest's clone folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vlab.errors import GuestError
from vlab.guests import keys
from vlab.topology.lab import Node, namespace


class Paths(Protocol):
    """What is needed of ``state.Paths``."""

    @property
    def root(self) -> Path: ...

    def clone(self, lab: str, node: str) -> Path: ...


def argv(paths: Paths, lab: str, node: Node, command: Sequence[str]) -> list[str]:
    """``ssh`` as root to ``node``; a login shell without ``command``. Raises ``GuestError`` for a guest that has no network or
    no host key yet."""
    if not node.nics:
        raise GuestError(f"{node.name} has no network", hint=f"vlab exec {node.name} and vlab console need none")
    clone = paths.clone(lab, node.name)
    if not (host_key := keys.host_key(clone)):
        raise GuestError(f"{node.name} has no SSH host key yet", hint="vlab up configures it")
    alias = f"{node.name}.{lab}"
    known = clone / "known_hosts"
    known.write_text(f"{alias} {host_key}\n")
    options = {
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": alias,
        "StrictHostKeyChecking": "yes",
        "IdentityFile": str(keys.private_key(paths.root)),
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
    }
    return [
        *("nsenter", f"--net=/run/netns/{namespace(lab)}", "--", "ssh", "-F", "/dev/null"),
        *(word for option in options.items() for word in ("-o", "=".join(option))),
        f"root@{node.nics[0].address.ip}",
        *command,
    ]
