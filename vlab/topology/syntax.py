"""The YAML scanner's complaints, in words for someone who writes a topology. Pure.

ruamel.yaml speaks of tokens and block ends; each ``_Saying`` answers one of its sentences with what to do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from vlab.errors import Problem

if TYPE_CHECKING:
    from ruamel.yaml.error import MarkedYAMLError


class _Saying(NamedTuple):
    """``{0}`` in the message is the pattern's group. ``at_start``: point to where the broken thing began, not to where the
    scanner gave up."""

    pattern: str
    message: str
    hint: str = ""
    at_start: bool = False


_QUOTE = "text in quotes is not closed"
_TAG = "tags (!…) are not part of the language"

_SAYINGS = (
    _Saying(r"found character '\\t'", "a tab; YAML is indented with spaces only", "replace the tab by spaces"),
    _Saying(r"found character '([^']+)' that cannot start", "a value cannot start with {0}", "put it in quotes"),
    _Saying(
        r"mapping values are not allowed", "a ':' is not allowed here", "check the indentation, or quote the value"
    ),
    _Saying(r"could not find expected ':'", "a key without its ':'", "write key: value", at_start=True),
    _Saying(
        r"expected <block end>", "this line does not fit what stands above it", "check indentation, brackets and quotes"
    ),
    _Saying(
        r"expected ',' or '\}'",
        "this '{{' is not closed, or a ',' is missing",
        "write {{key: value, key: value}}",
        at_start=True,
    ),
    _Saying(r"expected ',' or '\]'", "this '[' is not closed, or a ',' is missing", "write [one, two]", at_start=True),
    _Saying(r"node content, but found '<stream end>'", "the file ends inside brackets", "close them"),
    _Saying(r"expected the node content", "a value is missing here"),
    _Saying(r"unexpected end of stream", _QUOTE, "add the closing quote", at_start=True),
    _Saying(r"unexpected document separator", _QUOTE, "add the closing quote", at_start=True),
    _Saying(
        r"unknown escape character", "an unknown escape in double quotes", "use single quotes, or \\\\ for a backslash"
    ),
    _Saying(r"version of YAML|YAML directive|incompatible YAML", "a %YAML line this version cannot read", "remove it"),
    _Saying(r"\btag\b|\bURI\b", _TAG, "remove it; write plain values"),
    _Saying(
        r"expected '<document start>'", "text follows the end of the document", "put each topology in its own file"
    ),
)


def human(error: MarkedYAMLError) -> Problem:
    """The problem ``error`` means, at the place the user should look."""
    said = str(error.problem or error.context or "unreadable")
    for saying in _SAYINGS:
        if match := re.search(saying.pattern, said):
            line, column = _place(error, at_start=saying.at_start)
            return Problem(line, column, saying.message.format(*match.groups()), saying.hint.format())
    return Problem(*_place(error, at_start=False), f"this is not YAML: {said}")


def _place(error: MarkedYAMLError, *, at_start: bool) -> tuple[int, int]:
    marks = [error.context_mark, error.problem_mark] if at_start else [error.problem_mark, error.context_mark]
    mark = next((mark for mark in marks if mark), None)
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)
