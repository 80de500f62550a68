"""Keys of a topology's text set and removed, everything else left as its author wrote it: comments, layout, styles. Pure.

ruamel's round trip would keep comments, but not the columns, line breaks and quotes of a file; so the text is cut where its own
parser says that a value begins and ends. What an edit changed is read again and compared with what it was to change: a file whose
anchors would carry the change elsewhere is refused rather than bent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from vlab.errors import UsageError
from vlab.topology import document
from vlab.topology.document import Plain
from vlab.topology.finding import Path, where


@dataclass(frozen=True, slots=True)
class Change:
    """The key at ``path`` is to have ``value``; None takes it away, and with the last key of a mapping the mapping."""

    path: tuple[str, ...]
    value: Plain


@dataclass(slots=True)
class Piece:
    """A value where it stands: ``start`` and ``end`` count characters. ``entries`` are those of a mapping, ``column`` is where its keys
    begin; ``anchor`` and ``alias`` are names, empty for none."""

    start: int
    end: int
    column: int = 0
    flow: bool = False
    anchor: str = ""
    alias: str = ""
    entries: dict[str, tuple[Piece, Piece]] = field(default_factory=dict)
    items: list[Piece] = field(default_factory=list)

    def last(self) -> int:
        """Where the last thing in it ends; a block's own end is where the next thing begins."""
        if self.flow or not (self.entries or self.items):
            return self.end
        return self.items[-1].last() if self.items else next(reversed(self.entries.values()))[1].last()


@dataclass(frozen=True, slots=True)
class _Cut:
    """``text`` comes in place of what stands from ``start`` to ``end``."""

    start: int
    end: int
    text: str


def edited(text: str, changes: Sequence[Change]) -> str:
    """``text``, a valid topology, with ``changes`` made one after another. Raises ``UsageError`` where the file's anchors tie a key that is to
    change to others."""
    for change in changes:
        text = _one(text, change)
    return text


def _one(text: str, change: Change) -> str:
    before = _values(text)
    wanted = _changed(before, change.path, change.value)
    if before == wanted:
        return text
    made = _spliced(text, _cuts(text, change, wanted))
    if _values(made) != wanted:
        keys = where(change.path)
        raise UsageError(
            f"{keys}: an anchor of the file ties it to other keys, so it cannot be changed alone",
            hint="write the keys out where the file has & and *",
        )
    return made


def _values(text: str) -> Plain:
    """None for a text that is no document: an edit that broke it is then refused like one that changed too much."""
    found = document.read(text)
    return document.plain(found.root) if found.root is not None and not found.problems else None


def _changed(data: Plain, path: Path, value: Plain) -> Plain:
    """``data`` with ``value`` at ``path``; a mapping that loses its last key goes with it."""
    entries = dict(data) if isinstance(data, dict) else {}
    key = str(path[0])
    made = value if len(path) == 1 else _changed(entries.get(key), path[1:], value)
    if made is None or (made == {} and value is None):
        entries.pop(key, None)
    else:
        entries[key] = made
    return entries


def _spliced(text: str, cuts: Sequence[_Cut]) -> str:
    for cut in sorted(cuts, key=lambda each: each.start, reverse=True):
        text = text[: cut.start] + cut.text + text[cut.end :]
    return text


def _cuts(text: str, change: Change, wanted: Plain) -> list[_Cut]:
    """What to cut so that the innermost mapping on the way to the key says what it is to say."""
    root = _tree(text)
    found, depth = _deepest(root, change.path)
    if _at(wanted, change.path[:depth]) is None:  # the mapping loses its last key, and goes
        found, depth = _deepest(root, change.path[:depth])
    key, value = change.path[depth], _at(wanted, change.path[: depth + 1])
    known = found.entries.get(key)
    if known is None:
        return [_added(text, found, f"{_scalar(key)}: {_flow(value)}")]
    freed = list(_freed(root, known[1], _at(_values(text), change.path[: depth + 1])))
    if value is None:
        return [_removed(text, found, key), *freed]
    return [*_replaced(text, *known, _flow(value)), *freed]


def _deepest(root: Piece, path: tuple[str, ...]) -> tuple[Piece, int]:
    """The innermost mapping on ``path`` that has keys of its own, and how many keys lead to it; never the value of the last key."""
    found, depth = root, 0
    aliases = {piece.alias for piece in _all(root)}
    for key in path[:-1]:
        known = found.entries.get(key)
        if known is None or not known[1].entries or known[1].anchor in aliases - {""}:
            break
        found, depth = known[1], depth + 1
    return found, depth


def _at(data: Plain, path: Sequence[str]) -> Plain:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _added(text: str, mapping: Piece, entry: str) -> _Cut:
    """The entry behind the mapping's last one: on its line in braces, on a line of its own without."""
    if mapping.flow:
        last = next(reversed(mapping.entries.values()))[1].last()
        return _Cut(last, last, f", {entry}")
    end = _end_of_line(text, mapping.last())
    return _Cut(end, end, f"\n{' ' * mapping.column}{entry}")


def _replaced(text: str, name: Piece, value: Piece, fresh: str) -> Iterator[_Cut]:
    """The fresh value in the old one's place; that of a block is behind the colon, before the comment there."""
    if value.flow or not (value.entries or value.items):
        yield _Cut(value.start, value.last(), fresh)
        return
    colon = text.index(":", name.end) + 1
    if value.anchor:
        yield _Cut(colon, value.last(), f" {fresh}")
    else:
        yield _Cut(colon, colon, f" {fresh}")
        yield _Cut(_end_of_line(text, colon), _end_of_line(text, value.last()), "")


def _removed(text: str, mapping: Piece, key: str) -> _Cut:
    """The entry with what separates it from its neighbours, its line's comment included."""
    name, value = mapping.entries[key]
    if not mapping.flow:
        begin = text.rfind("\n", 0, name.start) + 1
        return _Cut(begin, min(len(text), _end_of_line(text, value.last()) + 1), "")
    keys = list(mapping.entries)
    place = keys.index(key)
    if place + 1 < len(keys):
        return _Cut(name.start, mapping.entries[keys[place + 1]][0].start, "")
    begin = mapping.entries[keys[place - 1]][1].last() if place else name.start
    return _Cut(begin, value.last(), "")


def _end_of_line(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end


def _freed(root: Piece, going: Piece, value: Plain) -> Iterator[_Cut]:
    """The anchor of a value that goes moves to the first alias of it, which says from then on what the anchor said."""
    if going.anchor:
        users = [piece for piece in _all(root) if piece.alias == going.anchor and piece.start > going.start]
        if users:
            first = min(users, key=lambda piece: piece.start)
            yield _Cut(first.start, first.end, f"&{going.anchor} {_flow(value)}")


def _all(piece: Piece) -> Iterator[Piece]:
    yield piece
    for child in [*(value for _, value in piece.entries.values()), *piece.items]:
        yield from _all(child)


_PLAIN = re.compile(r"[A-Za-z0-9_/.][A-Za-z0-9_/. -]*[A-Za-z0-9_/.]|[A-Za-z0-9_/.]")


def _flow(value: Plain) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_scalar(key)}: {_flow(item)}" for key, item in value.items()) + "}"
        case list():
            return f"[{', '.join(_flow(item) for item in value)}]"
    return _scalar(value)


def _scalar(value: Plain) -> str:
    """As plain as it can be and still be read as what it is."""
    if not isinstance(value, str):
        return json.dumps(value)
    plain = _PLAIN.fullmatch(value) and document.resolve(value) == value
    return value if plain else json.dumps(value, ensure_ascii=False)


def _tree(text: str) -> Piece:
    """The root mapping of a valid topology."""
    events = (event for event in YAML(typ="safe", pure=True).parse(text) if event.start_mark is not None)
    for event in events:
        if isinstance(event, MappingStartEvent):
            return _collected(event, events)
    raise AssertionError("a valid topology is a mapping")


def _piece(event: Event, events: Iterator[Event]) -> Piece:
    """The value that begins with ``event``. Recursion is bounded by the depth a valid document may have."""
    if isinstance(event, MappingStartEvent | SequenceStartEvent):
        return _collected(event, events)
    start, end = event.start_mark.index, event.end_mark.index
    if isinstance(event, AliasEvent):
        return Piece(start, end, alias=str(event.anchor))
    assert isinstance(event, ScalarEvent), "keys and values are scalars, aliases and collections"
    return Piece(start, end, anchor=event.anchor or "")


def _collected(event: MappingStartEvent | SequenceStartEvent, events: Iterator[Event]) -> Piece:
    is_mapping = isinstance(event, MappingStartEvent)
    made = Piece(event.start_mark.index, 0, flow=bool(event.flow_style), anchor=event.anchor or "")
    for inner in events:
        if isinstance(inner, CollectionEndEvent):
            made.end = inner.end_mark.index
            break
        if isinstance(inner, ScalarEvent) and is_mapping:
            made.column = made.column if made.entries else inner.start_mark.column
            made.entries[inner.value] = (_piece(inner, events), _piece(next(events), events))
        else:
            made.items.append(_piece(inner, events))
    return made
