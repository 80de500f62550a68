"""The words of ``vlab forward``."""

from __future__ import annotations

from vlab.errors import UsageError
from vlab.host.forward import Forward
from vlab.topology.lab import Lab

HINT = "vlab forward 8080:www, or 2222:web1:22"


def parsed(word: str, lab: Lab) -> Forward:
    """«8080:www» (a service) or «2222:web1:22» (a node's port). Raises ``UsageError``."""
    parts = word.split(":")
    if len(parts) == 2 and (service := next((s for s in lab.services if s.name == parts[1]), None)):
        return Forward(_port(parts[0]), service.vip, service.port)
    if len(parts) == 3 and (node := next((n for n in lab.nodes if n.name == parts[1]), None)):
        return Forward(_port(parts[0]), node.nics[0].address.ip, _port(parts[2]))
    known = ", ".join([*(s.name for s in lab.services), *(n.name for n in lab.nodes[:12])])
    raise UsageError(f"{word} is no forward of lab {lab.name}", details=[f"services and nodes: {known}"], hint=HINT)


def _port(text: str) -> int:
    if text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise UsageError(f"{text!r} is not a port", hint=HINT)
