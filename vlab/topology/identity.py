"""Names that machines see: MACs, device names, UUIDs. Pure and stable: each is a hash of (lab, node, network).

Where two short hashes meet, the later one in file order is hashed again, so nodes added at the end rename none before them.
"""

from __future__ import annotations

import hashlib
import uuid
from itertools import count

NAMESPACE = uuid.UUID("5f9d6d9e-0d1c-5d0e-9a5e-76c1ab1a0001")


def node_uuid(lab: str, node: str) -> str:
    return str(uuid.uuid5(NAMESPACE, f"{lab}/{node}"))


def machine_id(lab: str, node: str) -> str:
    """32 hexadecimal digits for /etc/machine-id: the UUID's own, which systemd takes from SMBIOS or ``container_uuid`` by itself."""
    return node_uuid(lab, node).replace("-", "")


def mac(taken: set[str], *words: str) -> str:
    """A MAC under 52:54:00, QEMU's usual prefix, that is not in ``taken``; puts it there."""
    for attempt in count():
        digits = _digest("mac", *words, str(attempt))
        found = f"52:54:00:{digits[:2]}:{digits[2:4]}:{digits[4:6]}"
        if found not in taken:
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


def _digest(*words: str) -> str:
    """64 hexadecimal digits of ``words``; the NUL between them occurs in no name, so they cannot run into each other."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()
