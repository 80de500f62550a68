"""Facts of healthy labs for the tests of rules: what the guests of ``lvs_labs`` would show if all their settings held."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.lvs_labs import FRONT, lab, node, service
from vlab.diagnosis import scene
from vlab.diagnosis.facts import ANY6, Asked, Daemon, Device, Fabric, Facts, Guest, Hop, Listener, Route
from vlab.diagnosis.reading import HOST_KEY, MACHINE_ID
from vlab.lvs import keepalived, modes, vrrp
from vlab.lvs.index import device
from vlab.lvs.ipvs import Destination, Table, Virtual
from vlab.lvs.settings import KEEPALIVED_CONF, for_node
from vlab.topology.family import Address, is_six
from vlab.topology.lab import Lab, Node, Pair, Service

MODULES = ("ip_vs", *(f"ip_vs_{name}" for name in ("rr", "wrr", "lc", "wlc", "sed", "sh", "ftp")))


def one_network() -> Lab:
    """Two clients beside director and real servers, DR."""
    servers = [node(f"web{i}", "web", "container", front=10 + i) for i in (1, 2)]
    clients = [node(f"client{i}", "client", "container", front=30 + i) for i in (1, 2)]
    www = service("www", "dr", servers, vip="10.20.0.100", scheduler="rr", inner="front")
    return lab("dr", [*servers, *clients, node("lvs1", "director", "para", front=2)], www, networks=(FRONT,))


def healthy(of: Lab) -> Facts:
    """What ``check`` would read of ``of`` if nothing were wrong."""
    owners: dict[Address, str] = {
        own.ip: nic.mac.lower() for each in of.nodes for nic in each.nics for own in nic.addresses
    }
    for it in of.services:
        owners[it.vip] = scene.directors(of, it)[0].nic(it.network).mac.lower()
    answers = {address: frozenset({mac}) for address, mac in owners.items()}
    calls = {f"bridge/bridge-nf-call-{family}tables": "0" for family in ("ip", "ip6", "arp")}
    asked = {it.name: Asked("client1", 2, 2, 2, 0) for it in of.services if it.port == 80}
    return Facts({each.name: guest(of, each) for each in of.nodes}, Fabric(calls, "", {}, answers), asked)


def guest(of: Lab, each: Node) -> Guest:
    """One node's inside, from its settings."""
    settings = for_node(of, each)
    nics = {link.name: Device(link.name, link.mac.lower(), link.mtu, up=True) for link in settings.links}
    tunnels = {t.name: Device(t.name, "", 1480, up=True, kind=t.kind, local=str(t.local)) for t in settings.tunnels}
    files = {f"/proc/sys/{item.key}": (item.value,) for item in settings.sysctls}
    files |= {
        MACHINE_ID: (each.machine_id,),
        HOST_KEY: (f"ssh-ed25519 {each.name}",),
        "/proc/sys/kernel/osrelease": ("6.1.0-56-cloud-amd64",),
    }
    routes = tuple(
        Route(r.destination, None if r.via == modes.ON_LINK else r.via, r.device, r.advmss) for r in settings.routes
    )
    roles = [role for role in scene.serving(of) if role.node.name == each.name and role.real_server]
    made = Guest(
        devices=nics | tunnels, addresses=tuple((a.device, a.address) for a in settings.addresses), routes=routes,
        hops=dict(_hops(of, each)), files=files,
        listeners=frozenset(Listener(r.service.protocol, ANY6 if is_six(r.service.vip) else None, r.real_server.port)
                            for r in roles if r.real_server),
    )  # fmt: skip
    return _director(of, each, made) if each in scene.directing(of) else made


def _hops(of: Lab, each: Node) -> list[tuple[Address, Hop]]:
    found = []
    for role in (role for role in scene.serving(of) if role.node.name == each.name):
        for route in scene.needs(role).routes:
            if route.destination.prefixlen == 0:
                found += [(client, Hop(route.via, route.device)) for client in scene.client_addresses(of, role.service)]
    return found


def _director(of: Lab, each: Node, made: Guest) -> Guest:
    directed = [it for it in of.services if each in scene.directors(of, it)]
    files = {
        **made.files,
        KEEPALIVED_CONF: tuple(keepalived.render(of, each).splitlines()),
        "/proc/modules": tuple(f"{name} 16384 0 - Live 0x0" for name in MODULES),
    }
    carried = {s.address: True for it in directed for s in it.real_servers}
    table = Table(tuple(virtual(it) for it in directed))
    made = replace(made, files=files, table=table, timeouts=(900, 120, 300), carried=carried)
    pair = vrrp.pair_of(of, each)
    return _of_pair(each, pair, made) if pair else made


def _of_pair(each: Node, pair: Pair, made: Guest) -> Guest:
    """The first node is the active one."""
    active = each.name == pair.nodes[0]
    floating = tuple((device(each, it.network), it.address) for it in pair.floating) if active else ()
    daemon = Daemon("master" if active else "backup", device(each, vrrp.sync_network(pair)), pair.vrid)
    return replace(made, addresses=(*made.addresses, *floating), daemons=(daemon,) if pair.sync else ())


def virtual(it: Service) -> Virtual:
    """A service as the table has it."""
    word = modes.mode(it.mode).ipvsadm
    servers = tuple(Destination(s.address, s.port, word, s.weight, 0, 0) for s in it.real_servers)
    return Virtual(it.protocol, it.vip, it.port, it.scheduler, it.persistence, (), destinations=servers)


# breaking one thing


def with_guest(facts: Facts, name: str, **changes: object) -> Facts:
    """The same, but for some fields of one guest."""
    return replace(facts, guests={**facts.guests, name: replace(facts.guests[name], **changes)})  # type: ignore[arg-type]  # any field


def with_file(facts: Facts, name: str, path: str, *lines: str) -> Facts:
    return with_guest(facts, name, files={**facts.guests[name].files, path: lines})


def with_sysctl(facts: Facts, name: str, key: str, value: str) -> Facts:
    return with_file(facts, name, f"/proc/sys/{key}", value)


def with_fabric(facts: Facts, **changes: object) -> Facts:
    return replace(facts, fabric=replace(facts.fabric, **changes))  # type: ignore[arg-type]  # any field


def with_service(facts: Facts, number: int, **changes: object) -> Facts:
    """The director lvs1's table with one service changed."""
    table = facts.guests["lvs1"].table
    assert table is not None
    changed = [replace(it, **changes) if at == number else it for at, it in enumerate(table.services)]  # type: ignore[arg-type]  # any field
    return with_guest(facts, "lvs1", table=Table(tuple(changed)))


__all__ = ["HOST_KEY", "MACHINE_ID", "Table"]
