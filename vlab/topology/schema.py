"""The JSON Schema of the language, for editors and other tools. Pure.

It is pydantic's, put into the words of the file: defaults with their units, examples as values, no nulls. The cross rules
(``rules``) cannot be said in JSON Schema.
"""

from __future__ import annotations

from typing import Any

from vlab.topology import document
from vlab.topology.model import Topology
from vlab.topology.units import show_duration, show_size

Schema = dict[str, Any]


def schema() -> Schema:
    """JSON Schema, draft 2020-12, of a topology file."""
    found = _clean(Topology.model_json_schema())
    found |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "vlab topology, version 1"}
    return found


def _clean(part: Schema) -> Schema:
    """One schema object and all below it."""
    kept = {key: _below(key, value) for key, value in part.items() if key != "title"}
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    if "description" in kept:
        kept["description"] = kept["description"].replace("``", "'")
    if "examples" in kept:
        kept["examples"] = [_value(example) for example in kept["examples"]]
    return _spelled_default(_without_null(kept))


def _below(key: str, value: Any) -> Any:
    if key in ("properties", "$defs", "patternProperties"):
        return {name: _clean(child) for name, child in value.items()}
    if key in ("additionalProperties", "items", "propertyNames") and isinstance(value, dict):
        return _clean(value)
    if key == "anyOf":
        return [_clean(child) for child in value]
    return value


def _value(example: str) -> document.Plain:
    root = document.read(example).root
    return document.plain(root) if root else example


def _without_null(part: Schema) -> Schema:
    """``X | None`` in the model is «X, or leave the key out» in the file."""
    if {"type": "null"} not in part.get("anyOf", ()):
        return part
    rest = [choice for choice in part["anyOf"] if choice != {"type": "null"}]
    kept = {key: value for key, value in part.items() if key != "anyOf" and (key, value) != ("default", None)}
    return {**(rest[0] if len(rest) == 1 else {"anyOf": rest}), **kept}


def _spelled_default(part: Schema) -> Schema:
    """Bytes and seconds as the file writes them; empty mappings and models need no default."""
    default = part.get("default")
    if isinstance(default, dict) or default == "":
        return {key: value for key, value in part.items() if key != "default"}
    if part.get("type") == "string" and isinstance(default, int | float):
        return part | {"default": show_size(default) if isinstance(default, int) else show_duration(default)}
    return part
