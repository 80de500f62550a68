"""One method for each ``plan.Action``: how it is done (``do_…``) and, where it makes something, undone (``undo_…``). All are idempotent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vlab import run
from vlab.engine.drivers import Drivers
from vlab.engine.wanted import Target
from vlab.events import Sink
from vlab.guests import keys, transition
from vlab.guests.base import Channel
from vlab.guests.settle import found_settings, settle, settled
from vlab.host import internet, links
from vlab.hypervisors import xml
from vlab.hypervisors.kind import kind
from vlab.hypervisors.mark import Domain, Mark
from vlab.images import build, clone
from vlab.plan import Action, Step
from vlab.topology.lab import Lab, Node, Service, namespace


@dataclass
class LabDeeds:
    """Deeds for one lab. ``domains`` is what runs, by node, kept up to date as deeds are done; ``declared`` and ``targets`` stay
    empty when the lab only goes."""

    drivers: Drivers
    name: str
    sink: Sink
    domains: dict[str, Domain]
    declared: Lab | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)

    def do(self, step: Step) -> None:
        getattr(self, f"do_{step.action.name.lower()}")(step.subject)

    def undo(self, step: Step) -> None:
        if method := getattr(self, f"undo_{step.action.name.lower()}", None):
            method(step.subject)

    def cancel(self, step: Step) -> None:
        """A guest that is taken away ends its waiters; host commands are killed."""
        if step.action in (Action.BOOT, Action.SETTLE):
            self.do_destroy(step.subject)
        run.kill_children()

    @property
    def lab(self) -> Lab:
        assert self.declared is not None, "a deed that makes something needs the declared lab"
        return self.declared

    # images and clones

    def do_build_image(self, subject: str) -> None:
        image, _, form = subject.partition(":")
        build.build(self.drivers.recipes[image], build.form(form), self.drivers.store, self.sink)

    def do_make_clone(self, node: str) -> None:
        target = self.targets[node]
        folder = self.drivers.paths.clone(self.name, node)
        clone.remove(folder, self.drivers.mounts)
        seed = transition.seed(target.settings, keys.host_key_files(folder)) if self._seeded(node) else ()
        clone.make(target.artifact, folder, self.drivers.mounts, seed)

    def do_remove_clone(self, node: str) -> None:
        clone.remove(self.drivers.paths.clone(self.name, node), self.drivers.mounts)

    undo_make_clone = do_remove_clone

    # networks

    def do_create_namespace(self, _subject: str) -> None:
        links.create_namespace(namespace(self.name))

    def do_delete_namespace(self, _subject: str) -> None:
        links.delete_namespace(namespace(self.name))

    undo_create_namespace = do_delete_namespace

    def do_ensure_bridge(self, network: str) -> None:
        links.ensure_bridge(namespace(self.name), self.name, self.lab.network(network))

    def do_remove_bridge(self, network: str) -> None:
        links.remove_bridge(namespace(self.name), network)

    def do_start_internet(self, _subject: str) -> None:
        internet.start(self.lab)

    def do_stop_internet(self, _subject: str) -> None:
        internet.stop(self.name)

    undo_start_internet = do_stop_internet

    # guests

    def do_boot(self, node: str) -> None:
        target = self.targets[node]
        virt = kind(target.node.virt)
        folder = self.drivers.paths.clone(self.name, node)
        element = virt.domain(self.lab, target.node, target.clone, target.accel, folder)
        mark = Mark(
            self.name, self.lab.topology, target.node, target.accel, target.digest, "", self._services(target.node)
        )
        self.domains[node] = self.drivers.hypervisors.start(virt.uri, xml.marked(element, mark))
        self.do_attach(node)
        self.drivers.channel(self.domains[node]).wait(self.drivers.guest_timeout)

    def do_destroy(self, node: str) -> None:
        for domain in self.drivers.hypervisors.domains(self.name):
            if domain.mark.node.name == node:
                self.drivers.hypervisors.destroy(domain)
        self.domains.pop(node, None)

    undo_boot = do_destroy

    def do_attach(self, node: str) -> None:
        ports = [
            links.Port(n.device, n.altname, self.lab.network(n.network).bridge, n.mtu, self.name)
            for n in self._node(node).nics
        ]
        links.adopt_all(namespace(self.name), ports)

    def do_settle(self, node: str) -> None:
        target, domain = self.targets[node], self.domains[node]
        self._settle(node, self.drivers.channel(domain), fresh=not domain.mark.settings)
        mark = replace(domain.mark, settings=target.settings_digest, services=self._services(target.node))
        self.drivers.hypervisors.mark(domain, mark)
        self.domains[node] = replace(domain, mark=mark)

    def _settle(self, node: str, channel: Channel, *, fresh: bool) -> None:
        target, seeded = self.targets[node], self._seeded(node)
        if fresh and seeded and settled(channel, node, timeout=self.drivers.guest_timeout) == target.settings_digest:
            return
        found = found_settings(channel) if seeded or not fresh else None
        extra = keys.host_key_files(self.drivers.paths.clone(self.name, node)) if found is None else ()
        settle(channel, target.settings, found, extra)

    def _seeded(self, node: str) -> bool:
        return kind(self._node(node).virt).seeded

    def _node(self, node: str) -> Node:
        return self.targets[node].node

    def _services(self, node: Node) -> tuple[Service, ...]:
        return tuple(service for service in self.lab.services if service.director == node.group)
