"""What runs, as data for ``status`` and ``ls``. From marks; the declared topology, where it is still there, adds what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vlab.engine.drivers import Drivers
from vlab.host import links
from vlab.hypervisors.mark import Domain
from vlab.lvs import resting
from vlab.lvs.status import ServiceState, service_states
from vlab.state import Journal
from vlab.topology.lab import Lab, Node, namespace

IPV6 = {"optional": True}
"""What a lab without IPv6 does not have, its JSON does not speak of."""


@dataclass(frozen=True, slots=True)
class NodeState:
    name: str
    group: str
    virt: str
    accel: str
    state: str
    image: str
    addresses: dict[str, str]
    addresses6: dict[str, str] | None = field(default=None, metadata=IPV6)


@dataclass(frozen=True, slots=True)
class NetworkState:
    name: str
    subnet: str
    mtu: int
    gateway: str
    bridge: str
    subnet6: str | None = field(default=None, metadata=IPV6)
    gateway6: str | None = field(default=None, metadata=IPV6)


@dataclass(frozen=True, slots=True)
class Status:
    """``state``: running (all there), degraded (a guest is not running), interrupted (a run was killed), absent. The JSON of ``status``."""

    lab: str
    state: str
    accel: str
    nodes: tuple[NodeState, ...]
    networks: tuple[NetworkState, ...]
    services: tuple[ServiceState, ...]
    notes: tuple[str, ...] = ()

    @property
    def active(self) -> str:
        """The director nodes that have VIPs, by commas."""
        return ",".join(dict.fromkeys(service.active for service in self.services if service.active))


def status(drivers: Drivers, lab: str, declared: Lab | None) -> Status:
    """Never fails because a guest does: a director that does not answer leaves its services' state «unknown»."""
    domains = {d.mark.node.name: d for d in drivers.hypervisors.domains(lab)}
    nodes = [_node_state(d.mark.node, d) for d in domains.values()]
    nodes += [_node_state(node, None) for node in _missing(declared, domains)]
    unfinished = Journal(drivers.paths.journal(lab)).unfinished()
    return Status(
        lab, _state(nodes, unfinished), _accel(domains.values()), tuple(sorted(nodes, key=lambda n: _order(declared, n.name))), _networks(lab),
        tuple(_services(drivers, domains)), (*(f"a run was interrupted in {step}" for step in unfinished), *_resting(lab, domains)),
    )  # fmt: skip


def _resting(lab: str, domains: Mapping[str, Domain]) -> Iterable[str]:
    """Each drained server once, however many directors know of it."""
    return dict.fromkeys(text for domain in domains.values() for text in resting.told(lab, domain.mark.services))


def _order(declared: Lab | None, name: str) -> tuple[int, str]:
    if declared is None:
        return 0, name
    names = [node.name for node in declared.nodes]
    return (names.index(name) if name in names else len(names)), name


def _missing(declared: Lab | None, domains: dict[str, Domain]) -> list[Node]:
    return [node for node in declared.nodes if node.name not in domains] if declared else []


def _node_state(node: Node, domain: Domain | None) -> NodeState:
    return NodeState(
        node.name, node.group, node.virt, domain.mark.accel if domain else "", domain.state if domain else "absent", node.image,
        {nic.network: str(nic.address.ip) for nic in node.nics},
        {nic.network: str(nic.address6.ip) for nic in node.nics if nic.address6} or None,
    )  # fmt: skip


def _state(nodes: Sequence[NodeState], unfinished: Sequence[str]) -> str:
    if not any(node.state == "running" for node in nodes):
        return "absent"
    if unfinished:
        return "interrupted"
    return "running" if all(node.state == "running" for node in nodes) else "degraded"


def _accel(domains: Iterable[Domain]) -> str:
    found = sorted({d.mark.accel for d in domains if d.mark.accel != "none"})
    return "+".join(found) or "none"


def _networks(lab: str) -> tuple[NetworkState, ...]:
    if namespace(lab) not in links.namespaces():
        return ()
    found = links.observe(namespace(lab)).bridges
    return tuple(
        NetworkState(
            b.network,
            str(b.address.network) if b.address else "",
            b.mtu,
            str(b.address.ip) if b.address else "",
            b.device,
            str(b.address6.network) if b.address6 else None,
            str(b.address6.ip) if b.address6 else None,
        )
        for b in sorted(found, key=lambda b: b.network)
    )


def _services(drivers: Drivers, domains: dict[str, Domain]) -> list[ServiceState]:
    teams: dict[str, list[Domain]] = {}
    for domain in domains.values():
        if domain.mark.services:
            teams.setdefault(domain.mark.node.group, []).append(domain)
    return [state for team in teams.values() for state in _director_services(drivers, team)]


def _director_services(drivers: Drivers, team: Sequence[Domain]) -> tuple[ServiceState, ...]:
    """``team`` are the nodes of one director, which all know its services."""
    channels = {d.mark.node.name: drivers.channel(d) for d in team if d.state == "running"}
    return service_states(team[0].mark.services, channels)
