"""The types of the language's values, each with the words it refuses by. Pure.

Every refusal is a ``PydanticCustomError`` of type «vlab» that carries ``message`` and ``hint``; ``messages`` reads it back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Network, NetmaskValueError
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from vlab.topology import units
from vlab.topology.finding import meant, show
from vlab.topology.mode_rules import MODE_SYNONYMS, modes
from vlab.topology.vocabulary import PROTOCOLS, SCHEDULER_SYNONYMS, SCHEDULERS, VIRT_KINDS, VIRT_SYNONYMS

NAME_PATTERN = r"[a-z]([a-z0-9-]*[a-z0-9])?"


def refusal(message: str, hint: str = "") -> PydanticCustomError:
    """The error that reaches the user as ``message (hint: hint)``."""
    return PydanticCustomError("vlab", "refused", {"message": message, "hint": hint})


class OneOr:
    """For the schema: the value may also be ``short``, a JSON schema of its own."""

    def __init__(self, short: JsonSchemaValue) -> None:
        self.short = short

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [self.short, handler(core)]}


def name_problem(text: str, longest: int) -> tuple[str, str] | None:
    """Message and hint when ``text`` cannot be a name, None when it can."""
    if len(text) > longest:
        return f"is {len(text)} characters long; at most {longest} fit", ""
    if re.fullmatch(NAME_PATTERN, text, re.ASCII):
        return None
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower(), flags=re.ASCII).strip("-0123456789")
    message = "must start with a letter, hold only a-z, 0-9 and '-', and not end in '-'"
    return message, f"write {slug}" if slug else ""


def _named(longest: int) -> Any:
    def check(text: str) -> str:
        if problem := name_problem(text, longest):
            raise refusal(f"name {show(text)} {problem[0]}", problem[1])
        return text

    return Annotated[str, AfterValidator(check), Field(json_schema_extra={"pattern": f"^{NAME_PATTERN}$", "maxLength": longest})]


LAB_NAME, NAME = 32, 20
"""The longest names, in characters. A node is a name and at most five digits, well below the 32 it may have."""


def _name(longest: int) -> AfterValidator:
    def check(text: str) -> str:
        if problem := name_problem(text, longest):
            raise refusal(f"name {show(text)} {problem[0]}", problem[1])
        return text

    return AfterValidator(check)


def _pattern(longest: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{NAME_PATTERN}$", "maxLength": longest})


LabName = Annotated[str, _name(LAB_NAME), _pattern(LAB_NAME)]
Name = Annotated[str, _name(NAME), _pattern(NAME)]


def _names(value: object) -> object:
    match value:
        case list() if not value:
            raise refusal("is an empty list", "name at least one")
        case list() | tuple():
            return tuple(value)
        case str():
            raise refusal(f"must be a list, not {show(value)}", f"write [{value}]")
    raise refusal(f"must be a list of names, not {show(value)}")


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else _names(value)


NAMES_SCHEMA: JsonSchemaValue = {"type": "array", "items": {"type": "string"}, "minItems": 1}
Names = Annotated[tuple[str, ...], BeforeValidator(_names), WithJsonSchema(NAMES_SCHEMA)]
NameOrNames = Annotated[
    tuple[str, ...], BeforeValidator(_one_or_more), WithJsonSchema({"anyOf": [{"type": "string"}, NAMES_SCHEMA]})
]


def _text(value: object, example: str) -> str:
    if not isinstance(value, str):
        raise refusal(f"must be text like {example}, not {show(value)}")
    return value.strip()


def address(value: object) -> IPv4Address:
    """An IPv4 address from text; refuses all else in the user's words."""
    if isinstance(value, IPv4Address):
        return value
    text = _text(value, "10.20.0.100")
    if re.fullmatch(r"[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", text):
        raise refusal(f"{show(text)} is IPv6, which vlab does not do yet", "use an IPv4 address")
    try:
        return IPv4Address(text)
    except AddressValueError as error:
        hint = f"leave out /{text.partition('/')[2]}" if "/" in text else "like 10.20.0.100"
        raise refusal(f"{show(text)} is not an IPv4 address", hint) from error


def subnet(value: object) -> IPv4Network:
    """A private enough IPv4 subnet, /8 to /30, without host bits."""
    if isinstance(value, IPv4Network):
        return value
    text = _text(value, "10.20.0.0/24")
    if ":" in text:
        raise refusal(f"{show(text)} is IPv6, which vlab does not do yet", "use an IPv4 subnet like 10.20.0.0/24")
    network = _network(text)
    if not 8 <= network.prefixlen <= 30:
        raise refusal(f"/{network.prefixlen} is no size for a lab's network", "use a subnet from /8 to /30")
    if network.is_multicast or network.is_loopback or network.is_link_local or network.is_reserved or not int(network[0]) >> 24:
        raise refusal(f"{network} holds no addresses that hosts can have", "use a private subnet like 10.20.0.0/24")
    return network


def _network(text: str) -> IPv4Network:
    head, slash, length = text.partition("/")
    if not slash:
        raise refusal(f"{show(text)} has no prefix length", f"write {text}/24")
    try:
        network = IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise refusal(f"{show(text)} is not an IPv4 subnet", "like 10.20.0.0/24") from error
    if not re.fullmatch(r"\d{1,2}", length, re.ASCII):
        raise refusal(f"{show(text)} gives its size as a mask", f"write {network}")
    if str(network.network_address) != head:
        raise refusal(f"{show(text)} has host bits set", f"write {network}")
    return network


_ADDRESS = WithJsonSchema({"type": "string", "format": "ipv4"})
Address = Annotated[IPv4Address, BeforeValidator(address), _ADDRESS]
Subnet = Annotated[
    IPv4Network, BeforeValidator(subnet), WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+/[0-9]{1,2}$"})
]


def _mac(value: object) -> str:
    text = _text(value, "52:54:00:12:34:56").lower().replace("-", ":")
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", text):
        raise refusal(f"{show(text)} is not a MAC address", "like 52:54:00:12:34:56")
    first = int(text[:2], 16)
    if first & 1:
        raise refusal(f"{show(text)} is a multicast address; a guest needs its own", f"write {first & ~1:02x}{text[2:]}")
    if set(text) <= set("0:"):
        raise refusal(f"{show(text)} is not a usable MAC address", "like 52:54:00:12:34:56")
    return text


Mac = Annotated[
    str, BeforeValidator(_mac), WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$"})
]


def _quantity(
    read: Callable[[str], float], display: Callable[[float], str], least: float, most: float, usual: str
) -> Callable[[object], float]:
    def check(value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise refusal(f"{show(value)} has no unit", f"write {show(value)} {usual}" if value > 0 else "")
        text = _text(value, f"{display(least)}")
        try:
            amount = read(text)
        except ValueError as error:
            raise refusal(f"{show(text)} {error.args[0]}", error.args[1]) from error
        if not least <= amount <= most:
            bound = f"at least {display(least)}" if amount < least else f"at most {display(most)}"
            raise refusal(f"must be {bound}, not {text}")
        return amount

    return check


def _size(least: int, most: int) -> Callable[[object], float]:
    return _quantity(units.size, lambda n: units.show_size(int(n)), least, most, "MiB")


def _duration(least: float, most: float) -> BeforeValidator:
    return BeforeValidator(_quantity(units.duration, units.show_duration, least, most, "s"))


def _whole_seconds(value: object) -> int:
    seconds = _quantity(units.duration, units.show_duration, 1, 2_678_400, "s")(value)
    if seconds != int(seconds):
        raise refusal(f"must be whole seconds, not {value}")
    return int(seconds)


def _unit_schema(names: Iterable[str], example: str) -> WithJsonSchema:
    pattern = rf"^\s*[0-9]+(\.[0-9]+)?\s*({'|'.join(names)})\s*$"
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


LEAST_MEMORY = 64 * units.MIB
Memory = Annotated[int, BeforeValidator(_size(LEAST_MEMORY, 2**40)), _unit_schema(units.SIZES, "256 MiB")]
Every = Annotated[float, _duration(0.5, 3600), _unit_schema(units.DURATIONS, "2 s")]
Timeout = Annotated[float, _duration(0.1, 600), _unit_schema(units.DURATIONS, "3 s")]
Persistence = Annotated[int, BeforeValidator(_whole_seconds), _unit_schema(units.DURATIONS, "300 s")]


def _whole(least: int, most: int, reasons: dict[int, str] | None = None) -> Any:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            unquoted = isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII)
            raise refusal(f"must be a whole number, not {show(value)}", f"write {value} without quotes" if unquoted else "")
        if not least <= value <= most:
            raise refusal(f"must be {least} to {most}, not {show(value)}", (reasons or {}).get(value, ""))
        return value

    return Annotated[
        int, BeforeValidator(check), WithJsonSchema({"type": "integer", "minimum": least, "maximum": most})
    ]


