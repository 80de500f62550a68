"""Frozen dataclasses ↔ plain data (dictionaries, lists, strings, numbers) and XML, by their type hints. Pure.

Marks in domain metadata and the settings kept inside guests are written and read with it, so a new field of a shared data
type needs no codec of its own. Knows dataclasses, tuples of one type, ``X | None``, str, int, float, bool and IPv4 types.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from lxml import etree

T = TypeVar("T")

_FROM_TEXT = (IPv4Address, IPv4Interface, IPv4Network)


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
    for name, hint in hints(kind):
        hint = _without_none(hint)
        if get_origin(hint) is tuple:
            children = element.findall(f"{{*}}{_singular(name)}")
            made[name] = tuple(_item(get_args(hint)[0], child) for child in children)
        elif _is_record(hint):
            child = element.find(f"{{*}}{name}")
            made |= {} if child is None else {name: _item(hint, child)}
        elif (text := element.get(name)) is not None:
            made[name] = scalar(hint, text)
    optional = {name: None for name, hint in hints(kind) if type(None) in get_args(hint)}
    return kind(**{**optional, **made})


def _item(hint: Any, element: etree._Element) -> Any:
    return from_element(hint, element) if _is_record(hint) else scalar(hint, element.text or "")


def scalar(hint: Any, data: Any) -> Any:
    """``data`` (text, or the value itself) as the scalar type ``hint``."""
    if hint is bool:
        return data in (True, "True")
    return hint(data) if hint in (str, int, float, *_FROM_TEXT) else data


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
    if get_origin(hint) in (Union, types.UnionType):
        return next(arg for arg in get_args(hint) if arg is not type(None))
    return hint


def _singular(name: str) -> str:
    return name.removesuffix("s")
