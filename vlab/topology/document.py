"""YAML text → plain values that remember where they stood. Pure; every input ends in a value or in problems, fast.

Reads ruamel.yaml's events and builds the tree itself, so that size, depth, aliases, tags and duplicate keys are decided here and
nothing is ever constructed from a tag. Scalars follow YAML 1.2: ``yes`` is text, ``010`` is ten.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from vlab.errors import Problem
from vlab.topology.finding import Path, show
from vlab.topology.syntax import human

LARGEST = 256 * 1024
"""Bytes of a file. The pure Python scanner reads 80-160 kB/s; a thousand groups written out one a line take 90 kB."""

MOST_VALUES = 12_000
"""Keys count too. A thousand groups written out have 15,000; these many take about half a second to read."""

DEEPEST = 20

Plain = dict[str, "Plain"] | list["Plain"] | str | int | float | bool | None


class Position(NamedTuple):
    """Both count from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Node:
    """One value. ``size`` and ``depth`` count what aliases stand for, so a bomb is seen before anything is expanded."""

    position: Position
    value: str | int | float | bool | list[Node] | dict[str, Node] | None
    keys: dict[str, Position] = field(default_factory=dict)
    size: int = 1
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Document:
    """``root`` is None when there is nothing to check. ``problems`` are those of the YAML itself."""

    root: Node | None
    problems: tuple[Problem, ...]

    def position(self, path: Path) -> Position:
        """Where ``path``, or as much of it as the file has, stands: a scalar or list itself, a mapping by its key."""
        if self.root is None:
            return Position(1, 1)
        node, found = self.root, self.root.position
        for key in path:
            child = _child(node, key)
            if child is None:
                break
            found = node.keys[str(key)] if isinstance(child.value, dict) and key in node.keys else child.position
            node = child
        return found

    def key(self, path: Path) -> Position:
        """Where the last key of ``path`` itself stands."""
        node = self.root
        for key in path[:-1]:
            node = _child(node, key) if node else None
        found = node.keys.get(str(path[-1])) if node else None
        return found or self.position(path)


def read(text: str) -> Document:
    """The document in ``text``; never raises."""
    builder = _Builder()
    try:
        for event in _events(text):
            builder.take(event)
    except _Stop as stop:
        return Document(None, (*builder.problems, stop.problem))
    return Document(builder.root, tuple(builder.problems))


def plain(node: Node) -> Plain:
    """The values alone. Recursion is bounded by ``DEEPEST``, work by ``MOST_VALUES``."""
    match node.value:
        case dict() as entries:
            return {key: plain(child) for key, child in entries.items()}
        case list() as items:
            return [plain(child) for child in items]
        case scalar:
            return scalar


def empties(node: Node, path: Path = ()) -> Iterator[Path]:
    """The paths at which nothing is written."""
    match node.value:
        case None:
            yield path
        case dict() as entries:
            for key, child in entries.items():
                yield from empties(child, (*path, key))
        case list() as items:
            for index, child in enumerate(items):
                yield from empties(child, (*path, index))


_Tagged = ScalarEvent | MappingStartEvent | SequenceStartEvent


class _Stop(Exception):
    """Nothing after this can be read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _events(text: str) -> Iterator[Event]:
    """ruamel's events; its errors as ``_Stop``. It leaks ValueError and OverflowError on odd escapes (\\UFFFFFFFF)."""
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        raise _Stop(human(error)) from error
    except (YAMLError, ValueError, OverflowError, IndexError, AttributeError, TypeError, AssertionError) as error:
        raise _Stop(
            Problem(1, 1, f"this is not YAML: {str(error).splitlines()[0] if str(error) else 'unreadable'}")
        ) from error


@dataclass(slots=True)
class _Frame:
    node: Node
    anchor: str | None
    key: tuple[str, Position] | None = None


@dataclass(slots=True)
class _Builder:
    """A tree from events, with its own stack: the depth of a file must not be the depth of Python's."""

    root: Node | None = None
    problems: list[Problem] = field(default_factory=list)
    stack: list[_Frame] = field(default_factory=list)
    anchors: dict[str, Node | None] = field(default_factory=dict)
    documents: int = 0
    values: int = 0

    def take(self, event: Event) -> None:
        match event:
            case DocumentStartEvent():
                self._count_document(event)
            case AliasEvent():
                self._alias(event)
            case ScalarEvent():
                self._scalar(event)
            case MappingStartEvent() | SequenceStartEvent():
                self._open(event)
            case CollectionEndEvent():
                self._close()

    def _count_document(self, event: Event) -> None:
        self.documents += 1
        if self.documents > 1:
            hint = "put each topology in its own file"
            raise _Stop(_problem(_at(event), "a second YAML document starts here", hint))

    def _alias(self, event: AliasEvent) -> None:
        position = _at(event)
        target = self.anchors.get(event.anchor)
        if event.anchor not in self.anchors:
            raise _Stop(_problem(position, f"alias *{event.anchor} has no anchor &{event.anchor} before it"))
        if target is None:
            raise _Stop(_problem(position, f"alias *{event.anchor} stands inside its own anchor"))
        self._add(target, position)

    def _scalar(self, event: ScalarEvent) -> None:
        frame = self.stack[-1] if self.stack else None
        if frame and isinstance(frame.node.value, dict) and frame.key is None:
            self._check_tag(event)
            frame.key = (event.value, _at(event))
            self.values += 1
            return
        self._check_tag(event)
        value = event.value if event.style else resolve(event.value)
        node = Node(_at(event), value)
        if event.anchor:
            self.anchors[event.anchor] = node
        self._add(node, node.position)

    def _open(self, event: MappingStartEvent | SequenceStartEvent) -> None:
        position = _at(event)
        self._check_tag(event)
        frame = self.stack[-1] if self.stack else None
        if frame and isinstance(frame.node.value, dict) and frame.key is None:
            raise _Stop(
                _problem(position, "a key must be a word, not a list or mapping", "quote text that starts with { or [")
            )
        if len(self.stack) >= DEEPEST:
            raise _Stop(_problem(position, f"values are nested more than {DEEPEST} deep"))
        if event.anchor:
            self.anchors[event.anchor] = None
        self.stack.append(_Frame(Node(position, {} if isinstance(event, MappingStartEvent) else []), event.anchor))

    def _close(self) -> None:
        frame = self.stack.pop()
        if frame.anchor:
            self.anchors[frame.anchor] = frame.node
        self._add(frame.node, frame.node.position)

    def _add(self, node: Node, position: Position) -> None:
        """Put a finished node where it belongs, and refuse what grew too big."""
        self.values += 1
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        parent = frame.node
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif isinstance(parent.value, dict) and frame.key is not None:
            self._put(parent, parent.value, frame.key, node)
            frame.key = None
        elif isinstance(parent.value, dict):
            raise _Stop(_problem(position, "a key must be a word, not an alias"))
        parent.size += node.size
        parent.depth = max(parent.depth, node.depth + 1)
        if parent.size > MOST_VALUES or self.values > MOST_VALUES:
            raise _Stop(
                _problem(position, f"the file holds more than {MOST_VALUES} values", "use count: for like guests")
            )
        if parent.depth + len(self.stack) > DEEPEST + 1:
            raise _Stop(_problem(position, f"values are nested more than {DEEPEST} deep"))

    def _put(self, parent: Node, entries: dict[str, Node], key: tuple[str, Position], node: Node) -> None:
        name, position = key
        if name == "<<":
            self.problems.append(
                _problem(position, "merge keys (<<) are not part of the language", "write the keys out")
            )
        elif name in entries:
            first = parent.keys[name]
            message = f"key {show(name)} is written twice; the first is at {first.line}:{first.column}"
            self.problems.append(_problem(position, message, "keep one of them"))
        else:
            entries[name] = node
            parent.keys[name] = position

    def _check_tag(self, event: _Tagged) -> None:
        if event.tag:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            message = f"tag {show(tag)} is not part of the language"
            self.problems.append(_problem(_at(event), message, "remove it; write plain values"))


def _child(node: Node, key: str | int) -> Node | None:
    value = node.value
    if isinstance(value, dict) and isinstance(key, str):
        return value.get(key)
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return value[key]
    return None


def _at(event: Event) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


def _problem(position: Position, message: str, hint: str = "") -> Problem:
    return Problem(position.line, position.column, message, hint)


_INTEGER = re.compile(r"[-+]?[0-9]{1,18}|0x[0-9a-fA-F]{1,15}|0o[0-7]{1,20}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,3})?", re.ASCII)
_FORMS: tuple[tuple[bool | float | None, tuple[str, ...]], ...] = (
    (None, ("", "~", "null", "Null", "NULL")),
    (True, ("true", "True", "TRUE")),
    (False, ("false", "False", "FALSE")),
    (float("inf"), (".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF")),
    (float("-inf"), ("-.inf", "-.Inf", "-.INF")),
    (float("nan"), (".nan", ".NaN", ".NAN")),
)
_WORDS = {word: value for value, words in _FORMS for word in words}


def resolve(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar by the YAML 1.2 core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        base = {"0x": 16, "0o": 8}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
