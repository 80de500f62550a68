"""Accidents on purpose, one node at a time, behind the lab's back: nothing is written down, so that ``status`` finds what happened
as it would find the real thing, and ``up`` mends it.

Each is idempotent, and returns a sentence of what it did.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlab.engine.drivers import Drivers
from vlab.engine.labs import lab_names
from vlab.engine.observe import clones
from vlab.errors import GuestError, UsageError
from vlab.host import links
from vlab.hypervisors.kind import kind
from vlab.hypervisors.mark import Domain
from vlab.topology.finding import meant, show
from vlab.topology.lab import Nic, namespace

UNIT_TIMEOUT = 120.0
NO_SUCH_UNIT = 5
"""What systemctl exits with for a unit that it does not know (systemctl(1), LSB codes)."""


@dataclass(frozen=True, slots=True)
class Target:
    """A node of a lab. ``domain`` is None when it does not run."""

    lab: str
    node: str
    domain: Domain | None

    @property
    def running(self) -> Domain:
        """Raises ``GuestError`` when it does not run."""
        if self.domain is None:
            raise GuestError(f"{self.node} of lab {self.lab} does not run", hint="vlab up makes it again")
        return self.domain


def target(drivers: Drivers, lab: str, node: str) -> Target:
    """The node meant, in ``lab`` or, where that is empty, in whichever lab has one. Raises ``UsageError``."""
    labs = [lab] if lab else lab_names(drivers)
    if lab and lab not in lab_names(drivers):
        raise UsageError(f"no lab is called {show(lab)}", hint=meant(lab, lab_names(drivers)) or "vlab ls")
    found = {name: nodes(drivers, name) for name in labs}
    having = [name for name, known in found.items() if node in known]
    if not having:
        known = dict.fromkeys(name for several in found.values() for name in several)
        raise UsageError(f"there is no node {show(node)}", hint=meant(node, known) or "vlab status")
    if len(having) > 1:
        listed = ", ".join(f"{name}/{node}" for name in having)
        raise UsageError(f"{node} is in several labs: {listed}", hint=f"say which: {having[0]}/{node}")
    return Target(having[0], node, found[having[0]][node])


def nodes(drivers: Drivers, lab: str) -> dict[str, Domain | None]:
    """The nodes of a lab that run, and those that only left their clones."""
    running = {domain.mark.node.name: domain for domain in drivers.hypervisors.domains(lab)}
    return {**dict.fromkeys(sorted(clones(drivers, lab))), **running}


def kill(drivers: Drivers, it: Target) -> str:
    """Take the node's power away at once."""
    if it.domain is None:
        return f"{it.node} does not run already"
    drivers.hypervisors.destroy(it.domain)
    return f"{it.node} is off; vlab up makes it again, from a fresh clone"


def pause(drivers: Drivers, it: Target) -> str:
    """Stop everything in the node; its memory and its links stay."""
    domain = it.running
    kind(domain.mark.node.virt).freeze(domain, drivers.hypervisors)
    return f"{it.node} is paused; vlab fault resume {it.lab}/{it.node} lets it go on"


def resume(drivers: Drivers, it: Target) -> str:
    domain = it.running
    kind(domain.mark.node.virt).thaw(domain, drivers.hypervisors)
    return f"{it.node} goes on"


def stop(drivers: Drivers, it: Target, unit: str) -> str:
    """Stop a unit of the node's systemd."""
    _systemctl(drivers, it, "stop", unit)
    return f"{unit} on {it.node} is stopped; vlab fault start {it.lab}/{it.node} {unit} starts it"


def start(drivers: Drivers, it: Target, unit: str) -> str:
    _systemctl(drivers, it, "start", unit)
    return f"{unit} on {it.node} is started"


def _systemctl(drivers: Drivers, it: Target, verb: str, unit: str) -> None:
    channel = drivers.channel(it.running)
    done = channel.run(["systemctl", verb, "--", unit], timeout=UNIT_TIMEOUT)
    if done.code == NO_SUCH_UNIT:
        listed = channel.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "--type=service,socket"])
        known = [line.split()[0].removesuffix(".service") for line in listed.text.splitlines() if line.split()]
        raise UsageError(f"{it.node} has no unit {show(unit)}", hint=meant(unit, known))
    if done.code:
        raise GuestError(f"{it.node}: cannot {verb} {unit}", details=done.error_text.splitlines())


def link(it: Target, network: str, *, up: bool) -> str:
    """Cut the node off a network, or connect it again: the host's end of its cable goes down or up."""
    nic = _nic(it, network)
    changed = links.set_port(namespace(it.lab), nic.device, up=up)
    word = "up" if up else "down"
    return f"{nic.altname} is {word}{'' if changed else ' already'}"


def _nic(it: Target, network: str) -> Nic:
    nics = {nic.network: nic for nic in it.running.mark.node.nics}
    if network not in nics:
        raise UsageError(f"{it.node} is not on network {show(network)}", hint=meant(network, nics))
    return nics[network]
