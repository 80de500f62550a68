"""What is left of a file whose types are wrong in places, so that cross rules still see the rest of it. Pure.

An unknown key is dropped; anything else wrong takes the innermost thing the author named with it: a service, a node's
override, a group. The dropped names are remembered, because pointing at them is no error of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vlab.topology import messages
from vlab.topology.document import Plain
from vlab.topology.finding import Path, entry
from vlab.topology.model import Topology

PLACEHOLDERS: dict[str, Plain] = {"vlab": 1, "name": "unnamed"}


def salvage(data: Plain, errors: Iterable[ErrorDetails]) -> tuple[Topology, frozenset[str]] | None:
    """The topology that remains, with the names of what was dropped; None when too little does. Consumes ``data``."""
    if not isinstance(data, dict):
        return None
    dropped = {_drop(data, error) for error in errors}
    try:
        return Topology.model_validate(data), frozenset(name for name in dropped if name)
    except ValidationError:
        return None


def _drop(data: dict[str, Plain], error: ErrorDetails) -> str | None:
    """Take what ``error`` spoils out of ``data``; its name when it had one."""
    at = messages.path(error)
    if error["type"] == "extra_forbidden":
        _remove(data, at)
        return None
    named = entry(at)
    if named:
        _remove(data, named)
        return str(named[-1])
    if at and at[0] in PLACEHOLDERS:
        data[str(at[0])] = PLACEHOLDERS[str(at[0])]
    return None


def _remove(data: Plain, at: Path) -> None:
    for key in at[:-1]:
        if not isinstance(data, dict) or key not in data:
            return
        data = data[str(key)]
    if isinstance(data, dict):
        data.pop(str(at[-1]), None)
