"""Who serves what, from a lab, once per lab: ``settings``, ``verify`` and ``explain`` ask for it for every node.

A lab of 10,000 nodes has its settings made node by node, so nothing here may cost more than a dictionary look-up per node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vlab.topology.lab import Lab, Node, RealServer, Service


@dataclass(frozen=True, slots=True)
class Role:
    """One node's part in one service: ``node`` is a real server of it (or the director itself, then ``real_server`` is None)."""

    service: Service
    node: Node
    director: Node
    real_server: RealServer | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """``serving`` is by real server's node name, ``directing`` by director node name, both in the order of the file."""

    nodes: Mapping[str, Node]
    serving: Mapping[str, tuple[Role, ...]]
    directing: Mapping[str, tuple[Role, ...]]
    texts: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Texts that many nodes share (/etc/hosts), by what they depend on."""


_last: tuple[Lab, Index] | None = None


def index(lab: Lab) -> Index:
    """The index of ``lab``. The last one is kept by the lab's identity: hashing a lab would cost as much as indexing it."""
    global _last
    kept = _last
    if kept is not None and kept[0] is lab:
        return kept[1]
    made = _make(lab)
    _last = (lab, made)
    return made


def device(node: Node, network: str) -> str:
    """The node's own name of its interface on ``network`` («eth1»). Raises ``KeyError``."""
    return f"eth{node.nics.index(node.nic(network))}"


def _make(lab: Lab) -> Index:
    nodes = {node.name: node for node in lab.nodes}
    serving: dict[str, tuple[Role, ...]] = {}
    directing: dict[str, tuple[Role, ...]] = {}
    for service in lab.services:
        director = _director(lab, nodes, service)
        directing[director.name] = (*directing.get(director.name, ()), Role(service, director, director))
        for server in service.real_servers:
            role = Role(service, nodes[server.node], director, server)
            serving[server.node] = (*serving.get(server.node, ()), role)
    return Index(nodes, serving, directing)


def _director(lab: Lab, nodes: Mapping[str, Node], service: Service) -> Node:
    # ``Service.director`` is the YAML name («lvs»); its node is «lvs1». Either is accepted.
    named = nodes.get(service.director)
    return named or next(node for node in lab.nodes if node.group == service.director)
