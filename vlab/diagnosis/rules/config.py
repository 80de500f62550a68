"""keepalived.conf as it stands on the director, and the director's firewall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from vlab.diagnosis import scene as parts
from vlab.diagnosis.conf import Server, Virtual, instances, parse
from vlab.diagnosis.facts import Guest
from vlab.diagnosis.firewall import against
from vlab.diagnosis.rule import Fault, Found, Rule
from vlab.diagnosis.scene import Scene
from vlab.diagnosis.script import edit
from vlab.lvs import ipvs, keepalived
from vlab.lvs.index import device
from vlab.lvs.modes import mode
from vlab.lvs.settings import KEEPALIVED_CONF
from vlab.topology.family import endpoint, is_six
from vlab.topology.lab import Lab, Node, Pair, Service


def text(guest: Guest) -> str:
    return "\n".join(guest.files.get(KEEPALIVED_CONF, ()))


def written(scene: Scene) -> Iterator[tuple[Service, Node, Guest, Virtual]]:
    """Each service as the director's file has it."""
    for service, node, guest, _ in scene.tables():
        for virtual in parse(text(guest)):
            if (virtual.ip, virtual.port, virtual.protocol) == (service.vip, service.port, service.protocol):
                yield service, node, guest, virtual


class Firewalled(Rule):
    id = "vip-firewalled"
    number = 4
    title = "the director's firewall drops what comes for the virtual address"
    probes = "nft's rules on the director's input against each VIP; vrrp_strict in keepalived.conf"
    why = (
        "The director answers ARP for the VIP, so clients find it, and then drops their packets. keepalived's vrrp_strict does that by itself: "
        "it adds rules (table «keepalived») against every VIP whose owner has a priority below 255."
    )

    def found(self, scene: Scene) -> Iterator[Found]:
        for service, node, guest, _ in scene.tables():
            evidence = [
                f"{node.name}: {line}" for line in against(guest.ruleset, service.vip, hooks=("prerouting", "input"))
            ]
            evidence += [
                f"{node.name}: {KEEPALIVED_CONF} says vrrp_strict"
                for line in text(guest).splitlines()
                if line.strip() == "vrrp_strict"
            ]
            if evidence:
                asked = scene.facts.asked.get(service.name)
                seen = (
                    [f"{asked.node}: {asked.small} of {asked.requests} questions to {service.endpoint} were answered"]
                    if asked
                    else []
                )
                yield Found(
                    service.name,
                    (*evidence, *seen),
                    (scene.run(node.name, "nft -a list ruleset"), "delete that rule, or take vrrp_strict out"),
                )

    def victims(self, lab: Lab) -> Sequence[str]:
        return [node.name for node in parts.directing(lab)]

    def fault(self, lab: Lab, place: str) -> Fault:
        vips = sorted({s.vip for s in lab.services if place in [n.name for n in parts.directors(lab, s)]}, key=str)
        drops = " ".join(
            f"{'ip6' if is_six(vip) else 'ip'} daddr {vip} drop;" for vip in parts.of_each_family(vips, lambda vip: vip)
        )
        table = f"table inet vlab_fault {{ chain input {{ type filter hook input priority -10; {drops} }}; }}"
        return Fault(place, f"nft '{table}'\n", ((place, "nft delete table inet vlab_fault 2>/dev/null || :\n"),))


class PortDiffers(Rule):
    id = "port-differs"
    number = 11
    title = "a real server's port is not the service's, where the mode cannot change it"
    probes = "the ports of real servers in keepalived.conf and in the director's table"
    why = (
        "DR and TUN do not touch the packet: it arrives at the VIP's port whatever the table says. ipvsadm rewrites such a port without a word, "
        "keepalived takes it, and the check then asks a port that no client reaches."
    )
    needs = "a service in a mode that cannot change ports (dr, tun)"

    def found(self, scene: Scene) -> Iterator[Found]:
        for service, node, guest, virtual in written(scene):
            if mode(service.mode).replies_through_director:
                continue
            evidence = [
                f"{node.name}: the file has {scene.server(server.ip)} at {_place(server)}, {service.name} is port {service.port}"
                for server in virtual.servers if server.port != service.port
            ] + [
                f"{node.name}: the table has {scene.server(it.address)} at {endpoint(it.address, it.port)}, {service.name} is port {service.port}"
                for it in _destinations(service, guest) if it.port != service.port
            ]  # fmt: skip
            if evidence:
                yield Found(service.name, tuple(evidence), ("vlab fault clear, or vlab up, writes the file anew",))

    def victims(self, lab: Lab) -> Sequence[str]:
        return list(
            dict.fromkeys(
                n.name
                for s in lab.services
                if not mode(s.mode).replies_through_director
                for n in parts.directors(lab, s)
            )
        )

    def fault(self, lab: Lab, place: str) -> Fault:
        service = next(
            s for s in lab.services
            if place in [n.name for n in parts.directors(lab, s)] and not mode(s.mode).replies_through_director
        )  # fmt: skip
        server = service.real_servers[0]
        return Fault(
            place,
            edit(
                f"s/real_server {server.address} {server.port} /real_server {server.address} {server.port + 1} /",
                reload=True,
            ),
        )


def _place(server: Server) -> str:
    return endpoint(server.ip, server.port) if server.ip else f"{server.address}:{server.port}"


def _destinations(service: Service, guest: Guest) -> tuple[ipvs.Destination, ...]:
    found = guest.table.service(service.protocol, service.vip, service.port) if guest.table else None
    return found.destinations if found else ()


class SlowCheck(Rule):
    id = "slow-health-check"
    number = 14
    title = "the director checks its real servers too seldom"
    probes = "delay_loop in keepalived.conf against the file's check: {every: …}"
    why = (
        "keepalived's own default is one check a minute: a dead server keeps getting its share of the requests until then, "
        "and «failover does not work»."
    )
    severity = "warning"

    def found(self, scene: Scene) -> Iterator[Found]:
        for service, node, _, virtual in written(scene):
            if virtual.delay is None or virtual.delay > service.check.every:
                have = "keepalived's own 60 s" if virtual.delay is None else f"{virtual.delay:g} s"
                yield Found(
                    service.name, (f"{node.name}: {service.name} is checked every {have} (delay_loop), the file says {service.check.every:g} s",),
                    (f"delay_loop {service.check.every:g} in {KEEPALIVED_CONF}, then " + scene.run(node.name, "systemctl reload keepalived"),),
                )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return [node.name for node in parts.directing(lab)]

    def fault(self, lab: Lab, place: str) -> Fault:  # noqa: ARG002 - every place alike
        return Fault(place, edit("s/^\\( *delay_loop\\) .*/\\1 60/", reload=True))


class ReloadIgnored(Rule):
    id = "reload-ignored"
    number = 15
    title = "keepalived.conf was changed and the table was not"
    probes = "weights, scheduler and persistence of a changed keepalived.conf against the director's table"
    why = (
        "keepalived reads its file when it is told to; versions before 2.1 also missed some changes (persistence, weights after an inhibit). "
        "What the file says is then not what happens."
    )
    severity = "warning"

    def found(self, scene: Scene) -> Iterator[Found]:
        for service, node, guest, virtual in written(scene):
            declared = _declared(scene.lab, node, service)
            table = guest.table.service(service.protocol, service.vip, service.port) if guest.table else None
            if table is None or virtual == declared:
                continue
            evidence = tuple(f"{node.name}: {line}" for line in _unlike(scene, virtual, declared, table))
            if evidence:
                yield Found(service.name, evidence, (scene.run(node.name, "systemctl reload keepalived"),))

    def victims(self, lab: Lab) -> Sequence[str]:
        return [node.name for node in parts.directing(lab)]

    def fault(self, lab: Lab, place: str) -> Fault:  # noqa: ARG002 - every place alike
        return Fault(place, edit("s/^\\( *weight\\) .*/\\1 77/", reload=False))


def _declared(lab: Lab, node: Node, service: Service) -> Virtual | None:
    found = parse(keepalived.render(lab, node))
    return next((v for v in found if (v.protocol, v.ip, v.port) == (service.protocol, service.vip, service.port)), None)


def _unlike(scene: Scene, file: Virtual, declared: Virtual | None, table: ipvs.Virtual) -> Iterator[str]:
    """What somebody wrote into the file, and the table does not follow."""
    if (
        file.scheduler
        and (declared is None or file.scheduler != declared.scheduler)
        and file.scheduler != table.scheduler
    ):
        yield f"the file says scheduler {file.scheduler}, the table has {table.scheduler}"
    if (declared is None or file.persistence != declared.persistence) and file.persistence != table.persistence:
        yield f"the file says persistence {file.persistence}, the table has {table.persistence}"
    weights = {server.address: server.weight for server in declared.servers} if declared else {}
    for it in table.destinations:
        server = next((s for s in file.servers if s.ip == it.address), None)
        if server and server.weight != weights.get(server.address) and _weight_differs(server, it):
            yield f"the file says weight {server.weight} for {scene.server(it.address)}, the table has {it.weight}"


def _weight_differs(server: Server, it: ipvs.Destination) -> bool:
    return server.weight is not None and server.weight != it.weight


class RouterIds(Rule):
    id = "vrid-twice"
    number = 21
    title = "two groups of directors use one VRRP id on a network"
    probes = "virtual_router_id in every director's keepalived.conf"
    why = (
        "Directors with equal VRRP ids on one network take each other for peers: one group goes to backup and its VIPs vanish, "
        "or both fight for the role."
    )
    needs = "a pair of directors, and another director on one of its networks"

    def found(self, scene: Scene) -> Iterator[Found]:
        ids = sorted(
            (network, vrid, node.group, node.name)
            for node, guest in scene.directing()
            for network, vrid in _ids(node, guest)
        )
        for (network, vrid, group, name), (other_network, other_vrid, other_group, other) in pairwise(ids):
            if (network, vrid) == (other_network, other_vrid) and group != other_group:
                yield Found(name, (f"{name} and {other} both use virtual_router_id {vrid} on {network}",),
                            (f"another virtual_router_id for {other_group}",))  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return [node.name for _, _, node in _strangers(lab)]

    def fault(self, lab: Lab, place: str) -> Fault:
        """An instance of the lowest priority: it joins the pair's talk and does not win."""
        pair, network, node = next(found for found in _strangers(lab) if found[2].name == place)
        text = (
            f"vrrp_instance stranger {{\n    state BACKUP\n    interface {device(node, network)}\n"
            f"    virtual_router_id {pair.vrid}\n    priority 1\n}}\n"
        )
        return Fault(
            place,
            f"cat >>{KEEPALIVED_CONF} <<'END'\n{text}END\nsystemctl reload keepalived.service\n",
        )


def _strangers(lab: Lab) -> Iterator[tuple[Pair, str, Node]]:
    """A pair, one of the networks on which it speaks VRRP, and a director of another group there."""
    for pair in lab.pairs:
        for node in parts.directing(lab):
            shared = [nic.network for nic in node.nics if nic.network in pair.networks]
            if node.group != pair.director and shared:
                yield pair, shared[0], node


def _ids(node: Node, guest: Guest) -> Iterator[tuple[str, int]]:
    """(network, VRRP id) of each instance in the director's file."""
    networks = {f"eth{number}": nic.network for number, nic in enumerate(node.nics)}
    for each in instances(text(guest)):
        yield networks.get(each.interface, each.interface), each.vrid
