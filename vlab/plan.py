"""What must happen, as a printable list: ``make(wanted, observed)`` compares and returns steps, each with its reason. Pure.

The rules: a domain whose digest differs, or that is gone, is made again from a fresh clone; settings that differ are one ``settle`` of
the guest, which is never restarted for them; what carries the lab's mark and is not wanted is removed. A plan made right after a run must be
empty: the engine checks that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from vlab.hypervisors.mark import Domain
from vlab.lvs.moves import moves
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
    ROUTE = "route"
    MAKE_CLONE = "make-clone"
    REMOVE_CLONE = "remove-clone"
    ENSURE_GOLDEN = "ensure-golden"
    BOOT = "boot"
    RESTORE = "restore"
    DESTROY = "destroy"
    ATTACH = "attach"
    PREPARE = "prepare"
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

    def only(self, *actions: Action) -> Plan:
        """The steps of these actions, waiting for no others."""
        kept = tuple(step for step in self.steps if step.action in actions)
        present = {step.id for step in kept}
        return Plan(tuple(_after_only(present, step) for step in kept))


@dataclass(frozen=True, slots=True)
class WantedNode:
    """A node with what its kind made of it: ``form``, boot ``queue`` («vm» or «container») and ``domain``/``settings`` digests, which
    nobody reads of a node that is not there. ``golden`` is the snapshot that it is restored from, empty when none is needed; ``restored``
    says that it does not boot; ``again`` is why it is made anew though nothing about it changed."""

    node: Node
    form: str
    queue: str
    domain: str
    settings: str
    golden: str = ""
    restored: bool = False
    again: str = ""


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
    address6: str = ""
    routes6: bool = False
    """Has it the link-local address of a router?"""


@dataclass(frozen=True, slots=True)
class Observed:
    """A snapshot of everything that carries the lab's mark. ``domains`` by node, ``unreadable`` are nodes whose domain another version of
    vlab marked; ``ports`` device → bridge device; ``clones`` are node
    names with a clone folder; ``built`` are «image:form», ``goldens`` names; ``internet`` are the bridges with internet access, ``routed``
    those between which the namespace forwards, ``routed6`` IPv6; ``unadopted`` are devices that libvirt made and nobody moved into the namespace yet
    (a run was killed in between)."""

    namespace: bool = False
    bridges: tuple[FoundBridge, ...] = ()
    ports: Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, Domain] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()
    clones: frozenset[str] = frozenset()
    built: frozenset[str] = frozenset()
    goldens: frozenset[str] = frozenset()
    internet: frozenset[str] = frozenset()
    routed: frozenset[str] = frozenset()
    routed6: frozenset[str] = frozenset()
    unadopted: frozenset[str] = frozenset()


NOTHING = Observed()


def make(wanted: Wanted, observed: Observed) -> Plan:
    """The steps from ``observed`` to ``wanted``. Linear in the number of nodes."""
    steps: list[Step] = []
    steps += _images(wanted, observed)
    steps += _goldens(wanted, observed)
    steps += _removals(wanted, observed)
    steps += _networks(wanted.lab, observed)
    moving, readied = _moving(wanted, observed), _readied(wanted, observed)
    for node in _directors_first(wanted):
        steps += _node(wanted.lab, node, observed, moving.get(node.node.name), readied)
    present = {step.id for step in steps}
    return Plan(tuple(_after_only(present, step) for step in steps))


def _directors_first(wanted: Wanted) -> list[WantedNode]:
    """They have the most to do, and others wait for nobody."""
    return sorted(wanted.nodes, key=lambda each: each.node.group not in wanted.lab.directors)


def _readied(wanted: Wanted, observed: Observed) -> Mapping[str, Action]:
    """The nodes that this plan makes ready for others, and by which of its steps. keepalived begins a second after it has read its file
    (BOOTSTRAP_DELAY in lib/scheduler.h of 2.2.7), and a restored guest is settled by then, if not before."""
    return {
        it.node.name: Action.RESTORE if it.restored and _must_boot(it, observed) else Action.SETTLE
        for it in wanted.nodes
        if _must_boot(it, observed) or observed.domains[it.node.name].mark.settings != it.settings
    }


def _after_only(present: set[str], step: Step) -> Step:
    after = tuple(a for a in step.after if a in present)
    return step if after == step.after else replace(step, after=after)


def remove(observed: Observed) -> Plan:
    """The steps that take a whole lab away."""
    going = dict.fromkeys([*observed.domains, *sorted(observed.unreadable)])
    steps = [Step(Action.DESTROY, node, "the lab goes") for node in going]
    destroyed = tuple(step.id for step in steps)
    steps += [
        Step(Action.REMOVE_CLONE, node, "the lab goes", (f"{Action.DESTROY}/{node}",) if node in going else ())
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


def _goldens(wanted: Wanted, observed: Observed) -> Iterable[Step]:
    """One for each shape of guest that is restored; one that is there is compared with what was written before anybody runs from it."""
    first = {n.golden: n for n in reversed(_directors_first(wanted)) if n.golden and _must_boot(n, observed)}
    for name, node in reversed(first.items()):
        built = (f"{Action.BUILD_IMAGE}/{node.node.image}:{node.form}",)
        if name in observed.goldens:
            yield Step(Action.ENSURE_GOLDEN, name, "to be checked", built)
        else:
            yield Step(Action.ENSURE_GOLDEN, name, "not made yet", built, node.queue)


def _must_boot(wanted: WantedNode, observed: Observed) -> bool:
    found = observed.domains.get(wanted.node.name)
    return found is None or _replace_reason(wanted, found, observed) is not None


def _replace_reason(wanted: WantedNode, found: Domain, observed: Observed) -> str | None:
    """Why the domain must be made again, None if it may stay."""
    if wanted.again:
        return wanted.again
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
    yield from _routing(lab, observed)
    yield from _internet(lab, observed)


def _routing(lab: Lab, observed: Observed) -> Iterable[Step]:
    routed = [network for network in lab.networks if network.routed]
    four, six = frozenset(it.bridge for it in routed), frozenset(it.bridge for it in routed if it.subnet6)
    if (observed.routed, observed.routed6) != (four, six):
        names = ", ".join(network.name for network in routed)
        why = f"the lab's gateway forwards between {names}, and no other" if routed else "no network is routed any more"
        after = (
            f"{Action.CREATE_NAMESPACE}/namespace",
            *(f"{Action.ENSURE_BRIDGE}/{network.name}" for network in routed),
        )
        yield Step(Action.ROUTE, "networks", why, after)


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
    six = f"{network.gateway6}/{network.subnet6.prefixlen}" if network.subnet6 else ""
    if found.address6 != six:
        return f"its IPv6 address is {found.address6 or 'missing'}, not {six or 'wanted'}"
    if found.routes6 is not (network.routed and network.subnet6 is not None):
        routes = "routes IPv6 no more" if found.routes6 else "is to route IPv6"
        return f"it {routes}, and a router asks its neighbours from a link-local address"
    return None if found.mtu == network.mtu else f"its MTU is {found.mtu}, not {network.mtu}"


@dataclass(frozen=True, slots=True)
class _Move:
    """A real server whose services go over to another mode while they run: why, and the nodes that direct them."""

    why: tuple[str, ...]
    directors: tuple[str, ...]


def _moving(wanted: Wanted, observed: Observed) -> dict[str, _Move]:
    """By node. Only of directors that run on: one that is made again serves nobody meanwhile."""
    found: dict[str, _Move] = {}
    for node in wanted.nodes:
        if node.node.group not in wanted.lab.directors or _must_boot(node, observed):
            continue
        own = [service for service in wanted.lab.services if service.director == node.node.group]
        changed = moves(observed.domains[node.node.name].mark.services, own)
        for service in own:
            for server in service.real_servers if service.name in changed else ():
                earlier = found.get(server.node, _Move((), ()))
                why = (*earlier.why, f"{service.name} goes {changed[service.name]}")
                found[server.node] = _Move(tuple(dict.fromkeys(why)), (*earlier.directors, node.node.name))
    return found


def _node(
    lab: Lab, wanted: WantedNode, observed: Observed, move: _Move | None, readied: Mapping[str, Action]
) -> Iterable[Step]:
    found = observed.domains.get(wanted.node.name)
    reason = "absent" if found is None else _replace_reason(wanted, found, observed)
    if reason is not None:
        return _boot_steps(wanted, reason, _awaited(lab, wanted.node, readied), replaces=found is not None)
    assert found is not None
    return _touch_steps(lab, wanted, found, observed, move)


def _served(lab: Lab, node: Node) -> list[str]:
    """The nodes that a director's services are on."""
    return sorted({server.node for s in lab.services if s.director == node.group for server in s.servers})


def _awaited(lab: Lab, node: Node, readied: Mapping[str, Action]) -> tuple[str, ...]:
    """What a fresh director waits for: a health check that finds a real server half-made is repeated only after its whole interval."""
    return tuple(f"{readied[name]}/{name}" for name in _served(lab, node) if name in readied)


def _boot_steps(wanted: WantedNode, reason: str, served: Sequence[str], *, replaces: bool) -> list[Step]:
    name = wanted.node.name
    destroy = [Step(Action.DESTROY, name, reason)] if replaces else []
    bridges = tuple(f"{Action.ENSURE_BRIDGE}/{nic.network}" for nic in wanted.node.nics)
    golden = (f"{Action.ENSURE_GOLDEN}/{wanted.golden}",) if wanted.golden else ()
    start, queue = (Action.RESTORE, "restore") if wanted.restored else (Action.BOOT, wanted.queue)
    ready = f"{start}/{name}"
    early = [Step(Action.PREPARE, name, "all that needs no real server", (ready,))] if wanted.golden and served else []
    return [
        *destroy,
        Step(
            Action.MAKE_CLONE, name, "every boot starts from a fresh clone",
            (f"{Action.BUILD_IMAGE}/{wanted.node.image}:{wanted.form}", *golden, f"{Action.DESTROY}/{name}"),
        ),
        Step(
            start, name, reason, (f"{Action.MAKE_CLONE}/{name}", f"{Action.CREATE_NAMESPACE}/namespace", *bridges), queue
        ),
        *early,
        Step(Action.SETTLE, name, "a fresh guest has no settings", (early[0].id if early else ready, *served)),
    ]  # fmt: skip


def _touch_steps(lab: Lab, wanted: WantedNode, found: Domain, observed: Observed, move: _Move | None) -> list[Step]:
    name = wanted.node.name
    loose = [nic for nic in wanted.node.nics if observed.ports.get(nic.device) != lab.network(nic.network).bridge]
    steps = [Step(Action.ATTACH, name, f"{_names(loose)} not on its bridge, or down", _bridges(loose))] if loose else []
    if found.mark.settings != wanted.settings:
        why = "its settings changed" if found.mark.settings else "it has no settings yet"
        ready: tuple[str, ...] = (f"{Action.ATTACH}/{name}",)
        if move and found.mark.settings:
            steps.append(
                Step(Action.PREPARE, name, f"{'; '.join(move.why)}: both work until the director has switched", ready)
            )
            ready = (f"{Action.PREPARE}/{name}", *(f"{Action.SETTLE}/{director}" for director in move.directors))
        elif wanted.node.group in lab.directors:
            ready = (*ready, *(f"{Action.PREPARE}/{name}" for name in _served(lab, wanted.node)))
        steps.append(Step(Action.SETTLE, name, why, ready))
    return steps


def _bridges(nics: Iterable[Nic]) -> tuple[str, ...]:
    return (f"{Action.CREATE_NAMESPACE}/namespace", *(f"{Action.ENSURE_BRIDGE}/{nic.network}" for nic in nics))


def _names(nics: Iterable[Nic]) -> str:
    return ", ".join(nic.altname for nic in nics)
