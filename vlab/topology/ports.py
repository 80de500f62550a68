"""The ports of a service: single ones and ranges, as they are written, and as ip_vs counts them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vlab.topology.finding import show
from vlab.topology.values import refusal

MOST_ENTRIES = 64
"""Ports and ranges that one list may have."""

MOST_KERNEL_SERVICES = 64
"""Ports of one service without a firewall mark: each is a service of its own in the kernel, with health checks of its own."""


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """``first`` to ``last``, both included; one port where they are the same."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last + 1))

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def meets(self, other: PortRange) -> bool:
        return self.first <= other.last and other.first <= self.last


def show_ports(ports: Iterable[PortRange]) -> str:
    """«80,443,8000-8010»."""
    return ",".join(str(ports) for ports in ports)


def read(value: object) -> tuple[PortRange, ...]:
    """A list of ports and ranges: [80, 443, "8000-8010"]."""
    if not isinstance(value, list | tuple):
        hint = f"write [{value}], or port: {value}" if isinstance(value, int) and not isinstance(value, bool) else ""
        raise refusal(f"must be a list of ports, not {show(value)}", hint or 'like [80, 443, "8000-8010"]')
    if not value:
        raise refusal("is an empty list", "name at least one port")
    if len(value) > MOST_ENTRIES:
        raise refusal(f"lists {len(value)} ports and ranges; at most {MOST_ENTRIES} fit", "write ranges")
    found = tuple(_entry(item) for item in value)
    for index, one in enumerate(found):
        if any(one.meets(earlier) for earlier in found[:index]):
            raise refusal(f"{one} is listed twice", "name each port once")
    return found


def _entry(item: object) -> PortRange:
    if isinstance(item, str):
        return _range(item)
    if isinstance(item, bool) or not isinstance(item, int):
        raise refusal(f"must be a list of ports; {show(item)} is none", 'like [80, 443, "8000-8010"]')
    if not 1 <= item <= 65535:
        raise refusal(f"a port is 1 to 65535, not {item}")
    return PortRange(item, item)


def _range(text: str) -> PortRange:
    match = re.fullmatch(r"\s*(\d{1,9})\s*-\s*(\d{1,9})\s*", text, re.ASCII)
    if not match:
        number = re.fullmatch(r"\d{1,9}", text, re.ASCII)
        hint = f"write {text} without quotes" if number else 'like "8000-8010"'
        raise refusal(f"{show(text)} is no range of ports", hint)
    first, last = (int(number) for number in match.groups())
    if not 1 <= first <= 65535 or not 1 <= last <= 65535:
        raise refusal(f"a port is 1 to 65535, and the range is {text.strip()}")
    if first >= last:
        hint = f"write {first}" if first == last else f'write "{last}-{first}"'
        raise refusal(f"the range {text.strip()} does not go up", hint)
    return PortRange(first, last)
