"""``up``, ``down`` and what ``plan`` shows: observe, plan, execute, observe again."""

from __future__ import annotations

from dataclasses import dataclass

from vlab import plan, state
from vlab.engine import admission
from vlab.engine.deeds import LabDeeds
from vlab.engine.drivers import Drivers
from vlab.engine.executor import execute
from vlab.engine.observe import observe
from vlab.engine.wanted import Target, targets, wanted
from vlab.errors import HostError, VerifyError
from vlab.events import Sink, silent
from vlab.guests import keys
from vlab.host import links
from vlab.plan import Observed, Plan
from vlab.topology.lab import Lab, namespace

DOWN_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did. ``accel`` is what the lab's VMs run under («none» without VMs), ``accel_why`` why KVM wanters got what they got."""

    plan: Plan
    accel: str
    accel_why: str


def preview(drivers: Drivers, lab: Lab) -> Plan:
    """The plan of ``up`` without touching anything; without libvirt or privileges everything counts as absent."""
    try:
        observed = observe(drivers, lab.name)
    except HostError:
        observed = plan.NOTHING
    return _plan(
        lab, targets(drivers, lab, admission.guess(drivers, lab), keys.known_public_key(drivers.paths.root)), observed
    )


def up(drivers: Drivers, lab: Lab, text: str, sink: Sink = silent, *, keep: bool = False) -> Outcome:
    """Converge the host to ``lab``. Raises ``VlabError``; what this run made is undone before, unless ``keep``."""
    with state.locked(drivers.paths, lab.name):
        observed = observe(drivers, lab.name)
        admission.refuse(lab, observed)
        accel = admission.accelerator(drivers, lab, sink)
        made = targets(drivers, lab, accel.name, keys.public_key(drivers.paths.root))
        steps = _plan(lab, made, observed)
        if steps:
            state.declare(drivers.paths, lab.name, text)
            deeds = LabDeeds(drivers, lab.name, sink, dict(observed.domains), lab, made)
            _converge(drivers, steps, deeds, admission.limits(accel.name), keep=keep)
            _expect_nothing(_plan(lab, made, observe(drivers, lab.name)))
        state.Journal(drivers.paths.journal(lab.name)).converged()
    used = sorted({target.accel for target in made.values()} - {"none"})
    return Outcome(steps, "+".join(used) or "none", accel.why)


def _converge(drivers: Drivers, steps: Plan, deeds: LabDeeds, limits: dict[str, int], *, keep: bool) -> None:
    journal = state.Journal(drivers.paths.journal(deeds.name))
    try:
        execute(steps, deeds, limits, journal.write, deeds.sink, keep=keep)
    except BaseException:
        if not plan.remove(observe(drivers, deeds.name)):
            state.forget(drivers.paths, deeds.name)
        raise


def down(drivers: Drivers, lab: str, sink: Sink = silent) -> None:
    """Remove everything that carries the lab's mark. Works with state folder and topology gone. Raises ``VerifyError`` when
    something is left after all."""
    with state.locked(drivers.paths, lab, wait=5.0):
        for _ in range(DOWN_ROUNDS):
            observed = observe(drivers, lab)
            steps = plan.remove(observed)
            if not steps:
                break
            deeds = LabDeeds(drivers, lab, sink, dict(observed.domains))
            execute(steps, deeds, {}, lambda *_: None, sink, keep=True)
        links.delete_namespace(namespace(lab))  # one that a killed run left half-made is not observed as one
        drivers.hypervisors.require_answers(f"whether all of lab {lab} is gone")
        state.forget(drivers.paths, lab)
    if left := plan.remove(observe(drivers, lab)).steps:
        raise VerifyError(
            f"lab {lab}: something is left",
            details=[step.id for step in left],
            hint=f"vlab down {lab} again, then vlab audit",
        )


def _plan(lab: Lab, made: dict[str, Target], observed: Observed) -> Plan:
    return plan.make(wanted(lab, made), observed)


def _expect_nothing(again: Plan) -> None:
    if again:
        raise VerifyError(
            "the host still differs from the file after the run",
            details=[f"{step.id}: {step.why}" for step in again.steps],
            hint="something else may change it too; run vlab up again",
        )
