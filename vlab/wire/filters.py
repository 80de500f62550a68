"""Which packets to keep: the part of tcpdump's language that a lab needs, applied to decoded frames. Pure.

    tcp · udp · icmp · arp · ip · ip6 · [src|dst] host ADDRESS · [src|dst] net SUBNET · [src|dst] port NUMBER
    ether host MAC · and · or · not · ( … )

As in tcpdump, «and» may be left out, «not» binds tightest, and «host» also asks ARP. Unlike tcpdump's, these words also look at what a
tunnel carries: «port 80» finds a request inside IP in IP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import TypeVar

from vlab.errors import UsageError
from vlab.wire import frames
from vlab.wire.frames import Address, Frame

T = TypeVar("T")

Filter = Callable[[Frame], bool]

MOST_WORDS = 400
"""Words and parentheses of one filter: they are read, and applied, by recursion."""

WORDS = "tcp udp icmp arp ip ip6, [src|dst] host ADDRESS, net SUBNET, port NUMBER, ether host MAC, and or not ( )"


def everything(_frame: Frame) -> bool:
    return True


def parse(text: str) -> Filter:
    """The filter that ``text`` means; all frames for an empty one. Raises ``UsageError``."""
    words = re.findall(r"[()]|[^\s()]+", text)
    if len(words) > MOST_WORDS:
        raise _refused(f"it has {len(words)} words", f"use at most {MOST_WORDS}")
    reader = _Reader(words)
    if not reader.left:
        return everything
    found = reader.either()
    if reader.left:
        raise _refused(f"'{reader.left[0]}' closes nothing", "remove it")
    return found


class _Reader:
    """Recursive descent over the words that are left."""

    def __init__(self, words: list[str]) -> None:
        self.left = words

    def either(self) -> Filter:
        found = self.both()
        while self._skip("or", "||"):
            found = _or(found, self.both())
        return found

    def both(self) -> Filter:
        found = self.negated()
        while self._skip("and", "&&") or (self.left and self.left[0] not in (")", "or", "||")):
            found = _and(found, self.negated())
        return found

    def negated(self) -> Filter:
        if self._skip("not", "!"):
            return _not(self.negated())
        if self._skip("("):
            found = self.either()
            if not self._skip(")"):
                raise _refused("a '(' is not closed", "add a ')'")
            return found
        return self._primitive(self._next("a word"))

    def _primitive(self, word: str) -> Filter:
        if word in _PROTOCOLS:
            return _PROTOCOLS[word]
        if word in ("src", "dst"):
            return self._side(self._next("host, net or port"), word)
        if word == "ether":
            return self._ether()
        return self._side(word, "")

    def _side(self, word: str, side: str) -> Filter:
        made = _SIDED.get(word)
        if made is None:
            raise _refused(f"'{word}' is no word of it", f"words: {WORDS}")
        return made(self._next(f"a value after '{word}'"), side)

    def _ether(self) -> Filter:
        if self._next("'host' after 'ether'") != "host":
            raise _refused("'ether' needs 'host' behind it", "write ether host 52:54:00:12:34:56")
        mac = self._next("a MAC").lower()
        if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
            raise _refused(f"'{mac}' is no MAC", "write ether host 52:54:00:12:34:56")
        return lambda frame: mac in (frame.source_mac, frame.destination_mac)

    def _skip(self, *words: str) -> bool:
        if self.left and self.left[0] in words:
            self.left = self.left[1:]
            return True
        return False

    def _next(self, wanted: str) -> str:
        if not self.left or self.left[0] == ")":
            raise _refused(f"{wanted} is missing at the end", f"words: {WORDS}")
        first, *self.left = self.left
        return first


def _host(value: str, side: str) -> Filter:
    try:
        wanted = ip_address(value)
    except ValueError as error:
        raise _refused(f"'{value}' is no address", "write host 10.20.0.100; vlab status shows addresses") from error
    return lambda frame: any(wanted == address for address in _addresses(frame, side))


def _net(value: str, side: str) -> Filter:
    try:
        wanted = ip_network(value)
    except ValueError as error:
        raise _refused(f"'{value}' is no subnet", "write net 10.20.0.0/24") from error
    return lambda frame: any(address in wanted for address in _addresses(frame, side))


def _port(value: str, side: str) -> Filter:
    if not value.isascii() or not value.isdigit() or not 0 <= int(value) <= 65535:
        raise _refused(f"'{value}' is no port", "write port 80")
    wanted = int(value)

    def matches(frame: Frame) -> bool:
        transport = frame.transport
        ports = _chosen(side, transport.source_port, transport.destination_port) if transport else ()
        return wanted in ports

    return matches


_SIDED: dict[str, Callable[[str, str], Filter]] = {"host": _host, "net": _net, "port": _port}


def _addresses(frame: Frame, side: str) -> Iterator[Address]:
    for header in frame.headers:
        yield from _chosen(side, header.source, header.destination)
    if frame.arp:
        yield from _chosen(side, frame.arp.sender, frame.arp.target)


def _chosen(side: str, source: T, destination: T) -> tuple[T, ...]:
    return {"src": (source,), "dst": (destination,)}.get(side, (source, destination))


def _of_protocol(*numbers: int) -> Filter:
    return lambda frame: any(header.protocol in numbers for header in frame.headers)


def _of_type(number: int) -> Filter:
    return lambda frame: frame.type == number


_PROTOCOLS: dict[str, Filter] = {
    "tcp": _of_protocol(frames.TCP),
    "udp": _of_protocol(frames.UDP),
    "icmp": _of_protocol(frames.ICMP, frames.ICMPV6),
    "arp": _of_type(frames.TYPE_ARP),
    "ip": _of_type(frames.TYPE_IPV4),
    "ip6": _of_type(frames.TYPE_IPV6),
}


def _or(one: Filter, other: Filter) -> Filter:
    return lambda frame: one(frame) or other(frame)


def _and(one: Filter, other: Filter) -> Filter:
    return lambda frame: one(frame) and other(frame)


def _not(one: Filter) -> Filter:
    return lambda frame: not one(frame)


def _refused(what: str, hint: str) -> UsageError:
    return UsageError(f"--filter: {what}", hint=hint)
