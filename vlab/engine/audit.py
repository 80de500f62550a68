"""Everything on this host that is ours and belongs to no running lab."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vlab.engine.drivers import Drivers
from vlab.host import internet, links
from vlab.host.namespace import PREFIX
from vlab.hypervisors.mark import STAND_IN, Domain
from vlab.state import busy, kept, labs_on_disk


@dataclass(frozen=True, slots=True)
class Leftover:
    """``fix`` is the command that removes it."""

    kind: str
    name: str
    lab: str
    fix: str


def audit(drivers: Drivers) -> list[Leftover]:
    """A lab runs when a domain of it does, or when a run of vlab works on it; everything else that carries a mark is a leftover. So is a
    lab that another version of vlab made."""
    domains, unreadable = drivers.hypervisors.survey()
    running = {domain.mark.lab for domain in domains if domain.state == "running"} | set(busy(drivers.paths))
    drivers.hypervisors.require_answers("whether anything is left over")
    found = [
        *_domains(domains), *_namespaces(), *_links(domains), *_uplinks(), *_folders(drivers), *_mounts(drivers),
    ]  # fmt: skip
    strange = {domain.lab for domain in unreadable} - {STAND_IN}
    return [*_unreadable(strange), *(item for item in found if item.lab not in running | strange)]


def _unreadable(labs: Collection[str]) -> list[Leftover]:
    """Labs of another version of vlab, each once: whatever carries their mark goes with them."""
    return [Leftover("unreadable lab", lab, lab, _fix(lab)) for lab in sorted(labs)]


def _fix(lab: str) -> str:
    return f"vlab down {lab}"


def _domains(domains: Sequence[Domain]) -> list[Leftover]:
    stopped = [d for d in domains if d.state != "running"]
    return [Leftover("domain", d.name, d.mark.lab, _fix(d.mark.lab)) for d in stopped]


def _namespaces() -> list[Leftover]:
    names = [*links.namespaces(), *links.half_made()]
    labs = [(name, name.removeprefix(PREFIX)) for name in names]
    return [Leftover("namespace", name, lab, _fix(lab)) for name, lab in labs]


def _links(domains: Sequence[Domain]) -> list[Leftover]:
    """A guest's devices are in the host's namespace for a moment, until somebody adopts them."""
    owners = {nic.device: domain.mark.lab for domain in domains for nic in domain.mark.node.nics}
    left = links.root_leftovers()
    return [Leftover("link", device, owners.get(device, ""), f"ip link delete {device}") for device in left]


def _uplinks() -> list[Leftover]:
    return [Leftover("process", f"slirp4netns (pid {pid})", lab, _fix(lab)) for lab, pid in internet.running().items()]


def _folders(drivers: Drivers) -> list[Leftover]:
    """A lab that is down and kept for its checkpoints is no leftover."""
    left = [lab for lab in labs_on_disk(drivers.paths) if not kept(drivers.paths, lab)]
    return [Leftover("folder", str(drivers.paths.lab(lab)), lab, _fix(lab)) for lab in left]


def _mounts(drivers: Drivers) -> list[Leftover]:
    mounted = drivers.mounts.mounted(drivers.paths.labs)
    labs = [(path, path.relative_to(drivers.paths.labs).parts[0]) for path in mounted]
    return [Leftover("mount", str(path), lab, _fix(lab)) for path, lab in labs]
