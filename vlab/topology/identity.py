"""Names that machines see: MACs, device names, UUIDs. Pure and stable: each is a hash of (lab, node, network).

Where two short hashes meet, the later one in file order is hashed again, so nodes added at the end rename none before them.
"""

from __future__ import annotations

import hashlib
import uuid
from itertools import count

STAND_IN_MAC = "52:54:00:00:00"
"""The MACs under this are those of golden snapshots; no node has one."""

NAMESPACE = uuid.UUID("5f9d6d9e-0d1c-5d0e-9a5e-76c1ab1a0001")


def node_uuid(lab: str, node: str) -> str:
    return str(uuid.uuid5(NAMESPACE, f"{lab}/{node}"))


def machine_id(own: str) -> str:
    """32 hexadecimal digits for /etc/machine-id: those of the node's UUID, which systemd takes from SMBIOS or ``container_uuid`` by itself."""
    return own.replace("-", "")


def mac(taken: set[str], *words: str) -> str:
    """A MAC under 52:54:00, QEMU's usual prefix, that is not in ``taken``; puts it there."""
    for attempt in count():
        digits = _digest("mac", *words, str(attempt))
        found = f"52:54:00:{digits[:2]}:{digits[2:4]}:{digits[4:6]}"
        if found not in taken and not found.startswith(STAND_IN_MAC):
            break
    taken.add(found)
    return found


def device(taken: set[str], letter: str, *words: str) -> str:
    """A host interface name of 11 characters that is not in ``taken``; puts it there."""
    for attempt in count():
        found = letter + _digest("device", *words, str(attempt))[:10]
        if found not in taken:
            break
    taken.add(found)
    return found


def vrid(taken: set[int], *words: str) -> int:
    """A VRRP router id, 1 to 255, that is not in ``taken`` (which must leave one); puts it there."""
    for attempt in count():
        found = int(_digest("vrid", *words, str(attempt))[:8], 16) % 255 + 1
        if found not in taken:
            break
    taken.add(found)
    return found


def mark(taken: set[int], service: str) -> int:
    """A firewall mark from 1 to 65535 that is not in ``taken``; puts it there. The same in every lab: marks stay in a director."""
    for attempt in count():
        found = int(_digest("mark", service, str(attempt))[:8], 16) % 65_535 + 1
        if found not in taken:
            break
    taken.add(found)
    return found


def _digest(*words: str) -> str:
    """64 hexadecimal digits of ``words``; the NUL between them occurs in no name, so they cannot run into each other."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()
