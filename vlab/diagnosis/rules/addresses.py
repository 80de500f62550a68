"""Who has the virtual address, and who answers for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlab.diagnosis import scene as parts
from vlab.diagnosis.facts import Guest
from vlab.diagnosis.rule import NAMESPACE, Fault, Found, Rule
from vlab.diagnosis.scene import Scene
from vlab.diagnosis.script import write
from vlab.lvs.index import Role, device
from vlab.lvs.vrrp import takeover
from vlab.topology.family import Address, alone, is_six
from vlab.topology.lab import Lab, Service

ARP_KEYS = ("arp_ignore", "arp_announce")


class AnswersArp(Rule):
    id = "rs-answers-arp"
    number = 1
    title = "a real server answers ARP for the virtual address"
    probes = (
        "arp_ignore and arp_announce in force on each real server; an ARP question for each VIP, and every MAC that answers "
        "(IPv4 alone: neighbour discovery answers for no address of lo)"
    )
    why = (
        "In DR and TUN every real server has the VIP. If one answers ARP for it, clients send straight to that server: "
        "all their traffic passes the director by, for as long as their ARP entry lives."
    )
    needs = "an IPv4 service whose real servers have the VIP (dr, tun)"

    def found(self, scene: Scene) -> Iterator[Found]:
        for role, guest in scene.serving():
            evidence = [*_loud(role, guest), *_answered(scene, role)]
            if evidence:
                keys = " ".join(f"net.ipv4.conf.all.{key}={value}" for key, value in zip(ARP_KEYS, "12", strict=True))
                yield Found(
                    role.node.name, tuple(evidence),
                    (scene.run(role.node.name, f"sysctl -w {keys}"), f"on each client: ip neigh flush to {role.service.vip}"),
                )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return _silent_servers(lab)

    def fault(self, lab: Lab, place: str) -> Fault:
        roles = [role for role in parts.serving(lab) if role.node.name == place and _silenced(role)]
        keys = {item.key for role in roles for item in parts.needs(role).sysctls if item.key.endswith("arp_ignore")}
        return Fault(place, "".join(write(key, "0") for key in sorted(keys)), _forgotten(lab, roles))


def _silenced(role: Role) -> bool:
    return any(item.key.endswith("arp_ignore") for item in parts.needs(role).sysctls)


def _silent_servers(lab: Lab) -> list[str]:
    return list(dict.fromkeys(role.node.name for role in parts.serving(lab) if _silenced(role)))


def _forgotten(lab: Lab, roles: Sequence[Role]) -> tuple[tuple[str, str], ...]:
    """What others remember of the wrong MAC outlives the fault."""
    vips = {role.service.vip: role.service for role in roles}
    return tuple(mend for it in vips.values() for mend in forgotten(lab, it.network, it.vip))


def forgotten(lab: Lab, network: str, address: Address) -> Iterator[tuple[str, str]]:
    """Mends that make everybody on a network ask anew for an address: the nodes, and the host's end, from which ``vlab forward`` calls."""
    flush = f"ip neigh flush to {address}\n"
    yield from ((n.name, flush) for n in lab.nodes if any(it.network == network for it in n.nics))
    yield NAMESPACE, flush


def _loud(role: Role, guest: Guest) -> Iterator[str]:
    """By effect: the kernel takes the larger of «all» and the interface."""
    for item in parts.needs(role).sysctls:
        name, _, key = item.key.removeprefix("net/ipv4/conf/").partition("/")
        if key in ARP_KEYS and name != "all":
            have = guest.in_force(name, key)
            if have is not None and have < int(item.value):
                yield f"{role.node.name}: {key} in force on {name} is {have}, must be {item.value} or more"


def _answered(scene: Scene, role: Role) -> Iterator[str]:
    own = {nic.mac.lower() for nic in role.node.nics}
    if not _silenced(role):
        return
    for mac in sorted(scene.facts.fabric.answers.get(role.service.vip, frozenset()) & own):
        yield f"{role.node.name} answered an ARP question for {role.service.vip} on {role.service.network} with {mac}"


class Owner(Rule):
    id = "vip-owner"
    number = 10
    title = "the virtual address is not on exactly one director"
    probes = (
        "the addresses of every node; every MAC that answers an ARP question, or a neighbour solicitation, for each VIP"
    )
    why = (
        "Clients reach whoever owns the VIP. With two owners (split brain, an address typed into the wrong machine) each client goes to the "
        "one that answered last; with none the service is dark."
    )

    def found(self, scene: Scene) -> Iterator[Found]:
        for service in scene.lab.services:
            group = {node.name for node in parts.directors(scene.lab, service)}
            if not group <= scene.facts.guests.keys():
                continue  # a director that could not be read may be the owner
            holders = [(node.name, where) for node, guest in scene.guests() for where in _devices(guest, service.vip)]
            evidence = [*_wrong_holders(service, holders, group), *_strangers(scene, service)]
            if evidence:
                wrong = [(name, where) for name, where in holders if name not in group]
                yield Found(service.name, tuple(evidence), tuple(
                    scene.run(name, f"ip address del {alone(service.vip)} dev {where}") for name, where in wrong
                ) or (f"vlab explain {service.director}",))  # fmt: skip

    def passing(self, lab: Lab) -> float:
        """Until a pair that has just started, or lost its active node, is agreed."""
        return max((takeover(pair, node) for pair in lab.pairs for node in pair.nodes), default=0.0)

    def victims(self, lab: Lab) -> Sequence[str]:
        return _callers(lab)

    def fault(self, lab: Lab, place: str) -> Fault:
        services = _called(lab, place)
        nics = {it.vip: device(lab.node(place), it.network) for it in services}
        breaks = (f"ip address replace {alone(vip)} dev {nic}{_quietly(vip)}\n" for vip, nic in nics.items())
        gone = (f"ip address del {alone(vip)} dev {nic} 2>/dev/null || :\n" for vip, nic in nics.items())
        forget = (mend for it in services for mend in forgotten(lab, it.network, it.vip))
        return Fault(place, "".join(breaks), ((place, "".join(gone)), *forget))


def _devices(guest: Guest, vip: Address) -> list[str]:
    """Where a guest has an address for others to see: not on lo, where real servers keep it."""
    return [name for name, address in guest.addresses if address.ip == vip and name != "lo"]


def _wrong_holders(service: Service, holders: list[tuple[str, str]], group: set[str]) -> Iterator[str]:
    for name, where in holders:
        if name not in group:
            yield f"{name} has {service.vip} on {where}; it does not direct {service.name}"
    inside = sorted({name for name, _ in holders} & group)
    if len(inside) > 1:
        yield f"{' and '.join(inside)} have {service.vip} at the same time"
    if not inside:
        yield f"none of {', '.join(sorted(group))} has {service.vip}"


def _strangers(scene: Scene, service: Service) -> Iterator[str]:
    """MACs that answer for the VIP and belong to no node of the lab: outsiders."""
    known = parts.owners(scene.lab)
    found = {guest_device.mac for _, guest in scene.guests() for guest_device in guest.devices.values()}
    for mac in sorted(scene.facts.fabric.answers.get(service.vip, frozenset()) - known.keys() - found):
        if not mac.startswith("00:00:5e:00:"):  # VRRP's own MACs are a director's
            yield f"{mac}, which belongs to no node, answers {asked_by(service.vip)} for {service.vip}"


def asked_by(address: Address) -> str:
    """How neighbours are found."""
    return "neighbour discovery" if is_six(address) else "ARP"


def _quietly(address: Address) -> str:
    """IPv6 looks for other owners before it uses an address, and does not use it when it finds one. Deprecated: no source of the node's
    own questions."""
    return " nodad preferred_lft 0" if is_six(address) else ""


class StaleNeighbour(Rule):
    id = "client-arp-stale"
    number = 10
    title = "a client remembers a wrong MAC for the virtual address"
    probes = "the neighbours that every client remembers (ARP, IPv6), against the MACs that answer for each VIP now"
    why = (
        "After a failover or a mistake a client may keep sending to a MAC that does not own the VIP any more. The new owner announces itself "
        "by gratuitous ARP (in IPv6 by an advertisement); a client that missed it, or has a fixed entry, is cut off until the entry ages."
    )

    def found(self, scene: Scene) -> Iterator[Found]:
        for service in scene.lab.services:
            answering = scene.facts.fabric.answers.get(service.vip, frozenset())
            for client in parts.clients(scene.lab, service):
                guest = scene.guest(client.name)
                mac = guest.neighbours().get(service.vip) if guest else None
                if mac and answering and mac not in answering:
                    now = ", ".join(f"{it} ({scene.owner(it)})" for it in sorted(answering))
                    yield Found(
                        client.name, (f"{client.name} sends to {service.vip} at {mac} ({scene.owner(mac)}); {now} answers for it",),
                        (scene.run(client.name, f"ip neigh del {service.vip} dev {device(client, service.network)}"),),
                    )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return _callers(lab)

    def fault(self, lab: Lab, place: str) -> Fault:
        wheres = [f"{it.vip} dev {device(lab.node(place), it.network)}" for it in _called(lab, place)]
        fixed = (f"ip neigh replace {where} lladdr 52:54:00:00:00:fe nud permanent\n" for where in wheres)
        gone = (f"ip neigh del {where} 2>/dev/null || :\n" for where in wheres)
        return Fault(place, "".join(fixed), ((place, "".join(gone)),))


class Absent(Rule):
    id = "vip-absent"
    number = 13
    title = "a real server does not have the virtual address"
    probes = "the addresses of every real server, against what its mode needs"
    why = (
        "In DR and TUN requests still carry the VIP when they reach the real server; without it the server drops them, or forwards them. "
        "The health check asks the server's own address and goes on succeeding, so the director keeps sending."
    )
    needs = "a service whose real servers have the VIP (dr, tun)"

    def found(self, scene: Scene) -> Iterator[Found]:
        for role, guest in scene.serving():
            present = {address.ip for _, address in guest.addresses}
            for item in parts.needs(role).addresses:
                if item.address.ip not in present:
                    yield Found(
                        role.node.name, (f"{role.node.name} has {item.address} on no device; {role.service.name} needs it on {item.device}",),
                        (scene.run(role.node.name, f"ip address add {item.address} dev {item.device}"),),
                    )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return _with_vip(lab)

    def fault(self, lab: Lab, place: str) -> Fault:
        items = [item for role in parts.serving(lab) if role.node.name == place for item in parts.needs(role).addresses]
        items = parts.of_each_family(items, lambda item: item.address.ip)
        lines = (f"ip address del {item.address} dev {item.device} 2>/dev/null || :\n" for item in items)
        return Fault(place, "".join(lines))


class WidePrefix(Rule):
    id = "vip-wide-prefix"
    number = 17
    title = "the virtual address stands on lo with a whole subnet"
    probes = "the prefix length of every VIP on lo"
    why = (
        "An address on lo makes its whole prefix local: with /24 the real server takes every neighbour's address for its own, clients' "
        "included, and its answers never leave the machine. On lo a VIP is always /32, and /128 in IPv6."
    )
    needs = "a service whose real servers have the VIP (dr, tun)"

    def found(self, scene: Scene) -> Iterator[Found]:
        vips = {service.vip for service in scene.lab.services}
        for node, guest in scene.guests():
            for name, address in guest.addresses:
                if name == "lo" and address.ip in vips and address.network.prefixlen < address.max_prefixlen:
                    yield Found(
                        node.name, (f"{node.name} has {address} on lo, which claims all of {address.network}",),
                        (scene.run(node.name, f"ip address del {address} dev lo"),),
                    )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return _with_vip(lab)

    def fault(self, lab: Lab, place: str) -> Fault:
        roles = [role for role in parts.serving(lab) if role.node.name == place and parts.needs(role).addresses]
        services = parts.of_each_family((role.service for role in roles), lambda it: it.vip)
        wide = {it.vip: f"{it.vip}/{_prefix(lab, it)} dev lo" for it in services}
        mend = "".join(f"ip address del {where} 2>/dev/null || :\n" for where in wide.values())
        return Fault(place, "".join(_widened(vip, where) for vip, where in wide.items()), ((place, mend),))


def _prefix(lab: Lab, service: Service) -> int:
    network = lab.network(service.network)
    subnet = network.subnet6 if is_six(service.vip) else network.subnet
    return subnet.prefixlen if subnet else service.vip.max_prefixlen


def _widened(vip: Address, where: str) -> str:
    """IPv4 has an address once for each prefix, IPv6 once."""
    gone = f"ip address del {alone(vip)} dev lo 2>/dev/null || :\n" if is_six(vip) else ""
    return f"{gone}ip address replace {where}{_quietly(vip)}\n"


def _callers(lab: Lab) -> list[str]:
    """The best client of each service."""
    return list(dict.fromkeys(n.name for service in lab.services for n in parts.clients(lab, service)[:1]))


def _called(lab: Lab, client: str) -> list[Service]:
    """The first service of each family that a node is a client of."""
    mine = (it for it in lab.services if client in [node.name for node in parts.clients(lab, it)])
    return parts.of_each_family(mine, lambda it: it.vip)


def _with_vip(lab: Lab) -> list[str]:
    return list(dict.fromkeys(role.node.name for role in parts.serving(lab) if parts.needs(role).addresses))
