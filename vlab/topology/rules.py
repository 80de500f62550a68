"""The cross rules: what the parts of a topology may be together. Pure.

``problems`` must be mended before anything is done; ``warnings`` say what works less well than it looks. Every rule is a
function from a ``Scope`` to findings, listed at the end of its module: names and sizes here, addresses and services in their
own. What a name that does not resolve would spoil, other rules skip.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import islice

from vlab.topology import (
    address_rules,
    drained,
    members,
    network_rules,
    pair_rules,
    service_key_rules,
    service_rules,
)
from vlab.topology.finding import Finding, Path, meant, show
from vlab.topology.model import Topology
from vlab.topology.scope import Scope
from vlab.topology.units import show_size
from vlab.topology.vocabulary import VIRT_KINDS

Rule = Callable[[Scope], Iterator[Finding]]

MOST_NODES = 20_000
MOST_REAL_SERVERS = 50_000
"""Of all services together."""

MOST_FINDINGS = 300
"""Nobody reads more, and each may cost a search for the name that was meant."""


def problems(
    topology: Topology, images: Collection[str] | None = None, absent: frozenset[str] = frozenset()
) -> list[Finding]:
    """Everything wrong between the parts. ``images`` are the known recipes, None to believe any name; ``absent`` are names that
    the file has but the topology lost, because they were wrong themselves. Ends after ``MOST_FINDINGS``."""
    if too_many := list(_too_many(topology)):
        return too_many
    scope = Scope(topology, images, absent)
    rules: tuple[Rule, ...] = (
        *RULES,
        *address_rules.RULES,
        *network_rules.RULES,
        *pair_rules.RULES,
        *service_rules.RULES,
        *service_key_rules.RULES,
        *drained.RULES,
    )
    found = (finding for rule in rules for finding in rule(scope))
    return list(islice(found, MOST_FINDINGS))


def warnings(topology: Topology) -> list[Finding]:
    """What is doubtful in a topology without problems."""
    scope = Scope(topology, None, frozenset())
    rules = (_empty_networks, _lonely_router, *service_rules.WARNINGS, *service_key_rules.WARNINGS, *drained.WARNINGS)
    return [finding for rule in rules for finding in rule(scope)]


def _too_many(topology: Topology) -> Iterator[Finding]:
    count = members.total(topology)
    if count > MOST_NODES:
        yield Finding(("groups",), f"the lab has {count} nodes; at most {MOST_NODES} fit", "lower the counts")
    servers = sum(
        (topology.groups[name].count if name in topology.groups else 1) * place.service.kernel_services
        for place in members.placed(topology)
        for name in place.service.real_servers
    )
    if servers > MOST_REAL_SERVERS:
        message = f"the services have {servers} real servers together; at most {MOST_REAL_SERVERS} fit"
        yield Finding(("directors",), message, "lower the counts, or remove services")


def _known_networks(scope: Scope) -> Iterator[Finding]:
    for path, networks in scope.attachments():
        for index, name in enumerate(networks):
            at = (*path, "networks", index)
            if scope.lacks(name, scope.topology.networks):
                yield Finding(at, f"there is no network {show(name)}", meant(name, scope.topology.networks))
            elif name in networks[:index]:
                yield Finding(at, f"network {show(name)} is listed twice", "one interface a network")


def _known_images(scope: Scope) -> Iterator[Finding]:
    if scope.images is None:
        return
    topology = scope.topology
    used = [(("groups", name, "image"), group.image) for name, group in topology.groups.items()]
    used += [(("directors", name, "image"), director.image) for name, director in topology.directors.items()]
    for path, image in used:
        if image not in scope.images:
            yield Finding(path, f"there is no image {show(image)}", meant(image, sorted(scope.images)))


def _known_overrides(scope: Scope) -> Iterator[Finding]:
    for name, group in scope.topology.groups.items():
        nodes = members.node_names(name, group.count)
        known = set(nodes)
        for node in group.nodes:
            if node not in known:
                hint = meant(node, nodes[:100]) or f"its nodes are {nodes[0]} to {nodes[-1]}"
                yield Finding(("groups", name, "nodes", node), f"group {show(name)} has no such node", hint)


def _one_name_one_thing(scope: Scope) -> Iterator[Finding]:
    """Nodes, groups and directors share one space of names, since commands take any of them."""
    topology = scope.topology
    owners = {name: f"the group {show(name)}" for name in topology.groups}
    for name in topology.directors:
        if name in owners:
            yield Finding(("directors", name), f"{owners[name]} has this name already", "rename one of them")
        owners[name] = f"the director {show(name)}"
    seen: dict[str, str] = {}
    clashes: set[tuple[str, str]] = set()
    for member in scope.directory.all:
        other = owners.get(member.name) or seen.get(member.name)
        if (
            other
            and (member.owner, other) not in clashes
            and not (member.path[0] == "directors" and member.owner in topology.groups)
        ):
            clashes.add((member.owner, other))
            yield Finding(
                member.path, f"its node {show(member.name)} has the same name as {other}", "rename one of them"
            )
        seen.setdefault(member.name, f"a node of {owners[member.owner]}")


def _kinds(scope: Scope) -> Iterator[Finding]:
    """Memory that a kind cannot boot with; R9: directors of a kind that cannot be one."""
    topology = scope.topology
    for name, group in topology.groups.items():
        least = VIRT_KINDS[group.virt].least_memory
        wanted: list[tuple[Path, int]] = [(("groups", name, "memory"), group.memory)]
        wanted += [(("groups", name, "nodes", n, "memory"), o.memory) for n, o in group.nodes.items() if o.memory]
        for path, memory in wanted:
            if memory < least:
                yield Finding(
                    path, f"{show_size(memory)} is too little for virt: {group.virt}", f"at least {show_size(least)}"
                )
    for name, director in topology.directors.items():
        kind = VIRT_KINDS[director.virt]
        if kind.no_director:
            yield Finding(
                ("directors", name, "virt"), f"a director cannot be {director.virt}: {kind.no_director}", "use para"
            )
        elif director.memory < kind.least_memory:
            message = f"{show_size(director.memory)} is too little for virt: {director.virt}"
            yield Finding(("directors", name, "memory"), message, f"at least {show_size(kind.least_memory)}")


def _empty_networks(scope: Scope) -> Iterator[Finding]:
    used = {name for _, networks in scope.attachments() for name in networks}
    for name in scope.topology.networks:
        if name not in used:
            yield Finding(
                ("networks", name), "nothing is on this network", "remove it, or add it to networks of a group"
            )


def _lonely_router(scope: Scope) -> Iterator[Finding]:
    routed = [name for name, network in scope.topology.networks.items() if network.routed]
    if len(routed) == 1:
        message = "no other network is routed, so there is nothing to forward to"
        yield Finding(
            ("networks", routed[0], "routed"), message, "set routed: true on another network too, or remove it"
        )


RULES = (_known_networks, _known_images, _known_overrides, _one_name_one_thing, _kinds)
