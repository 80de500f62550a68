"""Who serves what, from a lab, once per lab: ``settings``, ``verify`` and ``explain`` ask for it for every node.

A lab of 10,000 nodes has its settings made node by node, so nothing here may cost more than a dictionary look-up per node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vlab.topology.family import Address, is_six
from vlab.topology.lab import Lab, Network, Node, Pair, RealServer, Service


@dataclass(frozen=True, slots=True)
class Role:
    """One node's part in one service: ``node`` is a real server of it, or its sorry server, which a mode treats alike (or the
    director itself, then ``real_server`` is None). ``pair`` is the director's, where it is one; for a real server ``director`` is
    then the first of its nodes.
    ``routed`` are the networks between which the lab's own gateway forwards packets of the VIP's family."""

    service: Service
    node: Node
    director: Node
    real_server: RealServer | None = None
    pair: Pair | None = None
    routed: tuple[Network, ...] = ()

    @property
    def gateway(self) -> Address:
        """The director's address for real servers on the inner network, of the VIP's family; it floats where the director is a pair."""
        inner, vip = self.service.inner_network, self.service.vip
        floating = self.pair.inner(inner, vip) if self.pair else None
        return floating or self.director.address_like(vip, inner)

    @property
    def directed_by(self) -> str:
        """Who forwards, in words."""
        return f"the active one of {' and '.join(self.pair.nodes)}" if self.pair else self.director.name


@dataclass(frozen=True, slots=True)
class Index:
    """``serving`` is by real server's node name, ``directing`` by director node name, both in the order of the file; ``teams`` are the
    node names of each director that has services, by its name."""

    nodes: Mapping[str, Node]
    serving: Mapping[str, tuple[Role, ...]]
    directing: Mapping[str, tuple[Role, ...]]
    teams: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
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
    for number, nic in enumerate(node.nics):
        if nic.network == network:
            return f"eth{number}"
    raise KeyError(network)


def _make(lab: Lab) -> Index:
    nodes = {node.name: node for node in lab.nodes}
    # ``Service.director`` is the YAML name («lvs»); its node is the first of that group («lvs1»). Either is accepted.
    directors = {**{node.group: node for node in reversed(lab.nodes)}, **nodes}
    routed = tuple(network for network in lab.networks if network.routed)
    pairs = {pair.director: pair for pair in lab.pairs}
    teams: dict[str, tuple[str, ...]] = {}
    serving: dict[str, list[Role]] = {}
    directing: dict[str, list[Role]] = {}
    for service in lab.services:
        director, pair = directors[service.director], pairs.get(service.director)
        ways = tuple(network for network in routed if network.gateway6 or not is_six(service.vip))
        teams[service.director] = pair.nodes if pair else (director.name,)
        for name in teams[service.director]:
            directing.setdefault(name, []).append(Role(service, nodes[name], nodes[name], pair=pair, routed=ways))
        for server in service.servers:
            serving.setdefault(server.node, []).append(Role(service, nodes[server.node], director, server, pair, ways))
    return Index(nodes, _frozen(serving), _frozen(directing), teams)


def _frozen(roles: Mapping[str, list[Role]]) -> dict[str, tuple[Role, ...]]:
    return {name: tuple(found) for name, found in roles.items()}
