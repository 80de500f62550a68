"""A director's node as files under /proc/net show it: which addresses it has, and ip_vs' table. In an emulated guest a process takes a tenth
of a second of its processor, a file a hundredth.

Formats: ``fib_trie_seq_show`` in net/ipv4/fib_trie.c, ``if6_seq_show`` in net/ipv6/addrconf.c, ``ip_vs_info_seq_show`` in
net/netfilter/ipvs/ip_vs_ctl.c.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address

from vlab.guests.base import Channel
from vlab.lvs.ipvs import FWMARK, NO_ADDRESS, NO_ADDRESS6, Destination, Table, Virtual
from vlab.topology.family import Address, is_six

TABLE, ADDRESSES, ADDRESSES6 = "/proc/net/ip_vs", "/proc/net/fib_trie", "/proc/net/if_inet6"


def read_table(channel: Channel) -> Table:
    """Services with their schedulers, destinations with weights, ways and connections; no persistence, flags, counters and thresholds.
    Raises ``GuestError`` when the node cannot be asked or has no ip_vs."""
    return table(_read(channel, TABLE))


def read_addresses(channel: Channel, asked: Collection[Address]) -> frozenset[Address]:
    """Those of ``asked`` that the node has, on interfaces that are up. Raises as ``read_table``."""
    four, six = any(not is_six(each) for each in asked), any(is_six(each) for each in asked)
    found: set[Address] = set(addresses(_read(channel, ADDRESSES)) if four else ())
    found |= set(addresses6(_read(channel, ADDRESSES6)) if six else ())
    return frozenset(found & set(asked))


def _read(channel: Channel, path: str) -> str:
    return channel.get(path).decode()


# decisions: pure


def addresses(text: str) -> Iterator[IPv4Address]:
    """The local addresses in ``fib_trie``: a leaf «|-- 10.20.0.1» and under it «/32 host LOCAL»."""
    leaf = ""
    for words in map(str.split, text.splitlines()):
        if words[:1] == ["|--"]:
            leaf = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            yield IPv4Address(leaf)


def addresses6(text: str) -> Iterator[IPv6Address]:
    """The addresses in ``if_inet6``, each the first word of a line, in 32 hexadecimal digits."""
    for line in text.splitlines():
        yield IPv6Address(bytes.fromhex(line.split()[0]))


def table(text: str) -> Table:
    """The services in ``ip_vs``. Addresses, ports and marks are hexadecimal."""
    found: list[tuple[Virtual, list[Destination]]] = []
    for words in map(str.split, text.splitlines()):
        if words[:1] == ["->"] and found and words[1:2] != ["RemoteAddress:Port"]:
            found[-1][1].append(_destination(words[1:]))
        elif words and words[0] in {"TCP", "UDP", "SCTP", "FWM"}:
            found.append((_virtual(words), []))
    return Table(tuple(_with(virtual, destinations) for virtual, destinations in found))


def _with(virtual: Virtual, destinations: list[Destination]) -> Virtual:
    """Of a mark the file does not tell the family, its destinations do."""
    six = virtual.protocol == FWMARK and any(is_six(each.address) for each in destinations)
    address = NO_ADDRESS6 if six else virtual.address
    return Virtual(virtual.protocol, address, virtual.port, virtual.scheduler, destinations=tuple(destinations))


def _virtual(words: list[str]) -> Virtual:
    if words[0].lower() == FWMARK:
        return Virtual(FWMARK, NO_ADDRESS, int(words[1], 16), words[2])
    return Virtual(words[0].lower(), *_endpoint(words[1]), words[2])


def _destination(words: list[str]) -> Destination:
    address, port = _endpoint(words[0])
    weight, active, inactive = map(int, words[2:5])
    return Destination(address, port, words[1], weight, active, inactive)


def _endpoint(text: str) -> tuple[Address, int]:
    """«0A140064:0050» or «[2001:0db8:…]:0050»."""
    address, _, port = text.rpartition(":")
    found: Address = IPv6Address(address.strip("[]")) if "[" in address else IPv4Address(int(address, 16))
    return found, int(port, 16)
