"""Which address each node of one network gets. Pure.

The scheme. A subnet is cut into equal blocks. Block 0 is the directors'; the first group of the file has block 1, the second
block 2, and so on, on every network alike, so that web1 has the same host part everywhere. A node's home is its place in its
owner's block: in a /24, where blocks have 30 addresses, lvs1 is .1, web1 .31, web2 .32, db1 .61. A home depends on nothing
but the subnet's size, the owner's place in the file and the node's place in its owner; so one more node in a group, a group
more at the end of the file, or a new VIP moves nobody else.

A home that is taken (pinned, a VIP, the gateway) or beyond the block or the subnet is given up: that node takes the first
free address behind the last group's block, or, at the end of the subnet, from its start. Only nodes without a home can be moved
by others, which takes a group that is larger than a block.

Blocks are an eighth of the subnet (7 groups); with more groups they are halved until all fit. Up to 256 addresses they are
rounded down to tens, for the eye.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import chain


@dataclass(frozen=True, slots=True)
class Seat:
    """A node that needs an address: its owner's ``block`` and its ``index`` in the owner, from 0."""

    node: str
    block: int
    index: int


def assign(subnet: IPv4Network, blocks: int, taken: Iterable[int], seats: Iterable[Seat]) -> dict[str, int]:
    """An address, as a number, for each seat's node. ``blocks`` counts the directors' block too. Linear in the seats. The
    rules have made sure that there is room; ``ValueError`` otherwise."""
    first, size = int(subnet.network_address), block_size(subnet.num_addresses, blocks)
    used, found, homeless = set(taken), dict[str, int](), list[str]()
    for seat in seats:
        home = first + seat.block * size + 1 + seat.index
        if seat.index < size and home < first + subnet.num_addresses - 1 and home not in used:
            used.add(home)
            found[seat.node] = home
        else:
            homeless.append(seat.node)
    spare = _spare(subnet, blocks * size, used)
    found.update(zip(homeless, spare, strict=False))
    if any(node not in found for node in homeless):
        raise ValueError(f"{subnet} has no room for {len(homeless)} nodes more")
    return found


def block_size(addresses: int, blocks: int) -> int:
    """How many addresses a block has in a subnet of ``addresses``."""
    size = addresses // 8
    while size > 1 and _round(size, addresses) * blocks > addresses:
        size //= 2
    return _round(size, addresses)


def _round(size: int, addresses: int) -> int:
    return size // 10 * 10 if addresses <= 256 and size >= 10 else max(size, 1)


def _spare(subnet: IPv4Network, start: int, used: set[int]) -> Iterator[int]:
    """The free addresses from offset ``start`` + 1 to the end, then those before it."""
    first, last = int(subnet.network_address) + 1, int(subnet.broadcast_address) - 1
    middle = min(first + start, last + 1)
    for address in chain(range(middle, last + 1), range(first, middle)):
        if address not in used:
            yield address
