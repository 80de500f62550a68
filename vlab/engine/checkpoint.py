"""Checkpoints: a whole lab as it is at one moment, machines with their memory, containers with their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vlab import state
from vlab.engine.drivers import Drivers
from vlab.engine.wanted import Saved, Target
from vlab.errors import ConflictError, UsageError
from vlab.events import Event, Sink, silent
from vlab.hypervisors.kind import kind
from vlab.hypervisors.mark import Domain
from vlab.images import checkpoints, snapshots
from vlab.images.snapshots import DISK, Snapshot

THREADS = 8


def save(drivers: Drivers, lab: str, name: str, made: Mapping[str, Target], sink: Sink = silent) -> Snapshot:
    """Freeze the lab, write it into a checkpoint, and let it go on: nobody inside saw more than a pause. ``made`` are the lab's targets.

    Raises ``UsageError`` when not all of it runs or the name is taken. Killed at any moment it leaves no checkpoint."""
    with state.locked(drivers.paths, lab):
        domains = _whole(drivers, lab, made)
        facts = {
            checkpoints.NEEDS: ",".join(sorted({d.mark.golden for d in domains} - {""})),
            checkpoints.IMAGES: ",".join(sorted({d.mark.node.image for d in domains})),
        }
        for domain in domains:
            facts |= _facts(drivers, domain, made[domain.mark.node.name])
        with checkpoints.making(drivers.paths, lab, name, facts) as folder:
            (folder / checkpoints.TOPOLOGY).write_text(state.declared(drivers.paths, lab) or "")
            with _journalled(drivers, lab, name), _frozen(drivers, domains), ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(lambda domain: _capture(drivers, lab, domain, folder, sink), domains))
        return checkpoints.find(drivers.paths, lab, name)


def parts(drivers: Drivers, checkpoint: Snapshot, made: Mapping[str, Target]) -> dict[str, Saved]:
    """What each node is to be restored from. Raises ``ConflictError`` when a file is damaged, or when today's image, libvirt or QEMU is
    not the one that a node was saved with."""
    if problem := snapshots.damage(checkpoint):
        raise ConflictError(f"checkpoint {problem}", hint="vlab checkpoints lists the others; vlab up starts afresh")
    facts = checkpoint.facts
    other = [
        node
        for node, target in made.items()
        if facts.get(_shape_key(node)) != _shape(target)
        or facts[f"disk/{facts[_golden_key(node)]}"] != _disk(drivers, facts[_golden_key(node)])
    ]
    if other:
        raise ConflictError(
            f"checkpoint {checkpoint.name} does not fit: {', '.join(other)}",
            details=[
                "the image, its golden, the node's definition, libvirt or QEMU is not the one that it was saved with"
            ],
            hint="vlab up starts afresh; vlab discard removes the checkpoint",
        )
    return {node: Saved(checkpoint.path / node, checkpoint.facts[_golden_key(node)]) for node in made}


def _whole(drivers: Drivers, lab: str, made: Mapping[str, Target]) -> list[Domain]:
    domains = [d for d in drivers.hypervisors.domains(lab) if d.state == "running" and d.mark.settings]
    missing = sorted(set(made) - {domain.mark.node.name for domain in domains})
    if missing:
        raise UsageError(f"lab {lab} is not whole: {', '.join(missing)}", hint="vlab up first")
    return [domain for domain in domains if domain.mark.node.name in made]


def _facts(drivers: Drivers, domain: Domain, target: Target) -> dict[str, str]:
    node, golden = domain.mark.node.name, domain.mark.golden
    return {_shape_key(node): _shape(target), _golden_key(node): golden, f"disk/{golden}": _disk(drivers, golden)}


def _disk(drivers: Drivers, golden: str) -> str:
    """The sum of the golden's disk, empty when it is not there: one that was made again is another disk under the same name."""
    found = drivers.goldens.find(golden) if golden else None
    return found.sums[DISK] if found else ""


def _shape(target: Target) -> str:
    return target.shape.name if target.shape else target.artifact.digest


def _shape_key(node: str) -> str:
    return f"shape/{node}"


def _golden_key(node: str) -> str:
    return f"golden/{node}"


def go_on(drivers: Drivers, lab: str) -> None:
    """Thaw what a killed ``save`` left frozen. Under the lab's lock."""
    if any(step.startswith(_SAVE) for step in state.Journal(drivers.paths.journal(lab)).unfinished()):
        for domain in drivers.hypervisors.domains(lab):
            kind(domain.mark.node.virt).thaw(domain, drivers.hypervisors)


_SAVE = "save/"


@contextmanager
def _journalled(drivers: Drivers, lab: str, name: str) -> Iterator[None]:
    journal = state.Journal(drivers.paths.journal(lab))
    journal.write(f"{_SAVE}{name}", "begin")
    try:
        yield
    finally:
        journal.write(f"{_SAVE}{name}", "done")


@contextmanager
def _frozen(drivers: Drivers, domains: list[Domain]) -> Iterator[None]:
    """Nothing in the lab moves while the block runs; whatever ends it, all goes on."""
    with ExitStack() as thawing:
        for domain in domains:
            virt = kind(domain.mark.node.virt)
            thawing.callback(virt.thaw, domain, drivers.hypervisors)
            virt.freeze(domain, drivers.hypervisors)
        yield


def _capture(drivers: Drivers, lab: str, domain: Domain, folder: Path, sink: Sink) -> None:
    node = domain.mark.node.name
    subject = f"save/{node}"
    sink(Event(subject, "started"))
    (folder / node).mkdir()
    kind(domain.mark.node.virt).capture(domain, drivers.hypervisors, drivers.paths.clone(lab, node), folder / node)
    sink(Event(subject, "done"))
