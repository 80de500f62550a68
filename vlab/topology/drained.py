"""The key ``drained`` of a service: real servers that rest, with the weight they will have again kept where it is written. Pure.

A drained server has weight 0: ip_vs gives it no new connections, those it has go on. That the weight stays in the file is what
``undrain`` needs, and what lets a lab's declared topology, a checkpoint and a reset director all agree on who rests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from vlab.topology import lab
from vlab.topology.finding import Finding, meant, show
from vlab.topology.members import Placed
from vlab.topology.scope import Scope

STUBBORN = ("sh", "mh", "dh")
"""Schedulers whose hash leads some clients to a server of weight 0, where the kernel refuses them: ip_vs_sh.c, ip_vs_mh.c and
ip_vs_dh.c look for another server only under their fallback flag, and dh has none."""

FALLBACKS = {"sh": "sh-fallback", "mh": "mh-fallback"}
"""The scheduler's flag that sends such clients elsewhere."""


def resting(service: lab.Service, drained: Collection[str]) -> lab.Service:
    """``service`` with the real servers named in ``drained`` at weight 0, each remembering its own."""
    if not drained:
        return service
    return replace(service, real_servers=tuple(_rest(s) if s.node in drained else s for s in service.real_servers))


def _rest(server: lab.RealServer) -> lab.RealServer:
    return replace(server, weight=0, drained=server.weight)


def _known_drained(scope: Scope) -> Iterator[Finding]:
    for place in scope.services:
        servers = [member.name for member in scope.directory.real_servers(place.service)]
        known = set(servers)
        for index, name in enumerate(place.service.drained):
            path = (*place.path, "drained", index)
            if servers and name not in known and scope.lacks(name, known):
                group = name in scope.topology.groups
                hint = "single nodes are drained, like web1" if group else meant(name, servers[:100])
                yield Finding(path, f"{show(name)} is no real server of the service", hint)
            elif name in place.service.drained[:index]:
                yield Finding(path, f"{show(name)} is listed twice", "list it once")


def _nobody_left(scope: Scope) -> Iterator[Finding]:
    for place in scope.services:
        weights = _weights(scope, place)
        if place.service.drained and not any(weights.values()) and _any_weight(scope, place):
            message = "every real server is drained or has weight 0: the service takes no connections"
            yield Finding((*place.path, "drained"), message, "leave one of them in service")


def _refused(scope: Scope) -> Iterator[Finding]:
    for place in scope.services:
        service = place.service
        weights = _weights(scope, place)
        idle = [name for name, weight in weights.items() if not weight]
        moved = FALLBACKS.get(service.scheduler) in service.scheduler_flags
        if service.scheduler in STUBBORN and not moved and idle and len(idle) < len(weights):
            message = (
                f"{service.scheduler} goes on giving {show(idle[0])} its clients, and they are refused, "
                "because its weight is 0"
            )
            yield Finding(
                (*place.path, "drained" if service.drained else "scheduler"), message, _way_out(service.scheduler)
            )


def _way_out(scheduler: str) -> str:
    flag = FALLBACKS.get(scheduler)
    return f"write scheduler_flags: [{flag}], which moves them; or use wlc" if flag else "use wlc"


def _weights(scope: Scope, place: Placed) -> dict[str, int]:
    """The weights in force, by node."""
    drained = set(place.service.drained)
    own = place.service.weights
    servers = scope.directory.real_servers(place.service)
    return {m.name: 0 if m.name in drained else own.get(m.name, place.service.weight) for m in servers}


def _any_weight(scope: Scope, place: Placed) -> bool:
    servers = scope.directory.real_servers(place.service)
    return any(place.service.weights.get(member.name, place.service.weight) for member in servers)


RULES = (_known_drained,)
WARNINGS = (_nobody_left, _refused)
