"""``fault inject`` and ``fault clear``: break exactly one rule's thing in a running lab, and mend all that was broken.

The lab's folder keeps what was injected: it is written before the deed, so a run killed in between leaves too much on record and
never too little; mending what is not broken does nothing. A guest that a fault touched loses the record of its settings and its
mark's digest, so ``up`` and ``clear`` alike settle it anew, whatever the fault did to what settings own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlab import run, state
from vlab.diagnosis.rule import NAMESPACE, Fault, fault
from vlab.diagnosis.script import FORGET
from vlab.engine.deeds import LabDeeds
from vlab.engine.diagnosis import within
from vlab.engine.drivers import Drivers
from vlab.engine.preview import guess
from vlab.engine.wanted import targets
from vlab.errors import ConflictError, GuestError, UsageError, VlabError
from vlab.events import Sink, silent
from vlab.guests import keys
from vlab.hypervisors.mark import Domain
from vlab.plain import from_plain, to_plain
from vlab.run import Result
from vlab.topology.lab import Lab

TIMEOUT = 120.0
_SHELL = "set -eu\nexport LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"


@dataclass(frozen=True, slots=True)
class Mend:
    """sh for one place: a node, or the lab's namespace (empty)."""

    place: str
    script: str


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault on record. ``place`` is the node it was injected at, empty for the lab's namespace."""

    rule: str
    place: str
    mends: tuple[Mend, ...] = ()


def injected(where: state.Paths, lab: str) -> list[Injected]:
    """What is on record, oldest first."""
    file = _file(where, lab)
    try:
        return [from_plain(Injected, item) for item in json.loads(file.read_text())] if file.is_file() else []
    except (ValueError, TypeError, KeyError) as error:
        raise ConflictError(
            f"{file} is not what vlab wrote", hint=f"remove it, then vlab down {lab} and up again"
        ) from error


def inject(drivers: Drivers, lab: Lab, rule: str, nodes: Sequence[str] = ()) -> list[Injected]:
    """Break ``rule`` at ``nodes``, or at the place that fits best. Raises ``UsageError`` where it cannot apply, ``GuestError`` when a
    guest's own words say that it did not work; what it did is on record even then."""
    faults = fault(lab, rule, nodes)
    with state.locked(drivers.paths, lab.name):
        domains = _domains(drivers, lab)
        _require([each.place for _, each in faults], domains)
        made = [Injected(id, each.place, tuple(Mend(*mend) for mend in each.mends)) for id, each in faults]
        known = injected(drivers.paths, lab.name)
        _record(drivers.paths, lab.name, [*known, *(each for each in made if each not in known)])
        for _, each in faults:
            _break(drivers, lab, domains, each)
    return made


def clear(drivers: Drivers, lab: Lab, sink: Sink = silent) -> list[Injected]:
    """Mend everything on record, newest first, and settle the guests it was at; return what was mended. Raises ``GuestError`` for the
    first guest that could not be mended; what is left stays on record."""
    with state.locked(drivers.paths, lab.name):
        domains, known = _domains(drivers, lab), injected(drivers.paths, lab.name)
        for each in reversed(known):
            for mend in each.mends:
                if mend.place in domains or mend.place == NAMESPACE:
                    _run(drivers, lab, domains, mend.place, mend.script)
        _settle(
            drivers, lab, domains, [name for name in dict.fromkeys(i.place for i in known) if name in domains], sink
        )
        _file(drivers.paths, lab.name).unlink(missing_ok=True)
    return known


def _domains(drivers: Drivers, lab: Lab) -> dict[str, Domain]:
    return {domain.mark.node.name: domain for domain in drivers.hypervisors.domains(lab.name)}


def _require(places: Sequence[str], domains: dict[str, Domain]) -> None:
    for place in places:
        if place != NAMESPACE and place not in domains:
            raise UsageError(f"{place} does not run", hint="vlab up makes it again; vlab status")


def _break(drivers: Drivers, lab: Lab, domains: dict[str, Domain], each: Fault) -> None:
    if each.place == NAMESPACE:
        _run(drivers, lab, domains, each.place, each.breaks)
        return
    domain = domains[each.place]
    # Not empty: a guest without a digest is one that has never been settled.
    drivers.hypervisors.mark(domain, replace(domain.mark, settings="a fault was injected"))
    _run(drivers, lab, domains, each.place, FORGET + each.breaks)


def _run(drivers: Drivers, lab: Lab, domains: dict[str, Domain], place: str, script: str) -> None:
    text = (_SHELL + script).encode()
    if place == NAMESPACE:
        _refuse(
            "the lab's namespace", run.run(within(lab.namespace, "sh", "-s"), input=text, timeout=TIMEOUT, check=False)
        )
    else:
        _refuse(place, drivers.channel(domains[place]).run(["/bin/sh", "-s"], input=text, timeout=TIMEOUT))


def _refuse(place: str, result: Result) -> None:
    if result.code:
        said = f"{result.text}{result.error_text}".splitlines()[-10:]
        raise GuestError(
            f"{place}: the fault's commands failed", details=said, hint="vlab fault clear mends what they did"
        )


def _settle(drivers: Drivers, lab: Lab, domains: dict[str, Domain], nodes: Sequence[str], sink: Sink) -> None:
    """All settings again, as ``up`` would do it."""
    if not nodes:
        return
    made = targets(drivers, lab, guess(drivers, lab), keys.public_key(drivers.paths.root))
    deeds = LabDeeds(drivers, lab.name, sink, dict(domains), lab, made)
    failures = []
    for node in nodes:
        try:
            deeds.do_settle(node)
        except VlabError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _file(where: state.Paths, lab: str) -> Path:
    return where.lab(lab) / "faults.json"


def _record(where: state.Paths, lab: str, entries: Sequence[Injected]) -> None:
    """Written whole or not at all."""
    target = _file(where, lab)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps([to_plain(entry) for entry in entries], indent=1) + "\n")
    fresh.replace(target)
