"""One method for each ``plan.Action``: how it is done (``do_…``) and, where it makes something, undone (``undo_…``). All are idempotent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from vlab import run
from vlab.engine.drivers import Drivers
from vlab.engine.golden import Making
from vlab.engine.wanted import Target
from vlab.events import Sink
from vlab.guests import keys, transition, wake
from vlab.guests.base import Channel
from vlab.guests.settings import File, Settings
from vlab.guests.settle import awaken, found_settings, settle, settled
from vlab.host import internet, links, routing
from vlab.hypervisors import saveimage, xml
from vlab.hypervisors.kind import kind
from vlab.hypervisors.mark import Domain, Mark
from vlab.images import build, clone
from vlab.images.goldens import Golden
from vlab.lvs import switching
from vlab.lvs.moves import moves
from vlab.lvs.settings import before_servers
from vlab.plan import Action, Step
from vlab.topology.lab import Lab, Network, Node, Service, namespace


@dataclass
class LabDeeds:
    """Deeds for one lab. ``domains`` is what runs, by node, kept up to date as deeds are done; ``declared`` and ``targets`` stay
    empty when the lab only goes. ``goldens`` are those found whole in this run, ``fresh`` the nodes that it started, ``prepared`` what
    ``prepare`` left: nothing is between it and ``settle`` that could change it."""

    drivers: Drivers
    name: str
    sink: Sink
    domains: dict[str, Domain]
    declared: Lab | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)
    goldens: dict[str, Golden] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    prepared: dict[str, Settings] = field(default_factory=dict)

    def do(self, step: Step) -> None:
        getattr(self, f"do_{step.action.name.lower()}")(step.subject)

    def undo(self, step: Step) -> None:
        if method := getattr(self, f"undo_{step.action.name.lower()}", None):
            method(step.subject)

    def cancel(self, step: Step) -> None:
        """A guest that is taken away ends its waiters; host commands are killed. A guest that ran before is settled to the end, which takes
        seconds."""
        if step.action in (Action.BOOT, Action.RESTORE) or (
            step.action in (Action.PREPARE, Action.SETTLE) and step.subject in self.fresh
        ):
            self.do_destroy(step.subject)
        if step.action is Action.ENSURE_GOLDEN:
            self.making[step.subject].call_off()
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
        if target.saved:
            clone.revive(target.artifact, target.saved.folder, folder, self.drivers.mounts)
        elif target.shape:
            whole = self.goldens[target.shape.name]
            clone.make(replace(target.artifact, disk=whole.disk), folder, self.drivers.mounts)
        else:
            seed = transition.seed(target.settings, keys.host_key_files(folder)) if self._seeded(node) else ()
            clone.make(target.artifact, folder, self.drivers.mounts, seed)

    def do_ensure_golden(self, name: str) -> None:
        self.goldens[name] = self.making[name].ensure()

    @cached_property
    def making(self) -> dict[str, Making]:
        """The goldens of this run, each of which can be called off."""
        shapes = {target.shape.name: target.shape for target in self.targets.values() if target.shape}
        return {
            name: Making(self.drivers, shape, self.sink, f"{Action.ENSURE_GOLDEN}/{name}")
            for name, shape in shapes.items()
        }

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
        internet.stop(self.name, [replace(each, internet=False) for each in self._networks])

    undo_start_internet = do_stop_internet

    def do_route(self, _subject: str) -> None:
        routing.apply(self.name, self.lab.networks)

    def undo_route(self, _subject: str) -> None:
        routing.apply(self.name, [replace(each, routed=False) for each in self._networks])

    @property
    def _networks(self) -> tuple[Network, ...]:
        """The declared networks, none when the lab only goes."""
        return self.declared.networks if self.declared else ()

    # guests

    def do_boot(self, node: str) -> None:
        self._up(node, self.drivers.hypervisors.start(self._uri(node), self._marked(node)))

    def do_restore(self, node: str) -> None:
        image = saveimage.read(self._memory(self.targets[node]))
        self._up(node, self.drivers.hypervisors.restore(self._uri(node), self._marked(node), image))

    def _memory(self, target: Target) -> Path:
        saved = target.saved.memory if target.saved else self.goldens[self._origin(target)].memory
        assert saved, "what is restored has a save image"
        return saved

    def _origin(self, target: Target) -> str:
        """The golden that the guest comes from, empty when it boots."""
        if target.saved:
            return target.saved.golden
        return target.shape.name if target.shape else ""

    def _up(self, node: str, domain: Domain) -> None:
        self.domains[node] = domain
        self.fresh.add(node)
        self.do_attach(node)
        self.drivers.channel(domain).wait(self.drivers.guest_timeout)

    def _uri(self, node: str) -> str:
        return kind(self._node(node).virt).uri

    def _marked(self, node: str) -> str:
        """The domain's XML with its mark."""
        target = self.targets[node]
        mark = Mark(
            self.name, self.lab.topology, target.node, target.accel, target.digest, "", self._services(target.node),
            self._origin(target),
        )  # fmt: skip
        return xml.marked(target.domain(), mark)

    def do_destroy(self, node: str) -> None:
        # One that is just being started is not known yet; to look for it among all takes as long as there are guests.
        if known := self.domains.pop(node, None):
            self.drivers.hypervisors.destroy(known)
            return
        domains, unreadable = self.drivers.hypervisors.survey(self.name)
        named = [(domain.mark.node.name, domain) for domain in domains] + [(it.node, it) for it in unreadable]
        for name, found in named:
            if name == node:
                self.drivers.hypervisors.destroy(found)

    undo_boot = undo_restore = do_destroy

    def do_attach(self, node: str) -> None:
        ports = [
            links.Port(n.device, n.altname, self.lab.network(n.network).bridge, n.mtu, self.name)
            for n in self._node(node).nics
        ]
        links.adopt_all(namespace(self.name), ports)

    def do_prepare(self, node: str) -> None:
        """What can be set before the nodes that this one waits for are ready."""
        if node in self.fresh:
            self._prepare_fresh(node)
        else:
            self._prepare_switch(node)

    def _prepare_fresh(self, node: str) -> None:
        if self._servers_are_ready(node):
            return  # settle does all at once
        early, domain = before_servers(self.targets[node].settings), self.domains[node]
        self._settle(node, domain, early)
        self.prepared[node] = early
        self._remark(node, replace(domain.mark, settings=transition.digest(early)))

    def _servers_are_ready(self, director: str) -> bool:
        servers = {server.node for service in self._services(self._node(director)) for server in service.servers}
        known = self.domains
        return all(
            name in known and known[name].mark.settings == self.targets[name].settings_digest for name in servers
        )

    def _prepare_switch(self, node: str) -> None:
        """What the new settings need beside what the old ones do. The mark says so first: whatever is wanted after an interruption differs."""
        domain = self.domains[node]
        channel = self.drivers.channel(domain)
        found = found_settings(channel)
        if found is None:
            return
        together = switching.both(found, self.targets[node].settings)
        self._remark(node, replace(domain.mark, settings=transition.digest(together)))
        settle(channel, together, found)
        self.prepared[node] = together

    def do_settle(self, node: str) -> None:
        target, domain = self.targets[node], self.domains[node]
        self._settle(node, domain, target.settings)
        services = self._services(target.node)
        if moves(domain.mark.services, services):
            switching.wait(self.drivers.channel(domain), domain.mark.services, services)
        # The node too: status tells its addresses, which settling may have changed.
        self._remark(node, replace(domain.mark, node=target.node, settings=target.settings_digest, services=services))

    def _remark(self, node: str, mark: Mark) -> None:
        self.drivers.hypervisors.mark(self.domains[node], mark)
        self.domains[node] = replace(self.domains[node], mark=mark)

    def _settle(self, node: str, domain: Domain, wanted: Settings) -> None:
        target, channel = self.targets[node], self.drivers.channel(domain)
        if domain.mark.settings:
            settle(channel, wanted, self.prepared.get(node) or found_settings(channel))
        elif target.saved and target.saved.memory:
            settle(channel, wanted, found_settings(channel), self._host_key(node), wake.script(wanted))
        elif domain.mark.golden:
            recipe = self.drivers.recipes[target.node.image]
            found = wake.restored(recipe.ready, recipe.named)
            awaken(channel, wanted, found, self._host_key(node))
        elif not self._settled_itself(node, channel):
            settle(channel, wanted, None, self._host_key(node))

    def _settled_itself(self, node: str, channel: Channel) -> bool:
        """Whether a seeded guest's boot gave it its settings; one that failed half-way gets all of them again."""
        if not self._seeded(node):
            return False
        return settled(channel, node, timeout=self.drivers.guest_timeout) == self.targets[node].settings_digest

    def _host_key(self, node: str) -> tuple[File, ...]:
        return keys.host_key_files(self.drivers.paths.clone(self.name, node))

    def _seeded(self, node: str) -> bool:
        return kind(self._node(node).virt).seeded

    def _node(self, node: str) -> Node:
        return self.targets[node].node

    def _services(self, node: Node) -> tuple[Service, ...]:
        return tuple(service for service in self.lab.services if service.director == node.group)
