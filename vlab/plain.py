"""Frozen dataclasses ↔ plain data (dictionaries, lists, strings, numbers) and XML, by their type hints. Pure.

Marks in domain metadata and the settings kept inside guests are written and read with it, so a new field of a shared data
type needs no codec of its own. Knows dataclasses, tuples of one type, ``X | None``, str, int, float, bool, and address types of
one family or either.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from lxml import etree

T = TypeVar("T")

_FROM_TEXT = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
_EITHER: dict[frozenset[Any], Any] = {
    frozenset({IPv4Address, IPv6Address}): ip_address,
    frozenset({IPv4Interface, IPv6Interface}): ip_interface,
    frozenset({IPv4Network, IPv6Network}): ip_network,
}
"""What reads a field that may be of either family."""

_MADE_BY_CALL = (str, int, float, *_FROM_TEXT, *_EITHER.values())


def to_plain(value: object) -> Any:
    """``value`` as JSON can hold it; addresses become text."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, _FROM_TEXT) else value


def from_plain(kind: type[T], data: Any) -> T:
    """The ``kind`` that ``to_plain`` made ``data`` of; unknown keys are left out, missing ones take the field's default.

    Raises ``ValueError``, ``TypeError`` or ``KeyError`` for data of another shape."""
    made = {name: _restore(hint, data[name]) for name, hint in hints(kind) if name in data}
    return kind(**made)


def _restore(hint: Any, data: Any) -> Any:
    hint = _without_none(hint)
    if data is None:
        return None
    if get_origin(hint) is tuple:
        return tuple(_restore(get_args(hint)[0], item) for item in data)
    return from_plain(hint, data) if _is_record(hint) else scalar(hint, data)


def to_element(value: object, name: str, namespace: str, prefix: str) -> etree._Element:
    """A dataclass as an element: scalars are attributes, None is left out, dataclasses and tuples are children named after
    the field without its plural s."""
    from lxml import etree

    def build(item: object, tag: str) -> etree._Element:
        made = etree.Element(f"{{{namespace}}}{tag}", nsmap={prefix: namespace})
        if not is_dataclass(item):
            made.text = str(item)
            return made
        for field in fields(item):
            _place(made, field.name, getattr(item, field.name), build)
        return made

    return build(value, name)


def _place(parent: etree._Element, name: str, value: object, build: Any) -> None:
    if isinstance(value, tuple):
        parent.extend(build(item, _singular(name)) for item in value)
    elif is_dataclass(value):
        parent.append(build(value, name))
    elif value is not None:
        parent.set(name, str(value))


def from_element(kind: type[T], element: etree._Element) -> T:
    """Reads what ``to_element`` made, in whatever namespace: libvirt hands metadata out without it. Raises as ``from_plain`` does."""
    made: dict[str, Any] = {}
    for part in _parts(kind):
        if part.many:
            made[part.name] = tuple(_item(part, child) for child in element.findall(part.children))
        elif part.record and (child := element.find(part.children)) is not None:
            made[part.name] = _item(part, child)
        elif not part.record and (text := element.get(part.name)) is not None:
            made[part.name] = scalar(part.hint, text)
        elif part.optional:
            made[part.name] = None
    return kind(**made)


@dataclass(frozen=True, slots=True)
class _Part:
    """A field as ``from_element`` reads it: its type is taken apart once, and read for each of thousands of marks. ``hint`` is that of one
    item where it has ``many``; ``children`` is the path to the elements of a record or of items."""

    name: str
    hint: Any
    children: str
    many: bool
    record: bool
    optional: bool


@lru_cache
def _kept_parts(kind: type) -> tuple[_Part, ...]:
    return tuple(_part(name, hint) for name, hint in _hints(kind))


def _parts(kind: type) -> tuple[_Part, ...]:
    """Each field of ``kind``."""
    return _kept_parts(kind)


def _part(name: str, hint: Any) -> _Part:
    own = _without_none(hint)
    many = get_origin(own) is tuple
    own = get_args(own)[0] if many else own
    children = f"{{*}}{_singular(name) if many else name}"
    return _Part(name, own, children, many, _is_record(own), type(None) in get_args(hint))


def _item(part: _Part, element: etree._Element) -> Any:
    return from_element(part.hint, element) if part.record else scalar(part.hint, element.text or "")


def scalar(hint: Any, data: Any) -> Any:
    """``data`` (text, or the value itself) as the scalar type ``hint``."""
    if hint is bool:
        return data in (True, "True")
    return hint(data) if hint in _MADE_BY_CALL else data


@lru_cache
def _hints(kind: type) -> tuple[tuple[str, Any], ...]:
    known = get_type_hints(kind)
    return tuple((field.name, known[field.name]) for field in fields(kind))


def hints(kind: type) -> Iterator[tuple[str, Any]]:
    """Each field's name and resolved type."""
    return iter(_hints(kind))


def _is_record(hint: Any) -> bool:
    return is_dataclass(hint)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    kinds = [arg for arg in get_args(hint) if arg is not type(None)]
    return _EITHER.get(frozenset(kinds), kinds[0])


def _singular(name: str) -> str:
    return name.removesuffix("s")
