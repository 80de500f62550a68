"""What runs in guests and what they are: listeners, checksums, identities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from vlab.diagnosis import scene as parts
from vlab.diagnosis.facts import Guest
from vlab.diagnosis.reading import HOST_KEY, MACHINE_ID
from vlab.diagnosis.rule import Fault, Found, Rule
from vlab.diagnosis.rules.addresses import asked_by, forgotten
from vlab.diagnosis.scene import Scene
from vlab.hypervisors.kind import kind
from vlab.lvs.checkers import served
from vlab.lvs.index import Role, device
from vlab.topology.family import Address, is_six, literal
from vlab.topology.lab import Lab, Node

NGINX = "/etc/nginx/nginx.conf"
KEPT = f"{NGINX}.vlab-fault"


class NotListening(Rule):
    id = "rs-not-listening"
    number = 16
    title = "a real server's program does not listen where requests arrive"
    probes = "the sockets of every real server, against the address that requests carry in its mode"
    why = (
        "In DR and TUN requests still carry the VIP, in NAT the server's own address. A program bound to 127.0.0.1, or to the server's own address "
        "where the VIP is needed, refuses them; a check of the own address stays green."
    )

    def found(self, scene: Scene) -> Iterator[Found]:
        for role, guest in scene.serving():
            for port in _ports(role):
                if not _listens(role, guest, port):
                    yield _deaf(scene, role, guest, port)

    def victims(self, lab: Lab) -> Sequence[str]:
        return list(
            dict.fromkeys(
                r.node.name
                for r in parts.serving(lab)
                if r.node.image == "web" and r.real_server and r.real_server.port == 80
            )
        )

    def fault(self, lab: Lab, place: str) -> Fault:
        mine = (r for r in parts.serving(lab) if r.node.name == place and r.real_server and r.real_server.port == 80)
        roles = parts.of_each_family(mine, _arrives)
        edits = " ".join(f"-e '{_narrowed(role)}'" for role in roles)
        breaks = (
            f"[ -e {KEPT} ] || cp -p {NGINX} {KEPT}\nsed {edits} {KEPT} >{NGINX}\nsystemctl restart nginx.service\n"
        )
        mend = f"[ ! -e {KEPT} ] || {{ mv -f {KEPT} {NGINX}; systemctl restart nginx.service; }}\n"
        return Fault(place, breaks, ((place, mend),))


def _narrowed(role: Role) -> str:
    """sed's words that leave nginx an address at which the requests of ``role`` do not arrive. Its listener of IPv6 is in a file that
    the unit writes when it starts."""
    assert role.real_server is not None
    own, arrives = role.real_server.address, _arrives(role)
    if is_six(arrives):
        narrow = "[::1]" if arrives == own else literal(own)
        return f"s/include .run.nginx-ipv6.*/listen {narrow}:80;/"
    return f"s/listen 0\\.0\\.0\\.0:80/listen {'127.0.0.1' if arrives == own else own}:80/"


def _deaf(scene: Scene, role: Role, guest: Guest, port: int) -> Found:
    wanted = _arrives(role)
    bound = sorted(
        str(it.address or "0.0.0.0")
        for it in guest.listeners
        if (it.protocol, it.port) == (role.service.protocol, port)
    )
    seen = f"only on {', '.join(bound)}" if bound else "nowhere"
    return Found(
        role.node.name, (f"{role.node.name} listens for {role.service.protocol} {port} {seen}; {role.service.name} comes to {wanted}",),
        (scene.run(role.node.name, "ss -lnptu"), f"make the program listen on {'::' if is_six(wanted) else '0.0.0.0'} or {wanted}, and restart it"),
    )  # fmt: skip


def _ports(role: Role) -> list[int]:
    """Where the node must listen for the service."""
    return [
        port
        for each in role.service.each()
        for server in each.servers
        if server.node == role.node.name
        for port in served(each, server)
    ]


def _arrives(role: Role) -> Address:
    """The destination address of requests when they reach the real server."""
    assert role.real_server is not None
    return role.service.vip if parts.needs(role).addresses else role.real_server.address


def _listens(role: Role, guest: Guest, port: int) -> bool:
    wanted = (role.service.protocol, port)
    return any((it.protocol, it.port) == wanted and it.takes(_arrives(role)) for it in guest.listeners)


class BadChecksums(Rule):
    id = "bad-checksums"
    number = 18
    title = "packets arrive damaged"
    probes = "the counters of bad checksums on a client, before and after it asks each web service"
    why = (
        "A network card that is to compute checksums, and a tunnel or bridge that does not know, make packets that receivers drop without a word. "
        "Small tests work by chance, the rest is retransmitted until it times out."
    )
    needs = "an IPv4 web service whose replies do not pass the director, on real servers that are virtual machines"

    def found(self, scene: Scene) -> Iterator[Found]:
        for service in scene.lab.services:
            asked = scene.facts.asked.get(service.name)
            if asked and asked.bad_checksums > 0:
                answered = f"{asked.small + asked.large} of {2 * asked.requests} questions were answered"
                yield Found(
                    service.name, (f"{asked.node} counted {asked.bad_checksums} bad checksums while it asked {service.name}; {answered}",),
                    ("on each real server: ethtool -K eth0 tx off", "tc -s filter show dev eth0 egress: does something rewrite packets?"),
                )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return list(dict.fromkeys(role.node.name for role in parts.serving(lab) if _damageable(role)))

    def fault(self, lab: Lab, place: str) -> Fault:
        role = next(role for role in parts.serving(lab) if role.node.name == place and _damageable(role))
        nic = device(role.node, role.service.network)
        mend = f"tc qdisc del dev {nic} clsact 2>/dev/null || :\n"
        breaks = (
            f"{mend}tc qdisc add dev {nic} clsact\n"
            f"tc filter add dev {nic} egress protocol ip pref 1 flower src_ip {role.service.vip} action pedit munge offset 10 u16 set 0xbeef\n"
        )
        return Fault(place, breaks, ((place, mend),))


def _damageable(role: Role) -> bool:
    """Containers borrow the host's kernel, which need not have tc's actions. IPv6's header has no checksum, and TCP's is computed by
    the network card, behind tc."""
    if is_six(role.service.vip):
        return False
    replies_itself = bool(parts.needs(role).addresses) and any(
        nic.network == role.service.network for nic in role.node.nics
    )
    return replies_itself and role.service.check.kind == "http" and not kind(role.node.virt).shares_host_kernel


class DuplicateMac(Rule):
    id = "duplicate-mac"
    number = 22
    title = "two guests have the same MAC address"
    probes = "the MAC addresses of every guest's interfaces"
    why = (
        "A bridge learns for each MAC the one port behind which it last saw it. With two owners frames go to whoever spoke last: connections stall "
        "and revive in turns. A clone made without new addresses looks so."
    )

    def found(self, scene: Scene) -> Iterator[Found]:
        known: dict[str, list[str]] = {}
        for node, guest in scene.guests():
            for number in range(len(node.nics)):
                if have := guest.devices.get(f"eth{number}"):
                    known.setdefault(have.mac, []).append(f"{node.name}'s {have.name}")
        for mac, places in known.items():
            if len(places) > 1:
                wrong = [
                    place.partition("'")[0]
                    for place in places
                    if scene.owner(mac).partition(".")[0] != place.partition("'")[0]
                ]
                yield Found(
                    wrong[0] if wrong else places[0].partition("'")[0],
                    (f"{' and '.join(places)} have {mac}",),
                    _restarted(scene, wrong),
                )

    def victims(self, lab: Lab) -> Sequence[str]:
        return [role.node.name for role in parts.serving(lab) if _neighbour(lab, role.node)][::-1]

    def fault(self, lab: Lab, place: str) -> Fault:
        node = lab.node(place)
        network, other = _neighbour(lab, node) or (node.nics[0].network, node)
        nic = device(node, network)
        mend = (place, f"ip link set dev {nic} address {node.nic(network).mac}\n")
        forget = (it for own in node.nic(network).addresses for it in forgotten(lab, network, own.ip))
        return Fault(place, f"ip link set dev {nic} address {other.nic(network).mac}\n", (mend, *forget))


def _restarted(scene: Scene, nodes: Sequence[str]) -> tuple[str, ...]:
    lab = scene.lab
    return tuple(
        scene.run(name, f"ip link set dev {device(lab.node(name), nic.network)} address {nic.mac}")
        for name in nodes[:1] for nic in lab.node(name).nics
    )  # fmt: skip


def _neighbour(lab: Lab, node: Node) -> tuple[str, Node] | None:
    """(network, another node on it that directs nothing)."""
    busy = {director.name for director in parts.directing(lab)}
    for nic in node.nics:
        for other in lab.nodes:
            if other.name not in busy | {node.name} and any(it.network == nic.network for it in other.nics):
                return nic.network, other
    return None


class DuplicateIdentity(Rule):
    id = "duplicate-identity"
    number = 22
    title = "two guests are clones of one identity"
    probes = "machine id and SSH host key of every guest"
    why = (
        "A guest copied with its identity shares its machine id (DHCP leases, journals, anything that counts machines) and its host key: who logs in "
        "to one may be talking to the other."
    )
    severity = "warning"

    def found(self, scene: Scene) -> Iterator[Found]:
        yield from _twice(
            scene,
            "machine id",
            lambda guest: guest.line(MACHINE_ID),
            "a machine-id of its own, as vlab explain shows it",
        )
        yield from _twice(
            scene, "SSH host key", lambda guest: guest.line(HOST_KEY), "ssh-keygen makes it a key of its own"
        )

    def victims(self, lab: Lab) -> Sequence[str]:
        return [role.node.name for role in parts.serving(lab) if _neighbour(lab, role.node)][::-1]

    def fault(self, lab: Lab, place: str) -> Fault:
        _, other = _neighbour(lab, lab.node(place)) or ("", lab.node(place))
        return Fault(
            place,
            f"echo {other.machine_id} >{MACHINE_ID}\n",
            ((place, f"echo {lab.node(place).machine_id} >{MACHINE_ID}\n"),),
        )


def _twice(scene: Scene, what: str, read: Callable[[Guest], str], fix: str) -> Iterator[Found]:
    known: dict[str, list[str]] = {}
    for node, guest in scene.guests():
        if have := read(guest):
            known.setdefault(have, []).append(node.name)
    for have, names in known.items():
        if len(names) > 1:
            yield Found(names[-1], (f"{' and '.join(names)} have {what} {have[:60]}",), (fix,))


class DuplicateAddress(Rule):
    id = "duplicate-address"
    number = 22
    title = "two guests have the same IP address"
    probes = "the addresses of every guest; every MAC that answers an ARP question, or a neighbour solicitation, for each node's address"
    why = "Neighbours reach whichever of the two answered last; connections break whenever that changes."

    def found(self, scene: Scene) -> Iterator[Found]:
        for node in scene.lab.nodes:
            for nic in node.nics:
                if evidence := tuple(line for own in nic.addresses for line in _also(scene, node, own.ip)):
                    yield Found(node.name, evidence, ("take the address away from the other: ip address del",))

    def victims(self, lab: Lab) -> Sequence[str]:
        return [role.node.name for role in parts.serving(lab) if _neighbour(lab, role.node)][::-1]

    def fault(self, lab: Lab, place: str) -> Fault:
        node = lab.node(place)
        network, other = _neighbour(lab, node) or (node.nics[0].network, node)
        where = f"{other.address(network)}/32 dev {device(node, network)}"
        gone = (place, f"ip address del {where} 2>/dev/null || :\n")
        return Fault(place, f"ip address replace {where}\n", (gone, *forgotten(lab, network, other.address(network))))


def _also(scene: Scene, owner: Node, address: Address) -> Iterator[str]:
    for node, guest in scene.guests():
        for name, have in guest.addresses:
            if have.ip == address and node.name != owner.name:
                yield f"{node.name} has {owner.name}'s address {have} on {name}"
    known = parts.owners(scene.lab).keys()
    for mac in sorted(scene.facts.fabric.answers.get(address, frozenset()) - known):
        if not any(mac == it.mac for _, guest in scene.guests() for it in guest.devices.values()):
            yield f"{mac}, which belongs to no node, answers {asked_by(address)} for {owner.name}'s address {address}"
