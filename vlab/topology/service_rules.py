"""The rules of services: references, one director for each VIP, and what its forwarding mode asks. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from vlab.topology.family import Address, is_six
from vlab.topology.finding import Finding, meant, show
from vlab.topology.members import Placed
from vlab.topology.mode_rules import ModeRules
from vlab.topology.scope import Scope
from vlab.topology.vocabulary import BY_DESTINATION, WEIGHT_BLIND


def _known_real_servers(scope: Scope) -> Iterator[Finding]:
    topology, directory = scope.topology, scope.directory
    for place in scope.services:
        seen: set[str] = set()
        for index, name in enumerate(place.service.real_servers):
            path = (*place.path, "real_servers", index)
            named = {member.name for member in directory.named(name)}
            if name in topology.directors or _is_director_node(scope, name):  # R10
                yield Finding(path, f"{show(name)} is a director, not a real server", "name a group or its nodes")
            elif not named and scope.lacks(name, topology.groups):
                yield Finding(path, f"there is no group or node {show(name)}", _meant_server(scope, name))
            elif twice := sorted(named & seen):
                yield Finding(path, f"node {show(twice[0])} is a real server twice", f"remove {name}")
            seen |= named


def _is_director_node(scope: Scope, name: str) -> bool:
    member = scope.directory.by_name.get(name)
    return member is not None and name not in scope.topology.groups and member.owner in scope.topology.directors


def _meant_server(scope: Scope, name: str) -> str:
    """Groups, and the nodes of the group the name seems to come from: a list that stays short in a lab of thousands."""
    groups = list(scope.topology.groups)
    own = scope.directory.by_owner.get(name.rstrip("0123456789"), [])
    if own:
        return f"the nodes of {show(own[0].owner)} are {own[0].name} to {own[-1].name}"
    return meant(name, [*groups, *(member.name for group in groups for member in scope.directory.by_owner[group][:9])])


def _known_by_node(scope: Scope) -> Iterator[Finding]:
    for place in scope.services:
        servers = [member.name for member in scope.directory.real_servers(place.service)]
        known = set(servers)
        for key in ("weights", "upper_thresholds", "lower_thresholds"):
            for name in getattr(place.service, key):
                if servers and name not in known and scope.lacks(name, known):
                    hint = (
                        f"{key} are given by node, like web1"
                        if name in scope.topology.groups
                        else meant(name, servers[:100])
                    )
                    yield Finding((*place.path, key, name), f"{show(name)} is no real server of the service", hint)


def _service_names(scope: Scope) -> Iterator[Finding]:
    """A service is called by its name alone («vlab forward 8080:www»), so it is one in the lab, and not a node's."""
    seen: dict[str, str] = {}
    for place in scope.services:
        if place.name in seen:
            message = f"director {show(seen[place.name])} has a service of this name already"
            yield Finding(place.path, message, "rename one of them")
        elif place.name in scope.directory.by_name:
            yield Finding(place.path, "a node has this name already", "rename one of them")
        seen.setdefault(place.name, place.director)


def _one_director_a_vip(scope: Scope) -> Iterator[Finding]:
    seen: dict[Address, Placed] = {}
    for place in scope.services:
        other = seen.setdefault(place.service.vip, place)
        if other.director != place.director:
            message = f"{place.service.vip} is a VIP of director {show(other.director)} already"
            yield Finding((*place.path, "vip"), message, "choose another vip")


def _modes(scope: Scope) -> Iterator[Finding]:
    for place in scope.services:
        if forwarding := scope.directory.forwarding(place):
            yield from ModeRules.known[place.service.mode].problems(forwarding)


def _keys_of_modes(scope: Scope) -> Iterator[Finding]:
    """A key that another mode would read."""
    owners = {key: name for name, rules in ModeRules.known.items() for key in rules.keys}
    for place in scope.services:
        for key, owner in owners.items():
            if owner != place.service.mode and getattr(place.service, key):
                yield Finding(
                    (*place.path, key), f"{place.service.mode} has no {key}", f"remove it, or use mode: {owner}"
                )


def _one_way_out(scope: Scope) -> Iterator[Finding]:
    """A nat real server's default route is its director: it can have one a family."""
    routes: dict[tuple[str, bool], Placed] = {}
    for place in scope.services:
        if not ModeRules.known[place.service.mode].takes_default_route(place.service):
            continue
        for member in scope.directory.backends(place.service):
            other = routes.setdefault((member.name, is_six(place.service.vip)), place)
            if other.director != place.director:
                message = (
                    f"node {show(member.name)} is a nat real server of director {show(other.director)} already, "
                    "and has one default route"
                )
                yield Finding((*place.path, "real_servers"), message, "use other real servers, or one director")
                break


def _mode_warnings(scope: Scope) -> Iterator[Finding]:
    for place in scope.services:
        if forwarding := scope.directory.forwarding(place):
            yield from ModeRules.known[place.service.mode].warnings(forwarding)


def _clients(scope: Scope) -> Iterator[Finding]:
    """A service nobody can call; R5: a scheduler that sees too few clients or only one destination."""
    for place in scope.services:
        service = place.service
        if (forwarding := scope.directory.forwarding(place)) is None:
            continue
        servers = scope.directory.backends(service)
        clients = sum(1 for _ in scope.directory.clients(forwarding.vip_network, servers))
        if not clients:
            message = f"no node on {show(forwarding.vip_network)} can be a client of it"
            yield Finding(place.path, message, f"add a group with networks: [{forwarding.vip_network}]")
        if service.scheduler in BY_DESTINATION:
            message = (
                f"{service.scheduler} chooses by destination, and a VIP is one destination: one real server gets it all"
            )
            yield Finding((*place.path, "scheduler"), message, "use wlc, or sh to choose by client")
        elif (
            service.scheduler in ("sh", "mh")
            and clients == 1
            and f"{service.scheduler}-port" not in service.scheduler_flags
        ):
            message = (
                f"{service.scheduler} chooses by client address, and there is one client: one real server gets it all"
            )
            yield Finding((*place.path, "scheduler"), message, "add clients, or use wlc")


def _weights(scope: Scope) -> Iterator[Finding]:
    """R15, and weights that the scheduler does not read."""
    for place in scope.services:
        service = place.service
        servers = scope.directory.real_servers(service)
        weights = {service.weights.get(member.name, service.weight) for member in servers}
        path = (*place.path, "weights" if service.weights else "weight")
        if weights == {0}:
            yield Finding(
                path, "every weight is 0: the service takes no connections", "give a real server a weight above 0"
            )
        elif service.scheduler in WEIGHT_BLIND and len(weights - {0}) > 1:
            yield Finding(path, f"scheduler {service.scheduler} does not look at weights", f"use w{service.scheduler}")


def _absent(scope: Scope) -> Iterator[Finding]:
    """A name that the kernel has, and its package in Debian 12 was built without."""
    for place in scope.services:
        if place.service.scheduler == "twos":
            yield Finding(
                (*place.path, "scheduler"),
                "Debian 12's kernel (6.1) has no module for scheduler twos, and the service would take no connections",
                "use wlc, or a director image with another kernel",
            )


def _lost_internet(scope: Scope) -> Iterator[Finding]:
    """A nat real server's only default route leads to the director. (Internet access is IPv4's.)"""
    for place in scope.services:
        routed = ModeRules.known[place.service.mode].takes_default_route(place.service)
        if not routed or is_six(place.service.vip) or (forwarding := scope.directory.forwarding(place)) is None:
            continue
        for name in sorted({name for networks in forwarding.servers.values() for name in networks}):
            if scope.topology.networks[name].internet:
                message = (
                    f"real servers route to the director by default, so internet on {show(name)} does not serve them"
                )
                yield Finding((*place.path, "mode"), message, "build what they need into the image")


RULES = (
    _known_real_servers,
    _known_by_node,
    _service_names,
    _one_director_a_vip,
    _modes,
    _keys_of_modes,
    _one_way_out,
)
WARNINGS = (_mode_warnings, _clients, _weights, _absent, _lost_internet)
