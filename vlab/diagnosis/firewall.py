"""What ``nft list ruleset`` prints, as far as a diagnosis asks: the chains and rules that drop. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import groupby

from vlab.topology.family import Address, Subnet

OURS = ("table ip vlab ", "table ip6 vlab ", "table inet vlab ")
"""Tables that vlab itself makes in a lab's namespace: the uplink's, which lets nothing but the uplink's own traffic pass."""

_OTHERS = {4: ("table ip6 ", "table arp "), 6: ("table ip ", "table arp ")}
"""Tables that an address of that version never meets."""
_DESTINATION = {
    4: re.compile(r"\bip daddr (?P<not>!= )?(?P<set>@\S+|\{[^}]*\}|\S+)"),
    6: re.compile(r"\bip6 daddr (?P<not>!= )?(?P<set>@\S+|\{[^}]*\}|\S+)"),
}
_FOREIGN = {4: re.compile(r"\bip6 |\bnfproto ipv6\b"), 6: re.compile(r"\bip |\bnfproto ipv4\b")}
"""What only packets of the other version can match."""
_OTHER_PROTOCOL = re.compile(r"\b(ip protocol|meta l4proto|ip6 nexthdr) (?!(tcp|udp|6|17)\b|[{!@])")
"""What matches no packet of a service."""


def dropping(ruleset: str, *, hooks: Sequence[str]) -> list[str]:
    """«table … chain …: line» for each chain on one of ``hooks`` whose policy is drop, and each rule there that drops."""
    return [
        f"{table} {chain}: {line}" for table, chain, hook, line in _lines(ruleset) if hook in hooks and _drops(line)
    ]


def against(ruleset: str, address: Address, *, hooks: Sequence[str]) -> list[str]:
    """As ``dropping``, but of rules only those that may hit packets to ``address``: they name it, a net or set around it, or no destination, and
    are of no protocol that is neither TCP nor UDP."""
    sets = _sets(ruleset)
    return [
        f"{table} {chain}: {line}"
        for table, chain, hook, line in _lines(ruleset)
        if hook in hooks
        and not table.startswith(_OTHERS[address.version])
        and _drops(line)
        and not _OTHER_PROTOCOL.search(line)
        and _meant(line, sets, address)
    ]


@dataclass(frozen=True, slots=True)
class Packet:
    """What somebody sends again and again: protocol by number and by name, and the destination."""

    protocol: int
    name: str
    destination: Address


VRRP = Packet(112, "vrrp", ip_address("224.0.0.18"))
"""An advertisement (RFC 3768, 5.2.2): of IPv4, whatever addresses move by it."""


def stopping(
    ruleset: str, packet: Packet, *, on: str, hooks: Sequence[str] = ("prerouting", "input", "output")
) -> list[str]:
    """«table … chain …: line» for each chain that is sure to drop ``packet`` on interface ``on``: by a rule all of whose conditions are
    understood and hold, or by its policy. A chain that jumps elsewhere before is passed over: it may let the packet pass there."""
    sets = _sets(ruleset)
    return [
        f"{table} {chain}: {line}"
        for (table, chain), group in groupby(_lines(ruleset), key=lambda it: it[:2])
        for hook, line in _decided([it[2:] for it in group], packet, sets, on)
        if hook in hooks and not table.startswith(_OTHERS[packet.destination.version])
    ]


def _decided(
    lines: Sequence[tuple[str, str]], packet: Packet, sets: dict[str, str], on: str
) -> Iterator[tuple[str, str]]:
    """The line of a chain that drops the packet, if one does."""
    policy = [each for each in lines if "policy drop" in each[1]]
    for hook, line in lines:
        if "hook " in line:
            continue
        if _drops(line) and _certain(line, packet, sets, on):
            yield hook, line
            return
        if _may_pass(line):
            return
    yield from policy[:1]


def _certain(line: str, packet: Packet, sets: dict[str, str], on: str) -> bool:
    """Whether nothing of a rule is left beside conditions that hold and the verdict."""
    if not _meant(line, sets, packet.destination):
        return False
    held = (
        _DESTINATION[packet.destination.version].pattern,
        rf"\b(ip protocol|meta l4proto|ip6 nexthdr) ({packet.name}|{packet.protocol})\b",
        rf'\b[io]if(name)? "?{re.escape(on)}"?(?!\S)',
        rf"\bmeta nfproto ipv{packet.destination.version}\b",
        r"\bcounter packets \d+ bytes \d+",
        r'\bcomment "[^"]*"',
        r"\b(drop|reject\b.*)",
    )
    for pattern in held:
        line = re.sub(pattern, "", line)
    return not line.strip()


def _may_pass(line: str) -> bool:
    """Whether a rule could end the chain for a packet that has no ports and is no answer."""
    if re.search(r"\b(jump|goto|return|vmap|queue)\b", line):
        return True
    if not re.search(r"\baccept\b", line):
        return False
    state = re.search(r"\bct state (\S+)", line)
    return not re.search(r"\b(tcp|udp|icmp|icmpv6|sctp|dport|sport)\b", line) and (state is None or "new" in state[1])


def _drops(line: str) -> bool:
    return bool(re.search(r"\b(policy drop|drop|reject)\b", line))


def _meant(line: str, sets: dict[str, str], address: Address) -> bool:
    match = _DESTINATION[address.version].search(line)
    if match is None:
        return not _FOREIGN[address.version].search(line)
    text = sets.get(match["set"][1:], "") if match["set"].startswith("@") else match["set"]
    hit = any(address in net for net in _nets(text))
    return hit != bool(match["not"])


def _nets(text: str) -> Iterator[Subnet]:
    for word in re.findall(r"[\da-f.:]+(?:/\d+)?", text):
        with suppress(ValueError):
            if word.count(".") == 3 or word.count(":") > 1:
                yield ip_network(word, strict=False)


def _sets(ruleset: str) -> dict[str, str]:
    return dict(re.findall(r"\bset (\S+) \{[^{}]*elements = \{([^}]*)\}", ruleset))


def _lines(ruleset: str) -> Iterator[tuple[str, str, str, str]]:
    """(table, chain, hook, line) for each line of each chain that hangs on a hook, vlab's own tables left out."""
    table = chain = hook = ""
    for raw in ruleset.splitlines():
        line = raw.strip()
        if line.startswith("table "):
            table, chain, hook = line.rstrip(" {"), "", ""
        elif line.startswith("chain "):
            chain, hook = line.rstrip(" {"), ""
        elif line == "}":
            chain, hook = "", ""
        elif chain and not f"{table} ".startswith(OURS):
            if found := re.search(r"\bhook (\w+)", line):
                hook = found[1]
            if hook:
                yield table, chain, hook, line
