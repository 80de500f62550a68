"""What must happen, as a printable list: ``make(wanted, observed)`` compares and returns steps, each with its reason. Pure.

The rules: a domain whose digest differs, or that is gone, is made again from a fresh clone; settings that differ are one ``settle`` of
the guest, which is never restarted for them; what carries the lab's mark and is not wanted is removed. A plan made right after a run must be
empty: the engine checks that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from vlab.hypervisors.mark import Domain
from vlab.topology.lab import Lab, Network, Nic, Node


class Action(StrEnum):
    """Every deed vlab knows; ``engine.deeds`` has one method for each, of the same name."""

    BUILD_IMAGE = "build-image"
    CREATE_NAMESPACE = "create-namespace"
    DELETE_NAMESPACE = "delete-namespace"
    ENSURE_BRIDGE = "ensure-bridge"
    REMOVE_BRIDGE = "remove-bridge"
    START_INTERNET = "start-internet"
    STOP_INTERNET = "stop-internet"
    MAKE_CLONE = "make-clone"
    REMOVE_CLONE = "remove-clone"
    BOOT = "boot"
    DESTROY = "destroy"
    ATTACH = "attach"
    SETTLE = "settle"


@dataclass(frozen=True, slots=True)
class Step:
    """One deed. ``subject`` is a node, network or «image:form»; ``after`` are ids of steps that must be done first; steps of
    one ``queue`` share that queue's admission limit."""

    action: Action
    subject: str
    why: str
    after: tuple[str, ...] = ()
    queue: str = ""

    @property
    def id(self) -> str:
        return f"{self.action}/{self.subject}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in an order that respects ``after``."""

    steps: tuple[Step, ...]

    def __bool__(self) -> bool:
        return bool(self.steps)


@dataclass(frozen=True, slots=True)
class WantedNode:
    """A node with what its kind made of it: ``form``, boot ``queue`` («vm» or «container») and ``domain``/``settings`` digests."""

    node: Node
    form: str
    queue: str
    domain: str
    settings: str


@dataclass(frozen=True, slots=True)
class Wanted:
    lab: Lab
    nodes: tuple[WantedNode, ...]


@dataclass(frozen=True, slots=True)
class FoundBridge:
    """A bridge of the lab as the kernel has it."""

    device: str
    network: str
    mtu: int
    address: str


@dataclass(frozen=True, slots=True)
class Observed:
    """A snapshot of everything that carries the lab's mark. ``domains`` by node; ``ports`` device → bridge device; ``clones`` are node
    names with a clone folder; ``built`` are «image:form»; ``internet`` are the bridges with internet access; ``unadopted`` are devices
    that libvirt made and nobody moved into the namespace yet (a run was killed in between)."""

    namespace: bool = False
    bridges: tuple[FoundBridge, ...] = ()
    ports: Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, Domain] = field(default_factory=dict)
    clones: frozenset[str] = frozenset()
    built: frozenset[str] = frozenset()
    internet: frozenset[str] = frozenset()
    unadopted: frozenset[str] = frozenset()


NOTHING = Observed()


def make(wanted: Wanted, observed: Observed) -> Plan:
    """The steps from ``observed`` to ``wanted``. Linear in the number of nodes."""
    steps: list[Step] = []
    steps += _images(wanted, observed)
    steps += _removals(wanted, observed)
    steps += _networks(wanted.lab, observed)
    for node in wanted.nodes:
        steps += _node(wanted.lab, node, observed)
    present = {step.id for step in steps}
    return Plan(tuple(replace(step, after=tuple(a for a in step.after if a in present)) for step in steps))


def remove(observed: Observed) -> Plan:
    """The steps that take a whole lab away."""
    steps = [Step(Action.DESTROY, node, "the lab goes") for node in observed.domains]
    destroyed = tuple(step.id for step in steps)
    steps += [
        Step(
            Action.REMOVE_CLONE, node, "the lab goes", (f"{Action.DESTROY}/{node}",) if node in observed.domains else ()
        )
        for node in sorted(observed.clones)
    ]
    if observed.internet:
        steps.append(Step(Action.STOP_INTERNET, "internet", "the lab goes"))
    if observed.namespace:
        steps.append(
            Step(
                Action.DELETE_NAMESPACE, "namespace", "the lab goes, and every link of it with its namespace", destroyed
            )
        )
    return Plan(tuple(steps))


def _images(wanted: Wanted, observed: Observed) -> Iterable[Step]:
    needed = dict.fromkeys(f"{n.node.image}:{n.form}" for n in wanted.nodes if _must_boot(n, observed))
    return [Step(Action.BUILD_IMAGE, image, "not built yet") for image in needed if image not in observed.built]


def _must_boot(wanted: WantedNode, observed: Observed) -> bool:
    found = observed.domains.get(wanted.node.name)
    return found is None or _replace_reason(wanted, found, observed) is not None


def _replace_reason(wanted: WantedNode, found: Domain, observed: Observed) -> str | None:
    """Why the domain must be made again, None if it may stay."""
    if found.state != "running":
        return f"it is {found.state}"
    if lost := [n for n in wanted.node.nics if n.device not in observed.ports and n.device not in observed.unadopted]:
        return f"its NIC {_names(lost)} is gone"
    if found.mark.digest == wanted.domain:
        return None
    changed = [
        name
        for name in ("virt", "image", "memory", "cpus", "cpu_shares", "cpu_quota", "nics")
        if _differs(name, wanted.node, found)
    ]
    return f"{' and '.join(changed) or 'its image or definition'} changed"


def _differs(name: str, node: Node, found: Domain) -> bool:
    return bool(getattr(node, name) != getattr(found.mark.node, name))


def _removals(wanted: Wanted, observed: Observed) -> Iterable[Step]:
    names = {n.node.name for n in wanted.nodes}
    for name in observed.domains:
        if name not in names:
            yield Step(Action.DESTROY, name, "no longer in the topology")
    for name in sorted(observed.clones - names):
        yield Step(Action.REMOVE_CLONE, name, "no longer in the topology", (f"{Action.DESTROY}/{name}",))


def _networks(lab: Lab, observed: Observed) -> Iterable[Step]:
    create = f"{Action.CREATE_NAMESPACE}/namespace"
    if not observed.namespace:
        yield Step(Action.CREATE_NAMESPACE, "namespace", f"{lab.namespace} is absent")
    found = {bridge.device: bridge for bridge in observed.bridges}
    for network in lab.networks:
        if reason := _bridge_reason(network, found.get(network.bridge)):
            yield Step(Action.ENSURE_BRIDGE, network.name, reason, (create,))
    for device in found.keys() - {network.bridge for network in lab.networks}:
        yield Step(Action.REMOVE_BRIDGE, found[device].network, "no longer in the topology")
    yield from _internet(lab, observed)


def _internet(lab: Lab, observed: Observed) -> Iterable[Step]:
    online = [network for network in lab.networks if network.internet]
    names = ", ".join(network.name for network in online)
    after = tuple(f"{Action.ENSURE_BRIDGE}/{network.name}" for network in online)
    if online and observed.internet != {network.bridge for network in online}:
        yield Step(Action.START_INTERNET, "internet", f"for network {names}, and no other", after)
    if observed.internet and not online:
        yield Step(Action.STOP_INTERNET, "internet", "no network asks for it")


def _bridge_reason(network: Network, found: FoundBridge | None) -> str | None:
    if found is None:
        return "absent"
    address = f"{network.gateway}/{network.subnet.prefixlen}"
    if found.address != address:
        return f"its address is {found.address or 'missing'}, not {address}"
    return None if found.mtu == network.mtu else f"its MTU is {found.mtu}, not {network.mtu}"


def _node(lab: Lab, wanted: WantedNode, observed: Observed) -> Iterable[Step]:
    found = observed.domains.get(wanted.node.name)
    reason = "absent" if found is None else _replace_reason(wanted, found, observed)
    if reason is not None:
        return _boot_steps(wanted, reason, replaces=found is not None)
    assert found is not None
    return _touch_steps(lab, wanted, found, observed)


def _boot_steps(wanted: WantedNode, reason: str, *, replaces: bool) -> list[Step]:
    name = wanted.node.name
    destroy = [Step(Action.DESTROY, name, reason)] if replaces else []
    bridges = tuple(f"{Action.ENSURE_BRIDGE}/{nic.network}" for nic in wanted.node.nics)
    return [
        *destroy,
        Step(
            Action.MAKE_CLONE, name, "every boot starts from a fresh clone",
            (f"{Action.BUILD_IMAGE}/{wanted.node.image}:{wanted.form}", f"{Action.DESTROY}/{name}"),
        ),
        Step(
            Action.BOOT, name, reason, (f"{Action.MAKE_CLONE}/{name}", f"{Action.CREATE_NAMESPACE}/namespace", *bridges),
            wanted.queue,
        ),
        Step(Action.SETTLE, name, "a fresh guest has no settings", (f"{Action.BOOT}/{name}",)),
    ]  # fmt: skip


def _touch_steps(lab: Lab, wanted: WantedNode, found: Domain, observed: Observed) -> list[Step]:
    name = wanted.node.name
    bridge_of = {network.name: network.bridge for network in lab.networks}
    loose = [nic for nic in wanted.node.nics if observed.ports.get(nic.device) != bridge_of[nic.network]]
    steps = [Step(Action.ATTACH, name, f"{_names(loose)} not on its bridge", _bridges(loose))] if loose else []
    if found.mark.settings != wanted.settings:
        why = "its settings changed" if found.mark.settings else "it has no settings yet"
        steps.append(Step(Action.SETTLE, name, why, (f"{Action.ATTACH}/{name}",)))
    return steps


def _bridges(nics: Iterable[Nic]) -> tuple[str, ...]:
    return (f"{Action.CREATE_NAMESPACE}/namespace", *(f"{Action.ENSURE_BRIDGE}/{nic.network}" for nic in nics))


def _names(nics: Iterable[Nic]) -> str:
    return ", ".join(nic.altname for nic in nics)
