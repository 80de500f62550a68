"""The ways that requests and replies take: routes, tunnels, filters by path, packet sizes, the host's bridges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlab.diagnosis import scene as parts
from vlab.diagnosis.facts import Guest
from vlab.diagnosis.firewall import dropping
from vlab.diagnosis.rule import NAMESPACE, Fault, Found, Rule
from vlab.diagnosis.scene import Scene
from vlab.diagnosis.script import write
from vlab.guests.settings import Route
from vlab.lvs.index import Role, device
from vlab.lvs.modes import ANYWHERE, ANYWHERE6, IP6_TCP_HEADERS, IP6IP6_HEADER, IP_TCP_HEADERS, mode
from vlab.topology.family import is_six
from vlab.topology.lab import Lab, Node, Service


class ReturnPath(Rule):
    id = "nat-return-path"
    number = 2
    title = "replies do not return through the director"
    probes = "«ip route get» to clients on each real server; ip_vs' connections that stay in SYN_RECV"
    why = (
        "In NAT the director puts the VIP back as the source of each reply. A reply that goes another way arrives from the real server's own "
        "address; the client never asked that address and resets the connection."
    )
    needs = "a service in a mode whose replies pass the director (nat)"

    def found(self, scene: Scene) -> Iterator[Found]:
        for role, guest in scene.serving():
            wanted = _default(role)
            if wanted is None:
                continue
            evidence = tuple(_wrong_hops(scene, role, guest, wanted))
            if evidence:
                yield Found(
                    role.node.name, (*evidence, *_waiting(scene, role)),
                    (scene.run(role.node.name, f"ip {_version(wanted)}route replace default via {wanted.via} dev {wanted.device}"),),
                )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return list(dict.fromkeys(role.node.name for role in parts.serving(lab) if _default(role)))

    def fault(self, lab: Lab, place: str) -> Fault:
        roles = [role for role in parts.serving(lab) if role.node.name == place]
        wanted = {route.destination: (route, role.service) for role in roles if (route := _default(role))}
        return Fault(place, "".join(_astray(lab, route, service) for route, service in wanted.values()))


def _default(role: Role) -> Route | None:
    """The default route that the mode asks of a real server, None where replies need not pass the director."""
    routes = parts.needs(role).routes if mode(role.service.mode).replies_through_director else ()
    return next((route for route in routes if route.destination in (ANYWHERE, ANYWHERE6)), None)


def _astray(lab: Lab, route: Route, service: Service) -> str:
    """The default route through the host's end of the network instead."""
    network = lab.network(service.inner_network)
    gateway = network.gateway6 if is_six(service.vip) else network.gateway
    return f"ip {_version(route)}route replace default via {gateway} dev {route.device}\n"


def _version(route: Route) -> str:
    """ip's option for what «default» means."""
    return "-6 " if is_six(route.destination) else ""


def _wrong_hops(scene: Scene, role: Role, guest: Guest, wanted: Route) -> Iterator[str]:
    for client in parts.client_addresses(scene.lab, role.service):
        hop = guest.hops.get(client)
        if hop is None:
            yield f"{role.node.name} has no route to {client} ({scene.server(client)}); replies must go via {wanted.via}"
        elif hop.via != wanted.via:
            way = f"via {hop.via}" if hop.via else f"straight on {hop.device}"
            yield f"{role.node.name} reaches {client} ({scene.server(client)}) {way}, not via {wanted.via} ({scene.server(wanted.via)})"


def _waiting(scene: Scene, role: Role) -> Iterator[str]:
    assert role.real_server is not None
    guest = scene.guest(role.director.name)
    found = [c for c in guest.connections if c.server == role.real_server.address] if guest else []
    stuck = sum(connection.state == "SYN_RECV" for connection in found)
    if stuck:
        yield f"{stuck} of {len(found)} connections to {role.node.name} wait in SYN_RECV on {role.director.name}"


class Forwarding(Rule):
    id = "director-does-not-forward"
    number = 2
    title = "the director does not forward, or redirects"
    probes = "ip_forward, send_redirects and IPv6's forwarding on each director, by the families of its services"
    why = (
        "Replies through the director are forwarded packets: without ip_forward (in IPv6 forwarding) they end there. With send_redirects it "
        "tells hosts of a shorter way that leads round it; IPv6 has no such switch."
    )

    def found(self, scene: Scene) -> Iterator[Found]:
        for node, guest in scene.directing():
            keys = _forwards(scene.lab, node)
            evidence = (*_closed(node, guest, keys), *(_redirecting(node, guest) if FORWARD in keys else ()))
            if evidence:
                dotted = " ".join(f"{key.replace('/', '.')}=1" for key in keys)
                quiet = " net.ipv4.conf.all.send_redirects=0" if FORWARD in keys else ""
                yield Found(node.name, evidence, (scene.run(node.name, f"sysctl -w {dotted}{quiet}"),))

    def victims(self, lab: Lab) -> Sequence[str]:
        return [node.name for node in parts.directing(lab)]

    def fault(self, lab: Lab, place: str) -> Fault:
        return Fault(place, "".join(write(key, "0") for key in _forwards(lab, lab.node(place))))


FORWARD, FORWARD6 = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"


def _forwards(lab: Lab, node: Node) -> list[str]:
    """The switches of what a director must pass on."""
    mine = (it for it in lab.services if node in parts.directors(lab, it))
    return [FORWARD6 if is_six(it.vip) else FORWARD for it in parts.of_each_family(mine, lambda it: it.vip)]


def _closed(node: Node, guest: Guest, keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        if guest.sysctl(key) == "0":
            yield f"{node.name}: {key.replace('/', '.')} is 0"


def _redirecting(node: Node, guest: Guest) -> Iterator[str]:
    for nic in node.nics:
        name = device(node, nic.network)
        if guest.in_force(name, "send_redirects"):
            yield f"{node.name}: send_redirects in force on {name} is 1"


class Decapsulation(Rule):
    id = "tun-no-decapsulation"
    number = 5
    title = "a real server does not unwrap the director's packets"
    probes = "each tunnel device that a mode needs: there, up, of the right kind and local address"
    why = (
        "In TUN a request arrives inside another packet. Without a tunnel device that is up the kernel answers the outer packet with "
        "«protocol unreachable» and the request is never seen."
    )
    needs = "a service in mode tun"

    def found(self, scene: Scene) -> Iterator[Found]:
        for role, guest in scene.serving():
            for tunnel in parts.needs(role).tunnels:
                have = guest.devices.get(tunnel.name)
                if have is None:
                    state = "is not there"
                elif not have.up:
                    state = "is down"
                elif have.local != str(tunnel.local):
                    state = f"has local address {have.local or 'any'}, not {tunnel.local}"
                else:
                    continue
                yield Found(
                    role.node.name, (f"{role.node.name}: tunnel {tunnel.name} ({tunnel.kind}) {state}",),
                    (scene.run(role.node.name, f"ip link set dev {tunnel.name} up"), "or vlab fault clear"),
                )  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return list(dict.fromkeys(role.node.name for role in parts.serving(lab) if parts.needs(role).tunnels))

    def fault(self, lab: Lab, place: str) -> Fault:
        names = sorted({t.name for r in parts.serving(lab) if r.node.name == place for t in parts.needs(r).tunnels})
        return Fault(place, "".join(f"ip link set dev {name} down\n" for name in names))


class ReversePath(Rule):
    id = "rs-rp-filter"
    number = 5
    title = "a real server drops requests by the reverse path filter"
    probes = "rp_filter in force on the devices by which requests and replies travel"
    why = (
        "Requests come in by another device than replies to the client go out. With rp_filter the kernel takes such packets for forged "
        "and drops them without a word."
    )
    needs = "a service whose requests and replies use different devices (tun, or dr over two networks)"

    def found(self, scene: Scene) -> Iterator[Found]:
        for role, guest in scene.serving():
            evidence = tuple(_filtering(role, guest))
            if evidence:
                keys = " ".join(f"net.ipv4.conf.{name}.rp_filter=0" for name in ("all", *_filtered(role)))
                yield Found(role.node.name, evidence, (scene.run(role.node.name, f"sysctl -w {keys}"),))

    def victims(self, lab: Lab) -> Sequence[str]:
        return list(dict.fromkeys(role.node.name for role in parts.serving(lab) if _filtered(role)))

    def fault(self, lab: Lab, place: str) -> Fault:  # noqa: ARG002 - every place alike
        return Fault(place, write("net/ipv4/conf/all/rp_filter", "1"))


def _filtered(role: Role) -> list[str]:
    """The devices on which the mode wants no reverse path filter."""
    keys = [item.key.split("/") for item in parts.needs(role).sysctls if item.key.endswith("/rp_filter")]
    return [words[3] for words in keys if words[3] != "all"]


def _filtering(role: Role, guest: Guest) -> Iterator[str]:
    for name in _filtered(role):
        if guest.in_force(name, "rp_filter"):
            yield f"{role.node.name}: rp_filter in force on {name} is {guest.in_force(name, 'rp_filter')}, must be 0"


class PacketSize(Rule):
    id = "tun-mtu"
    number = 5
    title = "wrapped packets do not fit into the way to a real server"
    probes = "a ping from the director of the largest wrapped packet that clients can cause, not to be fragmented; a question with 3 kB of body"
    why = (
        "The outer header makes a full packet too big for the way to the real server. Small questions work, uploads hang or crawl: what does not "
        "fit is dropped, and depends on ICMP to be told."
    )
    needs = "a service in mode tun"

    def found(self, scene: Scene) -> Iterator[Found]:
        for role, guest in scene.serving():
            evidence = (*_unfit(scene, role, guest), *_uploads(scene, role))
            if evidence:
                yield Found(role.node.name, evidence, (
                    f"network {role.service.inner_network}: mtu {wrapped(role, None)} or more in the topology, then vlab up",
                    "or a smaller advmss on the real servers' routes to clients",
                ))  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:
        return list(dict.fromkeys(role.director.name for role in parts.serving(lab) if parts.needs(role).tunnels))

    def fault(self, lab: Lab, place: str) -> Fault:
        roles = [r for r in parts.serving(lab) if r.director.name == place and parts.needs(r).tunnels]
        nic = device(roles[0].director, roles[0].service.inner_network)
        size = min(wrapped(role, None) for role in roles if device(role.director, role.service.inner_network) == nic)
        return Fault(place, f"ip link set dev {nic} mtu {size - 40}\n")


OUTER_HEADER = 20
"""The least that a tunnel adds (IPv4 in IPv4); others add more, but for IPv6 in IPv6 (``IP6IP6_HEADER``)."""


def wrapped(role: Role, guest: Guest | None) -> int:
    """Bytes of the largest packet that the director sends to a real server by tunnel: what the server lets clients send, and the outer
    header. ``guest`` tells what the server lets them send now, None what it should."""
    six = is_six(role.service.vip)
    headers, outer = (IP6_TCP_HEADERS, IP6IP6_HEADER) if six else (IP_TCP_HEADERS, OUTER_HEADER)
    routes = guest.routes if guest else parts.needs(role).routes
    limits = [route.advmss for route in routes if route.advmss and is_six(route.destination) == six]
    segment = min(limits) if limits else _client_mtu(role) - headers
    return segment + headers + outer


def _client_mtu(role: Role) -> int:
    return role.director.nic(role.service.network).mtu


def _unfit(scene: Scene, role: Role, guest: Guest) -> Iterator[str]:
    director = scene.guest(role.director.name)
    if not parts.needs(role).tunnels or director is None or role.real_server is None:
        return
    size = wrapped(role, guest)
    own = director.devices.get(device(role.director, role.service.inner_network))
    if director.carried.get(role.real_server.address) is False:
        yield f"{role.director.name} cannot send {wrapped(role, None)} bytes to {role.node.name} in one packet; a small one arrives"
    elif own and own.mtu < size:
        yield f"{role.node.name} lets clients send packets that are {size} bytes when wrapped; {own.name} of {role.director.name} takes {own.mtu}"


def _uploads(scene: Scene, role: Role) -> Iterator[str]:
    asked = scene.facts.asked.get(role.service.name)
    if asked and parts.needs(role).tunnels and asked.small == asked.requests > asked.large:
        lost = asked.requests - asked.large
        yield f"{asked.node}: {role.service.name} answered {asked.small} small questions of {asked.requests}; {lost} with 3 kB of body had no answer"


class HostFilter(Rule):
    id = "host-filters-bridge"
    number = 9
    title = "the host filters what crosses the lab's bridges"
    probes = "bridge-nf-call-* and nft chains in the lab's namespace; <filterref> in each domain's XML"
    why = (
        "A bridge is a cable for the lab. With bridge-nf-call its frames meet iptables (Docker's FORWARD DROP, firewalld); libvirt's clean-traffic "
        "drops packets whose source is not the guest's own address, which in DR and TUN is every reply."
    )
    needs = "br_netfilter on this host"

    def found(self, scene: Scene) -> Iterator[Found]:
        fabric = scene.facts.fabric
        called = [
            f"net.{key.replace('/', '.')} is 1 in {scene.lab.namespace}"
            for key, value in fabric.sysctls.items()
            if value != "0"
        ]
        chains = [
            f"{scene.lab.namespace}: {line}" for line in dropping(fabric.ruleset, hooks=("forward", "prerouting"))
        ]
        filters = [f"{node}: <filterref filter='{name}'/>" for node, names in fabric.filters.items() for name in names]
        if evidence := (*called, *chains, *filters):
            calls = " ".join(f"net.bridge.bridge-nf-call-{family}tables=0" for family in ("ip", "ip6", "arp"))
            inside = f"nsenter --net=/run/netns/{scene.lab.namespace}"
            yield Found(scene.lab.name, evidence, (
                f"{inside} sysctl -w {calls}",
            ))  # fmt: skip

    def victims(self, lab: Lab) -> Sequence[str]:  # noqa: ARG002 - every lab has a namespace
        return [NAMESPACE]

    def fault(self, lab: Lab, place: str) -> Fault:  # noqa: ARG002 - every lab has a namespace
        key = "net/bridge/bridge-nf-call-iptables"
        table = "table ip vlab_fault { chain forward { type filter hook forward priority 0; policy drop; }; }"
        mend = f"nft delete table ip vlab_fault 2>/dev/null || :\n[ ! -e /proc/sys/{key} ] || {write(key, '0')}"
        return Fault(place, f"{write(key, '1')}nft '{table}'\n", ((place, mend),))
