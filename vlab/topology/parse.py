"""A topology file → a valid ``Topology``, or every problem of the file at once, each with its line and column.

``read`` is the only function here that touches anything but its arguments.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import BinaryIO

from pydantic import ValidationError

from vlab.errors import Problem, TopologyError, UsageError
from vlab.topology import document, messages, rules
from vlab.topology.document import LARGEST, Document, Node
from vlab.topology.finding import Finding, sentence, show
from vlab.topology.model import Topology
from vlab.topology.salvage import salvage

MOST_PROBLEMS = 100
_UNREADABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Source:
    """A topology's text and the name that messages call it by."""

    file: str
    text: str


def read(path: str | FilePath) -> Source:
    """The file's text; «-» is standard input. Raises ``UsageError`` when it cannot be opened, ``TopologyError`` when it is no
    text or too big."""
    if str(path) == "-":
        return decode("<stdin>", _bounded(sys.stdin.buffer))
    try:
        with FilePath(path).open("rb") as stream:
            return decode(str(path), _bounded(stream))
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no file {path}", hint="name a topology file, like topologies/quickstart.yaml"
        ) from error
    except OSError as error:
        hint = "name a topology file in it" if FilePath(path).is_dir() else ""
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=hint) from error


def _bounded(stream: BinaryIO) -> bytes:
    return stream.read(LARGEST + 1)


def decode(file: str, content: bytes) -> Source:
    """``content`` as text. Raises ``TopologyError``."""
    if len(content) > LARGEST:
        hint = "use count: for like guests"
        raise TopologyError(file, [Problem(1, 1, f"the file is larger than {LARGEST // 1024} KiB", hint)])
    try:
        return Source(file, content.removeprefix(codecs.BOM_UTF8).decode())
    except UnicodeDecodeError as error:
        line, column = _place(content[: error.start].decode(errors="replace"))
        message = f"this is not UTF-8 text: byte 0x{content[error.start]:02x}"
        raise TopologyError(file, [Problem(line, column, message, "save the file as UTF-8")]) from error


def _place(before: str) -> tuple[int, int]:
    """Line and column, from 1, of the character that follows ``before``."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def load(path: str | FilePath, images: Collection[str] | None = None) -> Topology:
    """``parse`` of ``read``."""
    return parse(read(path), images)


def parse(source: Source, images: Collection[str] | None = None) -> Topology:
    """The topology in ``source``. ``images`` are the names of the known recipes; None believes any name. Raises
    ``TopologyError`` with all problems: YAML, types, and the cross rules on all that is well typed."""
    found = _document(source)
    problems = list(found.problems)
    if found.root is None:
        raise TopologyError(source.file, problems or [_positioned(found, _not_a_mapping(None))])
    topology, findings = _validate(found.root, images)
    problems += [_positioned(found, finding) for finding in findings]
    if problems or topology is None:
        raise TopologyError(source.file, _first(problems))
    return topology


def warnings(source: Source, topology: Topology) -> list[Problem]:
    """What is doubtful in a valid topology, where it stands in the file it came from."""
    found = _document(source)
    return sorted(_positioned(found, finding) for finding in rules.warnings(topology))


def _document(source: Source) -> Document:
    if len(source.text) > LARGEST:
        return Document(
            None, (Problem(1, 1, f"the file is larger than {LARGEST // 1024} KiB", "use count: for like guests"),)
        )
    if control := _UNREADABLE.search(source.text):
        line, column = _place(source.text[: control.start()])
        message = f"character U+{ord(control.group()):04X} cannot stand in a topology"
        return Document(None, (Problem(line, column, message, "remove it"),))
    return document.read(source.text)


def _validate(root: Node, images: Collection[str] | None) -> tuple[Topology | None, list[Finding]]:
    """The topology when its types are right, and everything that is wrong."""
    data = document.plain(root)
    if not isinstance(data, dict):
        return None, [_not_a_mapping(data)]
    empty = set(document.empties(root))
    findings = [Finding(path, "has no value", "write one, or remove it") for path in empty]
    try:
        topology = Topology.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        findings += [messages.finding(one) for one in errors[: rules.MOST_FINDINGS] if messages.path(one) not in empty]
        if rest := salvage(data, errors):
            findings += rules.problems(rest[0], images, rest[1])
        return None, findings
    return topology, findings + rules.problems(topology, images)


def _not_a_mapping(data: document.Plain) -> Finding:
    hint = "start with vlab: 1, or copy topologies/quickstart.yaml"
    if data is None:
        return Finding((), "the file holds no topology", hint)
    return Finding((), f"a topology is keys and values, not {show(data)}", hint)


def _positioned(found: Document, finding: Finding) -> Problem:
    """The finding at its place: an unknown key and a named thing at the key, a value at the value."""
    line, column = found.position(finding.path)
    return Problem(line, column, sentence(finding), finding.hint)


def _first(problems: list[Problem]) -> list[Problem]:
    """The problems in file order, cut where nobody reads on."""
    ordered = sorted(set(problems))
    if len(ordered) <= MOST_PROBLEMS:
        return ordered
    last = ordered[MOST_PROBLEMS]
    more = Problem(last.line, last.column, "and more problems from here on", "mend these first")
    return [*ordered[:MOST_PROBLEMS], more]
