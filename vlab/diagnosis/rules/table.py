"""The director's table of services and real servers, and what of ip_vs decides the fate of connections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from vlab.diagnosis import scene as parts
from vlab.diagnosis.facts import Guest
from vlab.diagnosis.rule import Fault, Found, Rule
from vlab.diagnosis.scene import Scene
from vlab.diagnosis.script import rebuild, write
from vlab.lvs.index import index
from vlab.lvs.ipvs import Virtual
from vlab.lvs.modes import mode
from vlab.topology.family import endpoint, is_six, literal
from vlab.topology.lab import Lab, Service
from vlab.topology.vocabulary import BY_DESTINATION

ALL_TO_ONE = BY_DESTINATION | {"sh", "mh"}
"""Schedulers that give one client, or one VIP, always the same real server."""

FLAGS = {"Masq": "-m", "Route": "-g", "Tunnel": "-i"}
"""ipvsadm's option by its word in the Forward column."""


def key(service: Service) -> str:
    """The service as ipvsadm's options."""
    if service.fwmark is not None:
        return f"-f {service.fwmark}{' -6' if is_six(service.vip) else ''}"
    return f"-{service.protocol[0]} {service.endpoint}"


def _directed(lab: Lab, protocol: str) -> list[str]:
    found = {n.name: n for s in lab.services if s.protocol == protocol for n in parts.directors(lab, s)}
    return list(found)


def _first(lab: Lab, place: str, protocol: str = "") -> Service:
    """The first service of a director."""
    return next(
        service for service in lab.services
        if place in [node.name for node in parts.directors(lab, service)] and service.protocol.startswith(protocol)
    )  # fmt: skip


def _rebuilt(lab: Lab, place: str) -> tuple[tuple[str, str], ...]:
    service = _first(lab, place)
    return ((place, rebuild(service.vip, service.port)),)


def _sticky(service: Service, virtual: Virtual, guest: Guest) -> Iterator[str]:
    if virtual.persistence is not None and service.persistence is None:
        templates = sum(c.client_port == 0 and c.vip == service.vip for c in guest.connections)
        yield f"{service.name} is persistent for {virtual.persistence} s, the file asks for none; {templates} clients are bound to a server"
    if virtual.scheduler in ALL_TO_ONE and virtual.scheduler != service.scheduler:
        yield f"{service.name} is scheduled by {virtual.scheduler}, the file says {service.scheduler}"


class _Bound(Rule):
    """A client is bound to a server though the file does not say so, in services of one protocol."""

    protocol: ClassVar[str]

    def found(self, scene: Scene) -> Iterator[Found]:
        for service, node, guest, virtual in scene.tables():
            evidence = tuple(_sticky(service, virtual, guest)) if virtual and service.protocol == self.protocol else ()
            if evidence:
                yield Found(
                    service.name, evidence, (scene.run(node.name, f"ipvsadm -E {key(service)} -s {service.scheduler}"),)
                )

    def victims(self, lab: Lab) -> Sequence[str]:
        return _directed(lab, self.protocol)

    def fault(self, lab: Lab, place: str) -> Fault:
        service = _first(lab, place, self.protocol)
        return Fault(place, f"ipvsadm -E {key(service)} -s {service.scheduler} -p 300\n", _rebuilt(lab, place))


class Sticky(_Bound):
    id = "sticky-clients"
    number = 3
    title = "it does not balance: clients are bound to a server"
    probes = "persistence and scheduler in the director's table against the file; persistence templates in its connection table"
    why = (
        "A persistent service sends all of a client's connections to the server of its first one, whatever the scheduler says; sh, dh, lblc and "
        "their like do the same by address. With one client everything lands on one server."
    )
    needs = "a tcp service"
    protocol = "tcp"


class DrainBlackHole(Rule):
    id = "drain-black-hole"
    number = 6
    title = "connections to a removed server hang"
    probes = "expire_nodest_conn and expire_quiescent_template on each director"
    why = (
        "ip_vs drops packets of connections whose server left the table, silently: clients hang until they give up (expire_nodest_conn=0). "
        "Persistent clients keep coming to a server of weight 0 (expire_quiescent_template=0), so a drain never ends."
    )
    severity = "warning"

    def found(self, scene: Scene) -> Iterator[Found]:
        for node, guest in scene.directing():
            keys = [
                name
                for name in ("expire_nodest_conn", "expire_quiescent_template")
                if guest.sysctl(f"net/ipv4/vs/{name}") == "0"
            ]
            if keys:
                yield Found(
                    node.name, tuple(f"{node.name}: net.ipv4.vs.{name} is 0" for name in keys),
                    (scene.run(node.name, "sysctl -w " + " ".join(f"net.ipv4.vs.{name}=1" for name in keys)),),
                )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return [node.name for node in parts.directing(lab)]

    def fault(self, lab: Lab, place: str) -> Fault:  # noqa: ARG002 - every place alike
        return Fault(place, write("net/ipv4/vs/expire_nodest_conn", "0"))


class PortReuse(Rule):
    id = "port-reuse-stalls"
    number = 7
    title = "a client that uses a port again is stalled or sent to a dead server"
    probes = "conn_reuse_mode, conntrack and the kernel's version on each director"
    why = (
        "A busy client uses its ports again. With conn_reuse_mode 0 the new connection follows the old entry, also to a server of weight 0; with 1 "
        "it does so for two minutes in dr and tun, where the director sees only the client's end of a connection, even after a change of mode "
        "(is_new_conn_expected in ip_vs_core.c). With conntrack, and any mode but 0, kernels before 5.9 drop its first packet: benchmarks "
        "show steps of one second."
    )
    severity = "warning"

    def found(self, scene: Scene) -> Iterator[Found]:
        for node, guest in scene.directing():
            reuse, tracked = (guest.sysctl(f"net/ipv4/vs/{name}") for name in ("conn_reuse_mode", "conntrack"))
            unseen = _passed_by(scene.lab, node.name) if reuse == "1" else []
            if reuse == "0" or unseen:
                where = f", and the replies of {', '.join(unseen)} pass it by" if unseen else ""
                yield Found(node.name, (f"{node.name}: net.ipv4.vs.conn_reuse_mode is {reuse}{where}",),
                            (scene.run(node.name, "sysctl -w net.ipv4.vs.conn_reuse_mode=3"),))  # fmt: skip
            elif reuse is not None and tracked == "1" and _version(guest) < (5, 9):
                release = guest.sysctl("kernel/osrelease")
                yield Found(node.name, (f"{node.name}: conn_reuse_mode is {reuse} and conntrack 1 under Linux {release}",),
                            (scene.run(node.name, "sysctl -w net.ipv4.vs.conntrack=0"), "or a kernel from 5.9 on"))  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return [node.name for node in parts.directing(lab)]

    def fault(self, lab: Lab, place: str) -> Fault:  # noqa: ARG002 - every place alike
        return Fault(place, write("net/ipv4/vs/conn_reuse_mode", "0"))


def _passed_by(lab: Lab, node: str) -> list[str]:
    """The TCP services of a director whose replies it does not see."""
    mine = [role.service for role in index(lab).directing[node] if role.service.protocol == "tcp"]
    return [each.name for each in mine if not mode(each.mode).replies_through_director]


def _version(guest: Guest) -> tuple[int, ...]:
    """(6, 1) of «6.1.0-13-amd64»; a release that says nothing counts as new."""
    words = (guest.sysctl("kernel/osrelease") or "").split("-")[0].split(".")[:2]
    return tuple(int(word) for word in words) if len(words) == 2 and all(word.isdecimal() for word in words) else (99,)


class SchedulerMissing(Rule):
    id = "scheduler-missing"
    number = 8
    title = "ip_vs or a scheduler's module is not loaded"
    probes = "the loaded modules of each director, against the services' schedulers"
    why = (
        "A service cannot be added without its scheduler's module; keepalived says «IPVS: Scheduler or persistence engine not found» in its log "
        "and goes on without that service."
    )

    def found(self, scene: Scene) -> Iterator[Found]:
        for service, node, guest, _ in scene.tables():
            if missing := _missing(service, guest):
                yield Found(
                    service.name, tuple(f"{node.name}: module {name} is not loaded" for name in missing),
                    (scene.run(node.name, f"modprobe -a {' '.join(missing)}"), scene.run(node.name, "systemctl restart keepalived")),
                )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return [node.name for node in parts.directing(lab)]

    def fault(self, lab: Lab, place: str) -> Fault:
        service = _first(lab, place)
        module = f"ip_vs_{service.scheduler}"
        mend = f"modprobe {module}\n{rebuild(service.vip, service.port)}"
        return Fault(place, f"systemctl stop keepalived.service\nipvsadm -C\nmodprobe -r {module}\n", ((place, mend),))


def _missing(service: Service, guest: Guest) -> list[str]:
    """A kernel that says nothing of modules has them built in."""
    loaded = guest.modules()
    return [name for name in ("ip_vs", f"ip_vs_{service.scheduler}") if loaded and name not in loaded]


class ModeDiffers(Rule):
    id = "mode-differs"
    number = 12
    title = "the table forwards in another mode than the file says"
    probes = "the Forward column of the director's table"
    why = (
        "ipvsadm's own default is DR, keepalived's is NAT: a server added by hand without -m, -g or -i gets ipvsadm's. The real server is "
        "prepared for another mode, so its share of the requests fails while all checks are green."
    )

    def found(self, scene: Scene) -> Iterator[Found]:
        for service, node, _, virtual in scene.tables():
            wanted = mode(service.mode).ipvsadm
            for it in virtual.destinations if virtual else ():
                if it.method not in (wanted, "Local"):
                    where = endpoint(it.address, it.port)
                    yield Found(
                        service.name, (f"{node.name} forwards to {scene.server(it.address)} ({where}) by {it.method}, the file says {wanted}",),
                        (scene.run(node.name, f"ipvsadm -e {key(service)} -r {where} {FLAGS[wanted]} -w {it.weight}"),),
                    )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return [node.name for node in parts.directing(lab)]

    def fault(self, lab: Lab, place: str) -> Fault:
        service = _first(lab, place)
        server, masqueraded = service.real_servers[0], FLAGS[mode(service.mode).ipvsadm] == "-m"
        if masqueraded and server.port != service.port:  # ipvsadm would look for the service's own port
            lines = f"ipvsadm -a {key(service)} -r {literal(server.address)} -g -w {server.weight}\n"
        else:
            to = f"-r {endpoint(server.address, server.port)} {'-g' if masqueraded else '-m'}"
            lines = f"ipvsadm -e {key(service)} {to} -w {server.weight} 2>/dev/null || ipvsadm -a {key(service)} {to} -w {server.weight}\n"
        return Fault(place, lines, _rebuilt(lab, place))


class UdpBlackHole(_Bound):
    id = "udp-black-hole"
    number = 19
    title = "a UDP client is bound to a server, also to a dead one"
    probes = "persistence of UDP services in the director's table against the file"
    why = (
        "UDP has no end of a connection: ip_vs keeps a client at its server as long as it goes on asking, five minutes by default, and persistence "
        "keeps it beyond. When that server dies its clients ask into the void. One-packet scheduling (ops) has no such memory."
    )
    needs = "a udp service"
    protocol = "udp"


FTP = 21


class FtpHelper(Rule):
    id = "ftp-without-helper"
    number = 20
    title = "FTP's data connections find no way"
    probes = "for a service on port 21: the module ip_vs_ftp where the director rewrites addresses, persistence where it does not"
    why = (
        "FTP names the address of a second connection inside the first. In NAT ip_vs_ftp must rewrite that; in DR and TUN only persistence sends "
        "the second connection to the same server."
    )
    needs = "a service on port 21"

    def found(self, scene: Scene) -> Iterator[Found]:
        for service, node, guest, virtual in scene.tables():
            if service.port != FTP or service.protocol != "tcp":
                continue
            rewritten = mode(service.mode).replies_through_director
            if rewritten and guest.modules() and "ip_vs_ftp" not in guest.modules():
                yield Found(
                    service.name,
                    (f"{node.name}: module ip_vs_ftp is not loaded",),
                    (scene.run(node.name, "modprobe ip_vs_ftp"),),
                )
            if not rewritten and virtual and virtual.persistence is None:
                yield Found(
                    service.name,
                    (f"{node.name}: {service.name} is not persistent",),
                    ("persistence: 300 s for the service in the topology",),
                )

    def victims(self, lab: Lab) -> Sequence[str]:
        return list(dict.fromkeys(n.name for s in lab.services if s.port == FTP for n in parts.directors(lab, s)))

    def fault(self, lab: Lab, place: str) -> Fault:
        service = next(s for s in lab.services if s.port == FTP and place in [n.name for n in parts.directors(lab, s)])
        if mode(service.mode).replies_through_director:
            return Fault(place, "modprobe -r ip_vs_ftp\n", ((place, "modprobe ip_vs_ftp\n"),))
        return Fault(place, f"ipvsadm -E {key(service)} -s {service.scheduler}\n", _rebuilt(lab, place))


class TableWiped(Rule):
    id = "table-wiped"
    number = 23
    title = "a service is not in the director's table"
    probes = "each declared service in the director's table, while ip_vs and the scheduler are there"
    why = (
        "«ipvsadm -C» empties the table of the network namespace it is typed in, whoever made it. keepalived does not notice: it changes the "
        "table only when a check changes its mind."
    )

    def found(self, scene: Scene) -> Iterator[Found]:
        for service, node, guest, virtual in scene.tables():
            if virtual is None and not _missing(service, guest):
                yield Found(
                    service.name, (f"{node.name}: ipvsadm -Ln has no {service.protocol.upper()} {service.endpoint}",),
                    (scene.run(node.name, "systemctl restart keepalived"),),
                )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return [node.name for node in parts.directing(lab)]

    def fault(self, lab: Lab, place: str) -> Fault:
        return Fault(place, "ipvsadm -C\n", _rebuilt(lab, place))


SAVED = "/run/vlab-fault.timeouts"
LONGEST_FIN = 300
"""Seconds; the kernel's own is 120 (ip_vs_proto_tcp.c, FIN_WAIT)."""


class StaleCounts(Rule):
    id = "stale-counts"
    number = 24
    title = "InActConn counts connections that ended long ago"
    probes = "ip_vs' timeouts on each director"
    why = (
        "In DR and TUN the director sees requests only, so it guesses that a connection ended and keeps it as inactive until tcpfin runs out. A long "
        "timeout makes InActConn grow without end, and lc, wlc and their like count those as load."
    )
    severity = "note"

    def found(self, scene: Scene) -> Iterator[Found]:
        for node, guest in scene.directing():
            if guest.timeouts and guest.timeouts[1] > LONGEST_FIN:
                count = sum(d.inactive for s in guest.table.services for d in s.destinations) if guest.table else 0
                yield Found(
                    node.name, (f"{node.name}: an ended TCP connection is counted for {guest.timeouts[1]} s; {count} are counted now",),
                    (scene.run(node.name, "ipvsadm --set 0 120 0"),),
                )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return [node.name for node in parts.directing(lab)]

    def fault(self, lab: Lab, place: str) -> Fault:  # noqa: ARG002 - every place alike
        keep = f"[ -s {SAVED} ] || ipvsadm -l --timeout | sed 's/.*: //' >{SAVED}\n"
        mend = f"[ ! -s {SAVED} ] || ipvsadm --set $(cat {SAVED})\nrm -f {SAVED}\n"
        return Fault(place, f"{keep}ipvsadm --set 0 7200 0\n", ((place, mend),))
