"""What exists on this host that carries a lab's mark. Reads, never changes."""

from __future__ import annotations

from vlab.engine.drivers import Drivers
from vlab.host import internet, links
from vlab.images.forms import FORMS
from vlab.plan import FoundBridge, Observed
from vlab.state import labs_on_disk
from vlab.topology.lab import namespace

NAMESPACE_PREFIX = namespace("")


def observe(drivers: Drivers, lab: str) -> Observed:
    """A snapshot of the lab for ``plan.make``. Raises ``HostError`` when libvirt does not answer."""
    present = namespace(lab) in links.namespaces()
    found = links.observe(namespace(lab)) if present else links.Links()
    return Observed(
        namespace=present,
        bridges=tuple(FoundBridge(b.device, b.network, b.mtu, str(b.address or "")) for b in found.bridges),
        ports={port.device: port.bridge for port in found.ports},
        domains={domain.mark.node.name: domain for domain in drivers.hypervisors.domains(lab)},
        clones=clones(drivers, lab),
        built=built(drivers),
        internet=internet.serving(lab),
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


def lab_names(drivers: Drivers) -> list[str]:
    """Every lab of which anything exists: a domain, a namespace, an uplink or a folder."""
    found = {domain.mark.lab for domain in drivers.hypervisors.domains()}
    found |= {name.removeprefix(NAMESPACE_PREFIX) for name in (*links.namespaces(), *links.half_made())}
    return sorted(found | set(labs_on_disk(drivers.paths)) | set(internet.running()))
