"""pydantic's errors in the words of the language. Pure.

Values refused by ``values`` bring their own words; what is left are the few errors pydantic raises itself: shapes, missing and
unknown keys.
"""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from vlab.topology.finding import Finding, Path, meant, show
from vlab.topology.model import Topology

KEY = "[key]"
"""pydantic's mark for «the key itself» at the end of a location."""


def path(error: ErrorDetails) -> Path:
    """The YAML keys of an error's location."""
    return tuple(part for part in error["loc"] if part != KEY)


def finding(error: ErrorDetails) -> Finding:
    """What ``error`` says to the author of the file. A missing key is reported at its parent."""
    at, context = path(error), error.get("ctx", {})
    match error["type"]:
        case "vlab":
            return Finding(at, context["message"], context["hint"])
        case "missing":
            return Finding(at[:-1], f"key {show(at[-1])} is missing", _example(at))
        case "extra_forbidden":
            return Finding(at, "unknown key", _known_keys(at))
        case "dict_type" | "model_type" | "model_attributes_type":
            return Finding(at, f"must be keys and values, not {show(error['input'])}", _example(at))
        case "too_short":
            return Finding(at, "is empty; at least one is needed", _example(at))
    return Finding(at, f"{error['msg'][:1].lower()}{error['msg'][1:]}", "")


def _example(at: Path) -> str:
    info = _field(at)
    return f"write {at[-1]}: {info.examples[0]}" if info and info.examples else ""


def _known_keys(at: Path) -> str:
    model = model_at(at[:-1])
    return meant(str(at[-1]), model.model_fields) if model else ""


def _field(at: Path) -> FieldInfo | None:
    model = model_at(at[:-1]) if at else None
    return model.model_fields.get(str(at[-1])) if model else None


def model_at(at: Path) -> type[BaseModel] | None:
    """The model that describes the mapping at ``at``, None where it is a mapping of the user's own names."""
    here: Any = Topology
    for key in at:
        if isinstance(here, type) and issubclass(here, BaseModel):
            info = here.model_fields.get(str(key))
            here = _mapping(info.annotation) if info else None
        elif get_origin(here) is dict:
            here = get_args(here)[1]
        else:
            return None
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _mapping(hint: Any) -> Any:
    """«X» of «X or nothing», however it is annotated."""
    if get_origin(hint) is Annotated:
        return _mapping(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return _mapping(next(arg for arg in get_args(hint) if arg is not type(None)))
    return hint
