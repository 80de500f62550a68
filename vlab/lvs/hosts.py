"""/etc/hosts of a lab: every node, director and service by name. Pure; one text for all nodes on the same networks."""

from __future__ import annotations

from collections.abc import Iterator

from vlab.lvs.index import Index
from vlab.topology.lab import Lab, Nic, Node


def hosts(lab: Lab, known: Index, reader: Node) -> str:
    """The text for ``reader``. A node's plain name is its address on a network that it shares with the reader, where there
    is one; «lvs1.back» always means the address on that network."""
    networks = tuple(nic.network for nic in reader.nics)
    if networks not in known.texts:
        known.texts[networks] = "".join(_lines(lab, networks))
    return known.texts[networks]


def _lines(lab: Lab, networks: tuple[str, ...]) -> Iterator[str]:
    yield f"# Written by vlab: the names of lab {lab.name}.\n"
    yield _line("127.0.0.1", ["localhost"])
    yield _line("::1", ["localhost"])
    for node in lab.nodes:
        preferred = _preferred(node, networks)
        for nic in node.nics:
            plain = [node.name] if nic is preferred else []
            for address in nic.addresses:
                yield _line(str(address.ip), [*plain, f"{node.name}.{nic.network}"])
    for vip, names in _services(lab).items():
        yield _line(vip, names)


def _services(lab: Lab) -> dict[str, list[str]]:
    vips: dict[str, list[str]] = {}
    for service in lab.services:
        vips.setdefault(str(service.vip), []).append(service.name)
    return vips


def _preferred(node: Node, networks: tuple[str, ...]) -> Nic:
    return next((nic for network in networks for nic in node.nics if nic.network == network), node.nics[0])


def _line(address: str, names: list[str]) -> str:
    return f"{address:<15} {' '.join(names)}\n"
