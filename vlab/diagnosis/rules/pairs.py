"""Two nodes as one director: what VRRP and ip_vs' sync daemon need of both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlab.diagnosis.conf import Instance, instances
from vlab.diagnosis.facts import Daemon, Guest
from vlab.diagnosis.firewall import VRRP, stopping
from vlab.diagnosis.rule import Fault, Found, Rule
from vlab.diagnosis.rules.addresses import forgotten
from vlab.diagnosis.rules.config import text
from vlab.diagnosis.scene import Scene
from vlab.diagnosis.script import edit
from vlab.lvs import keepalived, vrrp
from vlab.lvs.index import device
from vlab.lvs.settings import KEEPALIVED_CONF
from vlab.topology.lab import Lab, Node, Pair


def _both(scene: Scene) -> Iterator[tuple[Pair, list[tuple[Node, Guest]]]]:
    """Each pair with those of its nodes that could be read."""
    for pair in scene.lab.pairs:
        yield pair, [(node, guest) for node, guest in scene.guests() if node.name in pair.nodes]


def _pair(lab: Lab, place: str) -> Pair:
    return next(pair for pair in lab.pairs if place in pair.nodes)


class _OfPair(Rule):
    """A rule about two nodes, either of which can be broken."""

    needs = "a pair of directors"

    def victims(self, lab: Lab) -> Sequence[str]:
        return [node for pair in lab.pairs if pair.floating for node in pair.nodes]


class SyncRole(_OfPair):
    id = "sync-daemon-role"
    number = 10
    title = "the sync daemon does not do a node's part in its pair"
    probes = "ipvsadm -L --daemon on both nodes of a pair, against who has the floating addresses, and the file's sync"
    why = (
        "The active node must tell of its connections (master) and the other must listen (backup), on one network and under one id. Otherwise "
        "the node that takes over knows of no connection and resets all that were established."
    )

    def found(self, scene: Scene) -> Iterator[Found]:
        for pair, nodes in _both(scene):
            for node, guest in nodes:
                wanted = _daemons(pair, node, guest)
                if wanted is not None and wanted != set(guest.daemons):
                    yield Found(
                        node.name, (f"{node.name} {_stands(pair, guest)}; its sync daemon: {_shown(guest.daemons)}, must be {_shown(wanted)}",),
                        (scene.run(node.name, "journalctl -u keepalived -n 20"), scene.run(node.name, "systemctl restart keepalived")),
                    )  # fmt: skip

    def passing(self, lab: Lab) -> float:  # noqa: ARG002 - every pair alike
        """A node's addresses are read a moment before its daemon, and a keepalived that starts has neither."""
        return 1.0

    def fault(self, lab: Lab, place: str) -> Fault:
        """Settling the node starts keepalived anew where there is a daemon to be kept, and with it the daemon."""
        pair = _pair(lab, place)
        stop = "".join(f"ipvsadm --stop-daemon {part} 2>/dev/null || :\n" for part in ("master", "backup"))
        if pair.sync:
            return Fault(place, stop)
        where = f"--mcast-interface {device(lab.node(place), vrrp.sync_network(pair))} --syncid {pair.vrid}"
        return Fault(place, f"{stop}ipvsadm --start-daemon backup {where}\n", ((place, stop),))


def _active(pair: Pair, guest: Guest) -> bool | None:
    """None for a node that has some of the floating addresses: another rule's."""
    wanted = {it.address.ip for it in pair.floating}
    mine = {address.ip for name, address in guest.addresses if name != "lo"}
    if wanted and wanted <= mine:
        return True
    return False if wanted.isdisjoint(mine) else None


def _daemons(pair: Pair, node: Node, guest: Guest) -> set[Daemon] | None:
    """What must run; None where that cannot be told."""
    active = _active(pair, guest)
    if not pair.floating or guest.table is None or active is None:
        return None
    part = "master" if active else "backup"
    return {Daemon(part, device(node, vrrp.sync_network(pair)), pair.vrid)} if pair.sync else set()


def _stands(pair: Pair, guest: Guest) -> str:
    if not pair.sync:
        return "is of a pair without sync"
    return "is the active one" if _active(pair, guest) else "stands by"


def _shown(daemons: Sequence[Daemon] | set[Daemon]) -> str:
    return " and ".join(f"{it.part} on {it.device} under id {it.id}" for it in daemons) or "none"


class VrrpDiffers(_OfPair):
    id = "vrrp-differs"
    number = 10
    title = "the nodes of a pair do not speak the same VRRP"
    probes = (
        "virtual_router_id, advert_int, authentication and version of the VRRP instances in both nodes' keepalived.conf"
    )
    why = (
        "keepalived takes no advertisement whose id, interval, password or version is not its own: each node hears nobody, both take the VIP, and "
        "clients go to the one that spoke last. A file that was not read again does so at the next reload or restart."
    )

    def found(self, scene: Scene) -> Iterator[Found]:
        for pair, nodes in _both(scene):
            if len(nodes) < 2:
                continue
            evidence = tuple(line for network in pair.networks for line in _unlike(network, nodes))
            if evidence:
                wrong = [node.name for node, guest in nodes if _spoken(node, guest) != _declared(scene.lab, node)]
                for name in wrong or pair.nodes[-1:]:
                    yield Found(
                        name, evidence,
                        (f"the same in {KEEPALIVED_CONF} of {' and '.join(pair.nodes)}, then " + scene.run(name, "systemctl reload keepalived"),),
                    )  # fmt: skip

    def fault(self, lab: Lab, place: str) -> Fault:
        """Not read yet, as by somebody who edits and goes home: which node would be cut off is not left to chance."""
        used = {pair.vrid for pair in lab.pairs}
        other = next(vrid for vrid in range(255, 0, -1) if vrid not in used)
        return Fault(place, edit(f"s/^\\( *virtual_router_id\\) .*/\\1 {other}/", reload=False))


def _spoken(node: Node, guest: Guest) -> dict[str, list[Instance]]:
    return _by_network(node, text(guest))


def _declared(lab: Lab, node: Node) -> dict[str, list[Instance]]:
    return _by_network(node, keepalived.render(lab, node))


def _by_network(node: Node, conf: str) -> dict[str, list[Instance]]:
    networks = {f"eth{number}": nic.network for number, nic in enumerate(node.nics)}
    found: dict[str, list[Instance]] = {}
    for each in instances(conf):
        found.setdefault(networks.get(each.interface, each.interface), []).append(each)
    return found


_WORDS = ("virtual_router_id", "advert_int", "authentication", "version")


def _heard(instance: Instance) -> tuple[str, ...]:
    """What the other node must say too, in the order of ``_WORDS``."""
    return str(instance.vrid), f"{instance.interval:g}", instance.authentication, str(instance.version)


def _unlike(network: str, nodes: Sequence[tuple[Node, Guest]]) -> Iterator[str]:
    (one, its), (other, others) = ((node.name, _spoken(node, guest).get(network, [])) for node, guest in nodes[:2])
    if len(its) != len(others):
        yield f"{one} has {len(its)} VRRP instances on {network}, {other} {len(others)}"
        return
    for mine, theirs in zip(its, others, strict=True):
        for word, here, there in zip(_WORDS, _heard(mine), _heard(theirs), strict=True):
            if here != there:
                yield f"on {network} {one} has {word} {here}, {other} {there}"


class VrrpBlocked(_OfPair):
    id = "vrrp-blocked"
    number = 4
    title = "a director's firewall drops VRRP"
    probes = "nft's rules on the input and output of both nodes of a pair, against VRRP's advertisements (protocol 112 to 224.0.0.18)"
    why = (
        "The active node says every second that it lives. A node that cannot hear that takes over, one that cannot say it is taken over from: "
        "both have the VIP at once. Where it is the active node that is deaf nothing shows until it stands by."
    )

    def found(self, scene: Scene) -> Iterator[Found]:
        for pair, nodes in _both(scene):
            for node, guest in nodes:
                evidence = tuple(dict.fromkeys(_stopped(pair, node, guest)))
                if evidence:
                    accept = "let «meta l4proto 112» pass before that rule, or delete it"
                    yield Found(node.name, evidence, (scene.run(node.name, "nft -a list ruleset"), accept))

    def fault(self, lab: Lab, place: str) -> Fault:
        pair = _pair(lab, place)
        table = "table inet vlab_fault_vrrp { chain input { type filter hook input priority -10; meta l4proto 112 drop; }; }"
        forget = (mend for it in pair.floating for mend in forgotten(lab, it.network, it.address.ip))
        gone = (place, "nft delete table inet vlab_fault_vrrp 2>/dev/null || :\n")
        return Fault(place, f"nft '{table}'\n", (gone, *forget))


def _stopped(pair: Pair, node: Node, guest: Guest) -> Iterator[str]:
    for network in pair.networks:
        for line in stopping(guest.ruleset, VRRP, on=device(node, network)):
            yield f"{node.name}: {line}"
