"""Which node of a director is the active one, and whether the other stands ready. Reads; what it means is decided by pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface

from vlab.guests.base import Channel
from vlab.lvs import checks, vrrp
from vlab.lvs.checks import Check
from vlab.lvs.ipvs import Table
from vlab.topology.lab import Pair, Service

TIMEOUT = 20.0
_CUT = "=== vlab ==="
_READ = ("sh", "-c", f"ip -br address; echo '{_CUT}'; exec ipvsadm -L --daemon")

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Held:
    """What one node of a director has: its ``addresses``, and which parts of the sync daemon run («master», «backup»)."""

    addresses: frozenset[Address]
    sync: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """A pair as found: what each node has (None: it does not answer) and its table, by node name."""

    held: Mapping[str, Held | None]
    tables: Mapping[str, Table]

    def owners(self, address: Address) -> list[str]:
        return [node for node, held in self.held.items() if held and address in held.addresses]


def read(channel: Channel) -> Held:
    """Raises as ``Channel.run`` does."""
    return parse(channel.run(_READ, timeout=TIMEOUT).text)


def parse(text: str) -> Held:
    """What ``ip -br address`` and ``ipvsadm -L --daemon`` print. A node without ip_vs has no daemon."""
    links, _, daemons = text.partition(f"{_CUT}\n")
    words = (word for line in links.splitlines() for word in line.split()[2:] if "/" in word)
    sync = (line.split()[0] for line in daemons.splitlines() if " sync daemon" in line)
    return Held(frozenset(ip_interface(word).ip for word in words), tuple(sync))


def active(addresses: Collection[Address], held: Mapping[str, Held | None]) -> list[str]:
    """The nodes that have every one of ``addresses``: one of them when all is well."""
    wanted = frozenset(addresses)
    return [node for node, it in held.items() if it is not None and wanted <= it.addresses]


def one_active(pair: Pair, found: Standing) -> bool:
    """Does exactly one node have the floating addresses, and the other none of them?"""
    (*holders,) = active(vrrp.addresses(pair), found.held)
    return len(holders) == 1 and all(found.owners(address) == holders for address in vrrp.addresses(pair))


def standby_tables(pair: Pair, services: Sequence[Service], found: Standing) -> list[Check]:
    """For each node that is not active, whether its table is as declared: it forwards from the moment it takes over."""
    waiting = [node for node in pair.nodes if node not in active(vrrp.addresses(pair), found.held)]
    return [
        _standby(node, [checks.table(service, found.tables.get(node, Table()), node) for service in services])
        for node in waiting
    ]


def _standby(node: str, tables: Sequence[Check]) -> Check:
    wrong = [f"{it.id.split('/')[1]}: {it.found}" for it in tables if not it.ok]
    return checks.check(
        f"director/{node}/standby",
        not wrong,
        f"{node} stands by with the whole table",
        "; ".join(wrong) or checks.AS_DECLARED,
        f"vlab exec {node} -- ipvsadm -Ln; vlab exec {node} -- journalctl -u keepalived -n 20",
    )


def judged(pair: Pair, services: Sequence[Service], found: Standing) -> list[Check]:
    """Every check of a pair."""
    return [_one_active(pair, found), *standby_tables(pair, services, found), _sync(pair, found)]


def _one_active(pair: Pair, found: Standing) -> Check:
    listed = ", ".join(map(str, vrrp.addresses(pair)))
    return checks.check(
        f"director/{pair.director}/active",
        one_active(pair, found),
        f"exactly one of {' and '.join(pair.nodes)} has {listed}",
        "; ".join(_has(pair, node, found) for node in pair.nodes),
        f"vlab exec {pair.nodes[0]} -- journalctl -u keepalived -n 20 shows why; VRRP needs networks {', '.join(pair.networks)}",
    )


def _has(pair: Pair, node: str, found: Standing) -> str:
    held = found.held[node]
    if held is None:
        return f"{node} does not answer"
    mine = [str(address) for address in vrrp.addresses(pair) if address in held.addresses]
    return f"{node} has {'all' if len(mine) == len(pair.floating) else ', '.join(mine) or 'none'}"


def _sync(pair: Pair, found: Standing) -> Check:
    holders = active(vrrp.addresses(pair), found.held)
    wanted = {node: _role(pair, active=node in holders) for node in pair.nodes}
    roles = {node: held.sync if held else ("no answer",) for node, held in found.held.items()}
    return checks.check(
        f"director/{pair.director}/sync",
        roles == wanted,
        f"sync daemon: {_roles(wanted)}",
        _roles(roles),
        f"vlab exec {pair.nodes[0]} -- ipvsadm -L --daemon",
    )


def _role(pair: Pair, *, active: bool) -> tuple[str, ...]:
    if not pair.sync:
        return ()
    return ("master",) if active else ("backup",)


def _roles(roles: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{node} {'and '.join(role) or 'none'}" for node, role in roles.items())
