"""What exists on this host that carries a lab's mark. Reads, never changes."""

from __future__ import annotations

from vlab.engine.drivers import Drivers
from vlab.host import internet, links, routing
from vlab.images.forms import FORMS
from vlab.plan import FoundBridge, Observed
from vlab.topology.lab import namespace


def observe(drivers: Drivers, lab: str) -> Observed:
    """A snapshot of the lab for ``plan.make``. Raises ``HostError`` when libvirt does not answer, ``ConflictError`` where another
    version of vlab made a part of it."""
    found = observe_any(drivers, lab)
    if found.unreadable:
        drivers.hypervisors.domains(lab)  # says which and why
    return found


def observe_any(drivers: Drivers, lab: str) -> Observed:
    """A snapshot of the lab for ``plan.remove``, whichever version of vlab made it. Raises ``HostError`` when libvirt does not answer."""
    domains, unreadable = drivers.hypervisors.survey(lab)
    present = namespace(lab) in links.namespaces()
    found = links.observe(namespace(lab)) if present else links.Links()
    return Observed(
        namespace=present,
        bridges=tuple(
            FoundBridge(b.device, b.network, b.mtu, str(b.address or ""), str(b.address6 or ""), b.routes6)
            for b in found.bridges
        ),
        ports={port.device: port.bridge for port in found.ports},
        domains={domain.mark.node.name: domain for domain in domains},
        unreadable=frozenset(domain.node for domain in unreadable),
        clones=clones(drivers, lab),
        built=built(drivers),
        goldens=goldens(drivers),
        internet=internet.serving(lab),
        routed=routing.routed(lab) if present else frozenset(),
        routed6=routing.routed6(lab) if present else frozenset(),
        unadopted=frozenset(links.root_leftovers()),
    )


def clones(drivers: Drivers, lab: str) -> frozenset[str]:
    """Nodes that have a clone folder."""
    folder = drivers.paths.clones(lab)
    return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()


def built(drivers: Drivers) -> frozenset[str]:
    """«image:form» of every artefact that is built from today's recipes."""
    found = (
        (recipe, form) for recipe in drivers.recipes.values() for form in FORMS if drivers.store.find(recipe, form)
    )
    return frozenset(f"{recipe.name}:{form}" for recipe, form in found)


def goldens(drivers: Drivers) -> frozenset[str]:
    """Names of the golden snapshots that are there."""
    return frozenset(golden.name for golden in drivers.goldens.all())
