"""How each kind of value is read from what YAML gives, and the words it is refused with. Pure.

Every reader takes any value and returns the right one, or raises ``refusal``: a ``PydanticCustomError`` of type «vlab» that
carries ``message`` and ``hint``, which ``messages`` reads back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from pydantic_core import PydanticCustomError

from vlab.topology import units
from vlab.topology.family import Address
from vlab.topology.finding import meant, show

Number = TypeVar("Number", int, float)

NAME_PATTERN = "^[a-z]([a-z0-9-]*[a-z0-9])?$"


def refusal(message: str, hint: str = "") -> PydanticCustomError:
    """The error that reaches the user as ``message (hint: hint)``."""
    return PydanticCustomError("vlab", "refused", {"message": message, "hint": hint})


def name_problem(text: str, longest: int) -> tuple[str, str] | None:
    """Message and hint when ``text`` cannot be a name of at most ``longest`` characters, None when it can."""
    if len(text) > longest:
        return f"is {len(text)} characters long", f"use at most {longest}"
    if re.fullmatch(NAME_PATTERN[1:-1], text, re.ASCII):
        return None
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower(), flags=re.ASCII).strip("-").lstrip("0123456789-")
    return "must start with a-z, then a-z, 0-9 and '-', and not end in '-'", f"write {slug}" if slug else ""


def name(longest: int) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str):
            raise refusal(f"must be a name, not {show(value)}")
        if problem := name_problem(value, longest):
            raise refusal(f"{show(value)} {problem[0]}", problem[1])
        return value

    return read


def words(value: object) -> tuple[str, ...]:
    """A list of names as a tuple."""
    if isinstance(value, str):
        raise refusal(
            f"must be a list, not {show(value)}", f"write [{value}]" if re.fullmatch(r"[\w-]+", value) else ""
        )
    if not isinstance(value, list | tuple):
        raise refusal(f"must be a list of names, not {show(value)}")
    if not value:
        raise refusal("is an empty list", "name at least one")
    for item in value:
        if not isinstance(item, str):
            raise refusal(f"must be a list of names; {show(item)} is none")
    return tuple(value)


def word_or_words(value: object) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else words(value)


def choice(known: Iterable[str], synonyms: dict[str, str] | None = None) -> Callable[[object], str]:
    """One word of ``known``."""
    known = tuple(known)

    def read(value: object) -> str:
        if isinstance(value, str) and value in known:
            return value
        hint = meant(value, known, synonyms) if isinstance(value, str) else f"known: {', '.join(known)}"
        raise refusal(f"{show(value)} is not known", hint)

    return read


def text(value: object, example: str) -> str:
    if not isinstance(value, str):
        raise refusal(f"must be text like {example}, not {show(value)}")
    return value.strip()


def address(value: object) -> IPv4Address:
    """An IPv4 address from text."""
    written = text(value, "10.20.0.100")
    if _looks_ipv6(written):
        raise refusal(
            f"{show(written)} is IPv6, and this key takes IPv4",
            "IPv6 has keys of its own: addresses6, gateway6, inner_vip6",
        )
    try:
        return IPv4Address(written)
    except AddressValueError as error:
        head, slash, _ = written.partition("/")
        raise refusal(
            f"{show(written)} is not an IPv4 address", f"write {head}" if slash else "like 10.20.0.100"
        ) from error


def _looks_ipv6(written: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(/\d+)?", written, re.ASCII) is not None


def subnet(value: object) -> IPv4Network:
    """An IPv4 subnet from /8 to /30 of unicast addresses, without host bits."""
    written = text(value, "10.20.0.0/24")
    if _looks_ipv6(written):
        raise refusal(
            f"{show(written)} is IPv6, and this key takes IPv4", f"write subnet6: {written} beside an IPv4 subnet"
        )
    network = _network(written)
    if not 8 <= network.prefixlen <= 30:
        raise refusal(f"/{network.prefixlen} is not a usable size", "use a subnet from /8 to /30")
    unusable = network.is_multicast or network.is_loopback or network.is_link_local or network.is_reserved
    if unusable or int(network.network_address) >> 24 == 0:
        raise refusal(f"hosts cannot have addresses in {network}", "use a private subnet like 10.20.0.0/24")
    return network


def _network(written: str) -> IPv4Network:
    head, slash, length = written.partition("/")
    try:
        network = IPv4Network(written, strict=False)
    except ValueError as error:
        raise refusal(f"{show(written)} is not an IPv4 subnet", "like 10.20.0.0/24") from error
    if not slash:
        raise refusal(f"{show(written)} has no prefix length", f"write {head}/24")
    if not re.fullmatch(r"\d{1,2}", length, re.ASCII):
        raise refusal(f"{show(written)} gives its size as a mask", f"write {network}")
    if str(network.network_address) != head:
        raise refusal(f"{show(written)} has host bits set", f"write {network}")
    return network


def address6(value: object) -> IPv6Address:
    """An IPv6 address from text."""
    written = text(value, "fd00:20::100")
    if re.fullmatch(r"[\d.]+(/\d+)?", written, re.ASCII):
        raise refusal(f"{show(written)} is not IPv6, and this key takes IPv6", "like fd00:20::100")
    found = _address6(written)
    if found is None:
        head, slash, _ = written.partition("/")
        raise refusal(
            f"{show(written)} is not an IPv6 address",
            f"write {head}" if slash and _address6(head) else "like fd00:20::100",
        )
    return found


def _address6(written: str) -> IPv6Address | None:
    """None for what is none, and for one with a zone («%eth0»), which only means something on one machine."""
    try:
        found = IPv6Address(written)
    except AddressValueError:
        return None
    return None if found.scope_id else found


def vip(value: object) -> Address:
    """An address of either family from text."""
    written = text(value, "10.20.0.100")
    return address6(written) if _looks_ipv6(written) else address(written)


def subnet6(value: object) -> IPv6Network:
    """An IPv6 subnet from /32 to /80 of unicast addresses, without host bits. Not smaller, so that every node's host number,
    written in the digits of its IPv4 one, fits."""
    written = text(value, "fd00:20::/64")
    if re.fullmatch(r"[\d.]+(/[\d.]+)?", written, re.ASCII):
        raise refusal(f"{show(written)} is not IPv6, and this key takes IPv6", "like fd00:20::/64")
    network = _network6(written)
    if not 32 <= network.prefixlen <= 80:
        hint = f"write {network.network_address}/64" if network.prefixlen > 80 else "use a subnet from /32 to /80"
        raise refusal(f"/{network.prefixlen} is not a usable size", hint)
    unusable = network.is_multicast or network.is_link_local or network.is_site_local or network.is_reserved
    if unusable:
        raise refusal(f"hosts cannot have addresses in {network}", "use a private subnet like fd00:20::/64")
    return network


def _network6(written: str) -> IPv6Network:
    head, slash, length = written.partition("/")
    if _address6(head) is None or (slash and not re.fullmatch(r"\d{1,3}", length, re.ASCII)):
        raise refusal(f"{show(written)} is not an IPv6 subnet", "like fd00:20::/64")
    if not slash:
        raise refusal(f"{show(written)} has no prefix length", f"write {head}/64")
    try:
        network = IPv6Network(written, strict=False)
    except ValueError as error:
        raise refusal(f"{show(written)} is not an IPv6 subnet", "like fd00:20::/64") from error
    if network.network_address != _address6(head):
        raise refusal(f"{show(written)} has host bits set", f"write {network}")
    return network


def mac(value: object) -> str:
    """A unicast MAC address, in lower case with colons."""
    written = text(value, "52:54:00:12:34:56")
    form = written.lower().replace("-", ":")
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", form, re.ASCII) or form == "00:00:00:00:00:00":
        raise refusal(f"{show(written)} is not a MAC address", "like 52:54:00:12:34:56")
    first = int(form[:2], 16)
    if first & 1:
        raise refusal(f"{show(written)} is a multicast address", f"write {first & 0xFE:02x}{form[2:]}")
    return form


def whole(least: int, most: int, notes: Mapping[int, str] | None = None) -> Callable[[object], int]:
    """A whole number in a range; ``notes`` are hints for values that people try."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            quoted = isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII)
            raise refusal(
                f"must be a whole number, not {show(value)}", f"write {value} without quotes" if quoted else ""
            )
        if not least <= value <= most:
            raise refusal(f"must be {least} to {most}, not {show(value)}", (notes or {}).get(value, ""))
        return value

    return read


def only(wanted: int, message: str, hint: str) -> Callable[[object], int]:
    """Exactly ``wanted``; any other number is refused with ``message``."""

    def read(value: object) -> int:
        number = whole(-(10**18), 10**18)(value)
        if number != wanted:
            raise refusal(message.format(number), hint)
        return number

    return read


def cores(value: object) -> float:
    """A number of cores, more than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refusal(f"must be a number of cores, not {show(value)}", "like 0.5")
    if not 0.01 <= value <= 64:
        raise refusal(f"must be 0.01 to 64 cores, not {show(value)}")
    return float(value)


def size(least: int, most: int) -> Callable[[object], int]:
    """Bytes of «256 MiB»."""
    return _quantity(units.size, units.show_size, least, most, "MiB")


def duration(least: float, most: float) -> Callable[[object], float]:
    """Seconds of «2 s»."""
    return _quantity(units.duration, units.show_duration, least, most, "s")


def whole_seconds(value: object) -> int:
    seconds = duration(1, 31 * 24 * 3600)(value)
    if seconds != int(seconds):
        raise refusal(f"must be whole seconds, not {show(value)}")
    return int(seconds)


def _quantity(
    convert: Callable[[str], Number], display: Callable[[Number], str], least: Number, most: Number, usual: str
) -> Callable[[object], Number]:
    def read(value: object) -> Number:
        if isinstance(value, int | float) and not isinstance(value, bool):
            usable = math.isfinite(value) and value > 0
            raise refusal(f"{show(value)} has no unit", f"write {show(value)} {usual}" if usable else "")
        written = text(value, display(least))
        try:
            amount = convert(written)
        except ValueError as error:
            raise refusal(f"{show(written)} {error.args[0]}", error.args[1]) from error
        if not least <= amount <= most:
            bound = f"at least {display(least)}" if amount < least else f"at most {display(most)}"
            raise refusal(f"must be {bound}, not {written}")
        return amount

    return read


def path(value: object) -> str:
    """The path of an HTTP request."""
    written = text(value, "/health")
    if not written.startswith("/"):
        raise refusal(f"{show(written)} is not a path", "write it from the first slash, like /health")
    if not re.fullmatch(r"[!-~]{1,200}", written) or re.search(r"[\"'{}#\\]", written):
        raise refusal(f"{show(written)} holds characters that a check's path cannot have", "percent-encode them")
    return written


def flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    said = str(value).lower()
    meaning = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}.get(said, "")
    quoted = said if said in ("true", "false") else meaning
    raise refusal(f"must be true or false, not {show(value)}", f"write {quoted}" if quoted else "")
