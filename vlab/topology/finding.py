"""What a check of the topology says, before it has a line number; and words that every check uses. Pure.

A ``Path`` is the YAML keys from the top («groups», «web», «count»); list positions are ints. ``parse`` turns a path into
``line:column``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

Path = tuple[str | int, ...]

ENTRIES = {"networks": "network", "groups": "group", "directors": "director", "services": "service", "nodes": "node"}
"""The keys whose children are named by the user, and the word for one child."""

SHOWN = 60
MOST_COMPARED = 500
"""Names that a wrong one is compared with; comparing takes microseconds each, and a bad file has many of both."""


class Finding(NamedTuple):
    """One thing wrong (or, from ``warnings``, doubtful) at ``path``."""

    path: Path
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{sentence(self)} (hint: {self.hint})" if self.hint else sentence(self)


def entry(path: Path) -> Path:
    """The part of ``path`` up to the innermost thing the user named: («groups», «web»). Empty where there is none."""
    for end in range(len(path) - 1, 0, -1):
        if end % 2 and path[end - 1] in ENTRIES and isinstance(path[end], str):
            return path[: end + 1]
    return ()


def where(path: Path) -> str:
    """«group 'web', count» for («groups», «web», «count»)."""
    named = entry(path)
    keys = ".".join(str(key) for key in path[len(named) :] if isinstance(key, str))
    if not named:
        return keys
    subject = f"{ENTRIES[str(named[-2])]} {show(named[-1])}"
    return f"{subject}, {keys}" if keys else subject


def sentence(finding: Finding) -> str:
    """The finding's message with its subject in front."""
    subject = where(finding.path)
    return f"{subject}: {finding.message}" if subject else finding.message


def show(value: object) -> str:
    """A value as the user would recognise it in the file, cut at 60 characters."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case float() if not math.isfinite(value):
            return f".{str(abs(value))[:3]}" if not value < 0 else "-.inf"
        case dict():
            return "keys and values"
        case list():
            return "a list"
        case str():
            return f"'{_cut(value)}'"
    return _cut(str(value))


def _cut(text: str) -> str:
    printable = "".join(c if c.isprintable() else "�" for c in text[: SHOWN + 1])
    return printable if len(text) <= SHOWN else printable[:SHOWN] + "…"


def meant(name: str, known: Iterable[str], synonyms: dict[str, str] | None = None) -> str:
    """The hint for an unknown ``name``: the nearest known one, or all of them where they are few."""
    names = list(islice(known, MOST_COMPARED))
    if synonyms and name.lower() in synonyms:
        return f"did you mean {show(synonyms[name.lower()])}?"
    near = difflib.get_close_matches(name[:SHOWN].lower(), names, n=1)
    if near:
        return f"did you mean {show(near[0])}?"
    return f"known: {', '.join(names)}" if 0 < len(names) <= 16 else ""
