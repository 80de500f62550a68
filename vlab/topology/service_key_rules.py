"""The rules of a service's own keys: ports and marks, flags, thresholds, the sorry server, and what checks can find out. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from vlab.topology.family import Address
from vlab.topology.finding import Finding, meant, show
from vlab.topology.members import Placed
from vlab.topology.ports import MOST_KERNEL_SERVICES, PortRange
from vlab.topology.scope import Scope
from vlab.topology.service_values import AUTO

FTP = PortRange(21, 21)


def _one_form_of_port(scope: Scope) -> Iterator[Finding]:
    for place in scope.services:
        service = place.service
        if service.port is not None and service.ports:
            yield Finding((*place.path, "ports"), "stands beside port", f"keep one, or add {service.port} to the list")
        if service.real_port is not None and (service.ports or service.fwmark is not None):
            what = "service on several ports" if service.ports else "service with a firewall mark"
            hint = "remove real_port, or write a service for each port"
            yield Finding((*place.path, "real_port"), f"a {what} keeps the client's port", hint)
        if service.kernel_services > MOST_KERNEL_SERVICES:
            message = (
                f"stands for {service.kernel_services} ports, each a service of its own in the kernel; "
                f"at most {MOST_KERNEL_SERVICES} fit"
            )
            yield Finding((*place.path, "ports"), message, "write fwmark: auto, which makes one service of them")


def _one_service_a_port(scope: Scope) -> Iterator[Finding]:
    """Sorted by their start, a port meets anybody before it only if it meets the one that reaches furthest."""
    places: dict[tuple[Address, str], list[tuple[PortRange, int, Placed]]] = {}
    for number, place in enumerate(scope.services):
        for ports in place.service.port_ranges:
            places.setdefault((place.service.vip, place.service.protocol), []).append((ports, number, place))
    for (vip, protocol), taken in places.items():
        first, *rest = sorted(taken, key=lambda it: it[:2])
        furthest = first
        for entry in rest:
            if furthest[0].meets(entry[0]) and furthest[2] is not entry[2]:
                yield _port_taken(vip, protocol, furthest, entry)
            furthest = max(furthest, entry, key=lambda it: it[0].last)


def _port_taken(
    vip: Address, protocol: str, one: tuple[PortRange, int, Placed], two: tuple[PortRange, int, Placed]
) -> Finding:
    """Said of the later service of the file."""
    first, second = sorted((one, two), key=lambda it: it[1])
    both = PortRange(max(one[0].first, two[0].first), min(one[0].last, two[0].last))
    key = "ports" if second[2].service.ports else "port"
    message = f"{vip} port {both}/{protocol} is service {show(first[2].name)} already"
    return Finding((*second[2].path, key), message, "choose another vip or port")


def _one_service_a_mark(scope: Scope) -> Iterator[Finding]:
    seen: dict[tuple[str, int], Placed] = {}
    for place in scope.services:
        mark = place.service.fwmark
        if mark is None or mark == AUTO:
            continue
        other = seen.setdefault((place.director, mark), place)
        if other is not place:
            message = f"{mark} is the mark of service {show(other.name)} already"
            yield Finding((*place.path, "fwmark"), message, "write fwmark: auto, or another number")


def _flags(scope: Scope) -> Iterator[Finding]:
    """R6, and flags of another scheduler, which keepalived would pass over."""
    for place in scope.services:
        service = place.service
        if service.one_packet and service.protocol != "udp":
            message = f"each datagram by itself is for udp, and the service is {service.protocol}"
            yield Finding((*place.path, "one_packet"), message, "remove one_packet, or write protocol: udp")
        for flag in service.scheduler_flags:
            owner = flag.partition("-")[0]
            if owner != service.scheduler:
                message = f"{flag} is a flag of scheduler {owner}, and the service's is {service.scheduler}"
                hint = f"write scheduler: {owner}, or remove {flag}"
                yield Finding((*place.path, "scheduler_flags"), message, hint)


def _thresholds(scope: Scope) -> Iterator[Finding]:
    """R11. Each pair of values is reported once, where the lower one was written."""
    for place in scope.services:
        service, said = place.service, set[tuple[int, int]]()
        for member in scope.directory.real_servers(service):
            own = service.lower_thresholds.get(member.name)
            lower = service.lower_threshold if own is None else own
            upper = service.upper_thresholds.get(member.name, service.upper_threshold)
            if not lower or lower < upper or (lower, upper) in said:
                continue
            said.add((lower, upper))
            key = ("lower_threshold",) if own is None else ("lower_thresholds", member.name)
            if upper:
                message = f"{lower} is not below the upper threshold of {show(member.name)}, {upper}"
                yield Finding((*place.path, *key), message, f"write {max(upper - 1, 0)} or less")
            else:
                message = f"means nothing for {show(member.name)}, which has no upper threshold"
                yield Finding((*place.path, *key), message, "write upper_threshold as well")


def _netmasks(scope: Scope) -> Iterator[Finding]:
    """The type allows what an IPv6 client's address has room for."""
    for place in scope.services:
        persistence, longest = place.service.persistence, place.service.vip.max_prefixlen
        if persistence and persistence.netmask and persistence.netmask > longest:
            message = f"{persistence.netmask} is longer than the addresses of clients, which are IPv4 like the service"
            yield Finding((*place.path, "persistence", "netmask"), message, f"write 1 to {longest}")


def _sorry_server(scope: Scope) -> Iterator[Finding]:
    for place in scope.services:
        name, path = place.service.sorry_server, (*place.path, "sorry_server")
        if name is None:
            continue
        member = scope.directory.by_name.get(name)
        if name in scope.topology.groups:
            first = scope.directory.by_owner[name][0].name
            yield Finding(path, f"{show(name)} is a group, and a sorry server is one node", f"write {first}")
        elif name in scope.topology.directors or (member and member.owner in scope.topology.directors):
            yield Finding(path, f"{show(name)} is a director, not a server", "name a node of a group")
        elif member is None:
            if scope.lacks(name, scope.directory.by_name):
                names = [node.name for node in scope.directory.all if node.owner in scope.topology.groups]
                yield Finding(path, f"there is no node {show(name)}", meant(name, names))
        elif member in scope.directory.real_servers(place.service):
            hint = "name another node, or take it out of real_servers"
            yield Finding(path, f"{show(name)} is a real server of the service already", hint)


def _quorum(scope: Scope) -> Iterator[Finding]:
    """keepalived would lower a quorum that cannot be reached, without a word to who wrote it."""
    for place in scope.services:
        service = place.service
        servers = scope.directory.real_servers(service)
        weight = sum(service.weights.get(member.name, service.weight) for member in servers)
        if servers and service.quorum > max(weight, 1):
            message = f"{service.quorum} is more than all real servers weigh together, {weight}"
            yield Finding((*place.path, "quorum"), message, f"write {weight} or less" if weight else "")


def _checks(scope: Scope) -> Iterator[Finding]:
    for place in scope.services:
        service = place.service
        kind = service.check_kind
        if kind == "udp" and service.protocol == "tcp" and service.check.port is None:
            yield Finding(
                (*place.path, "check"), "a udp check asks a udp port, and the service is tcp", "use check: tcp"
            )
        elif kind == "login" and service.protocol == "udp" and service.check.port is None:
            message = "a login is by tcp, and the service is udp"
            yield Finding((*place.path, "check"), message, "name the database's port: {login: {…}, port: 3306}")


def _check_warnings(scope: Scope) -> Iterator[Finding]:
    for place in scope.services:
        service = place.service
        kind = service.check_kind
        if service.protocol == "udp" and kind in ("tcp", "http") and service.check.port is None:
            message = f"the {kind} check connects by TCP, so real servers must answer TCP on the port as well"
            yield Finding((*place.path, "check"), message, "use check: udp, or name another port in it")


def _idle_quorum(scope: Scope) -> Iterator[Finding]:
    for place in scope.services:
        if place.service.quorum > 1 and place.service.sorry_server is None:
            message = "without a sorry server keepalived only reports that the quorum is lost"
            yield Finding((*place.path, "quorum"), message, "name a sorry_server")


def _one_packet_nat(scope: Scope) -> Iterator[Finding]:
    """ip_vs keeps no connection for such a datagram (ip_vs_conn.c), so it does not know whose reply it sees."""
    for place in scope.services:
        if place.service.one_packet and place.service.mode == "nat":
            message = (
                "nat does not know the replies of such datagrams, and clients get them from the real server's address"
            )
            yield Finding((*place.path, "one_packet"), message, "use mode: dr, unless nothing replies")


def _ftp(scope: Scope) -> Iterator[Finding]:
    """R13. Of a persistent service on port 21 ip_vs takes the data ports by itself (ip_vs_service_find in ip_vs_ctl.c)."""
    for place in scope.services:
        service = place.service
        if service.protocol != "tcp" or not any(ports.meets(FTP) for ports in service.port_ranges):
            continue
        if service.mode == "nat":
            message = "FTP names addresses in its answers, and the director has no ip_vs_ftp that would rewrite them"
            yield Finding((*place.path, "mode"), message, "use mode: dr")
        elif service.persistence is None:
            message = "FTP opens a second connection, which may go to another real server"
            yield Finding((*place.path, "persistence"), message, "write persistence: 300 s")


RULES = (
    _one_form_of_port,
    _one_service_a_port,
    _one_service_a_mark,
    _flags,
    _thresholds,
    _netmasks,
    _sorry_server,
    _quorum,
    _checks,
)
WARNINGS = (_check_warnings, _idle_quorum, _one_packet_nat, _ftp)
