"""The YAML scanner's complaints, in words for someone who writes a topology. Pure.

ruamel.yaml speaks of tokens and block ends; each pattern here answers one of its sentences with what to do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vlab.errors import Problem

if TYPE_CHECKING:
    from ruamel.yaml.error import MarkedYAMLError

_SAYINGS: tuple[tuple[str, str, str], ...] = (
    (r"found character '\\t'", "a tab; YAML is indented with spaces only", "replace the tab by spaces"),
    (r"found character '([^']+)' that cannot start", "a value cannot start with {0}", "put it in quotes"),
    (r"mapping values are not allowed", "a ':' is not allowed here", "check the indentation, or quote the value"),
    (r"could not find expected ':'", "a key without its ':'", "write key: value"),
    (r"expected <block end>", "this line does not fit what stands above it", "check the indentation, brackets and quotes"),
    (r"expected ',' or '\}'", "'{{' is not closed, or a ',' is missing", "write {{key: value, key: value}}"),
    (r"expected ',' or '\]'", "'[' is not closed, or a ',' is missing", "write [one, two]"),
    (r"expected the node content, but found '<stream end>'", "the file ends inside a '[' or '{{'", "close it"),
    (r"expected the node content", "a value is missing here", ""),
    (r"unexpected end of stream", "text in quotes is not closed", "add the closing quote"),
    (r"unexpected document separator", "text in quotes is not closed", "add the closing quote"),
    (r"unknown escape character", "an unknown escape in double quotes", "use single quotes, or write \\\\ for a backslash"),
    (r"undefined tag handle", "tags (!…) are not part of the language", "remove it; write plain values"),
    (r"tag", "tags (!…) are not part of the language", "remove it; write plain values"),
    (r"version of YAML|YAML directive|incompatible YAML", "a %YAML line this version cannot read", "remove it"),
    (r"expected '<document start>'", "text follows the end of the document", "put each topology in its own file"),
)


def human(error: MarkedYAMLError) -> Problem:
    """The problem ``error`` means, at the place the user should look."""
    mark = error.problem_mark or error.context_mark
    said = str(error.problem or error.context or "unreadable")
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    for pattern, message, hint in _SAYINGS:
        if match := re.search(pattern, said):
            return Problem(line, column, message.format(*match.groups()), hint.format())
    return Problem(line, column, f"this is not YAML: {said}")
