"""How the values of a service's own keys are read: marks, flags, and what health checks are told. Pure; as in ``values``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from vlab.topology.finding import meant, show
from vlab.topology.values import refusal, text, whole

AUTO = 0
"""A firewall mark that vlab chooses."""

LARGEST_MARK = 2**32 - 1

PLACEHOLDERS = ("{address}", "{port}")
"""Words of a misc check that stand for the real server's."""

_ARGUMENT = r"[A-Za-z0-9_./:=,%+-]+"
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"


def mark(value: object) -> int:
    """A firewall mark, or ``AUTO``."""
    if value == "auto":
        return AUTO
    if isinstance(value, str) and not value.isdigit():
        raise refusal(f"must be a number or auto, not {show(value)}", "write auto")
    return whole(1, LARGEST_MARK, {0: "0 is what unmarked packets have; write auto"})(value)


def node(value: object) -> str:
    """The name of one node."""
    if not isinstance(value, str):
        raise refusal(f"must be the name of a node, not {show(value)}", "like sorry1")
    return value


def flags(known: Iterable[str]) -> Callable[[object], tuple[str, ...]]:
    """A list of words of ``known``, each once; in the order of ``known``."""
    known = tuple(known)

    def read(value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            hint = f"write [{value}]" if value in known else f"known: {', '.join(known)}"
            raise refusal(f"must be a list, not {show(value)}", hint)
        if not value:
            raise refusal("is an empty list", "name a flag, or remove the key")
        for index, item in enumerate(value):
            if item not in known:
                raise refusal(f"{show(item)} is not known", meant(str(item), known))
            if item in value[:index]:
                raise refusal(f"{item} is listed twice", "name each flag once")
        return tuple(flag for flag in known if flag in value)

    return read


def arguments(value: object) -> tuple[str, ...]:
    """A command as text or as a list of words: its path, then arguments. keepalived has rules of its own for quotes and some
    marks, so only plain words pass."""
    example = '"/usr/lib/vlab/my-check {address} {port}"'
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise refusal(f"must be a command as text or a list of texts, not {show(value)}", f"like {example}")
    if not words or not words[0].startswith("/"):
        raise refusal(f"{show(words[0] if words else value)} is not the path of a program in the director",
                      "write it from the first slash, like /usr/lib/vlab/my-check")  # fmt: skip
    for word in words:
        plain = word
        for placeholder in PLACEHOLDERS:
            plain = plain.replace(placeholder, "x")
        if len(word) > 200 or not re.fullmatch(_ARGUMENT, plain, re.ASCII):
            hint = "letters, digits and _./:=,%+-, and {address} and {port} for the real server's"
            raise refusal(f"{show(word)} is no plain word", hint)
    return tuple(words)


def credential(what: str, longest: int, *, empty: bool = False) -> Callable[[object], str]:
    """A user's name, password or database: one line of printable text."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            quoted = isinstance(value, int | float) and not isinstance(value, bool)
            raise refusal(f"must be text, not {show(value)}", f'write "{value}"' if quoted else "")
        if not value and not empty:
            raise refusal(f"is empty, and a {what} is not")
        if len(value) > longest:
            raise refusal(f"is {len(value)} characters long", f"use at most {longest}")
        if not value.isprintable():
            raise refusal(f"a {what} holds printable characters only")
        return value

    return read


def dns_name(value: object) -> str:
    """The name a DNS server is asked for."""
    written = text(value, "www.example.org")
    if len(written) > 253 or not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*\.?", written, re.ASCII):
        raise refusal(f"{show(written)} is not a DNS name", "like www.example.org")
    return written
