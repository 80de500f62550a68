"""Which IPv6 address each node of one network gets: the one that reads like its IPv4 address. Pure.

The host part is the IPv4 host number in the same digits: who is 10.20.0.31 is fd00:20::31, in a /16 host 300 is ::300. The
digits are decimal and read as hexadecimal, so no two nodes meet, people see who is who in a capture, and whatever keeps an
IPv4 address where it is (``blocks``) keeps the IPv6 address too. The eight digits that the largest IPv4 network needs fit into
the smallest IPv6 subnet of the language, a /80.

Where that address is taken (pinned, a VIP, the gateway) the node takes its own with one digit more, from a to f, which no host
number has: ::31a. Behind those come the subnet's last addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network


def twin(address: IPv4Address, subnet: IPv4Network, subnet6: IPv6Network) -> IPv6Address:
    """The IPv6 address with the host number's digits."""
    return subnet6.network_address + _digits(address, subnet)


def assign(
    subnet: IPv4Network, subnet6: IPv6Network, taken: Iterable[int], wanting: Mapping[str, IPv4Address]
) -> dict[str, int]:
    """An address, as a number, for each node in ``wanting``, which has their IPv4 addresses. Linear in the nodes."""
    used, found = set(taken), dict[str, int]()
    first = int(subnet6.network_address)
    for node, address in wanting.items():
        digits = _digits(address, subnet)
        found[node] = next(it for it in _choices(first, digits, int(subnet6.broadcast_address)) if it not in used)
        used.add(found[node])
    return found


def _digits(address: IPv4Address, subnet: IPv4Network) -> int:
    return int(str(int(address) - int(subnet.network_address)), 16)


def _choices(first: int, digits: int, last: int) -> Iterator[int]:
    yield first + digits
    yield from (first + digits * 16 + more for more in range(0xA, 0x10))
    yield from range(last, first, -1)
