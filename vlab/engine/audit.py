"""Everything on this host that is ours and belongs to no running lab."""

from __future__ import annotations

from dataclasses import dataclass

from vlab.engine.drivers import Drivers
from vlab.engine.observe import NAMESPACE_PREFIX
from vlab.host import internet, links
from vlab.state import labs_on_disk


@dataclass(frozen=True, slots=True)
class Leftover:
    """``fix`` is the command that removes it."""

    kind: str
    name: str
    lab: str
    fix: str


def audit(drivers: Drivers) -> list[Leftover]:
    """A lab runs when a domain of it does; everything else that carries a mark is a leftover."""
    running = {domain.mark.lab for domain in drivers.hypervisors.domains() if domain.state == "running"}
    drivers.hypervisors.require_answers("whether anything is left over")
    found = [*_domains(drivers), *_namespaces(), *_links(), *_uplinks(), *_folders(drivers), *_mounts(drivers)]
    return [item for item in found if item.lab not in running]


def _fix(lab: str) -> str:
    return f"vlab down {lab}"


def _domains(drivers: Drivers) -> list[Leftover]:
    stopped = [d for d in drivers.hypervisors.domains() if d.state != "running"]
    return [Leftover("domain", d.name, d.mark.lab, _fix(d.mark.lab)) for d in stopped]


def _namespaces() -> list[Leftover]:
    names = [*links.namespaces(), *links.half_made()]
    labs = [(name, name.removeprefix(NAMESPACE_PREFIX)) for name in names]
    return [Leftover("namespace", name, lab, _fix(lab)) for name, lab in labs]


def _links() -> list[Leftover]:
    return [Leftover("link", device, "", f"ip link delete {device}") for device in links.root_leftovers()]


def _uplinks() -> list[Leftover]:
    return [Leftover("process", f"slirp4netns (pid {pid})", lab, _fix(lab)) for lab, pid in internet.running().items()]


def _folders(drivers: Drivers) -> list[Leftover]:
    return [Leftover("folder", str(drivers.paths.lab(lab)), lab, _fix(lab)) for lab in labs_on_disk(drivers.paths)]


def _mounts(drivers: Drivers) -> list[Leftover]:
    mounted = drivers.mounts.mounted(drivers.paths.labs)
    labs = [(path, path.relative_to(drivers.paths.labs).parts[0]) for path in mounted]
    return [Leftover("mount", str(path), lab, _fix(lab)) for path, lab in labs]
