"""``up`` and ``down``: observe, plan, execute, observe again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from vlab import plan, state
from vlab.engine import admission, checkpoint
from vlab.engine.deeds import LabDeeds
from vlab.engine.drivers import Drivers
from vlab.engine.executor import Unlimited, execute
from vlab.engine.observe import built, goldens, observe, observe_any
from vlab.engine.room import Room
from vlab.engine.wanted import Target, targets, wanted
from vlab.errors import VerifyError
from vlab.events import Sink, silent
from vlab.guests import keys
from vlab.host import links
from vlab.host.pressure import Gauge
from vlab.images.snapshots import Snapshot
from vlab.plan import Action, Observed, Plan
from vlab.topology.lab import Lab, namespace

DOWN_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did. ``accel`` is what the lab's VMs run under («none» without VMs), ``accel_why`` why KVM wanters got what they got."""

    plan: Plan
    accel: str
    accel_why: str


@dataclass(frozen=True, slots=True)
class Start:
    """How guests come up. ``cold``: machines boot, none is restored from a golden snapshot. ``again``: nodes that are made anew though nothing
    about them changed, and why. ``checkpoint``: what all of them are restored from."""

    cold: bool = False
    again: Mapping[str, str] = field(default_factory=dict)
    checkpoint: Snapshot | None = None


WARM = Start()


def up(
    drivers: Drivers, lab: Lab, text: str, sink: Sink = silent, *, keep: bool = False, start: Start = WARM,
    consent: Callable[[Plan], None] = lambda _: None,
) -> Outcome:  # fmt: skip
    """Converge the host to ``lab``. Raises ``VlabError``; what this run made is undone before, unless ``keep``. ``consent`` is shown the
    plan, under the lab's lock, before anything is done, and may raise."""
    with state.locked(drivers.paths, lab.name):
        gauge = Gauge()
        checkpoint.go_on(drivers, lab.name)
        observed = observe(drivers, lab.name)
        admission.refuse(lab, observed)
        accel = admission.accelerator(drivers, lab, sink)
        made = _targets(drivers, lab, accel.name, start)
        steps = plan.make(wanted(lab, made, observed.domains, start.again), observed)
        consent(steps)
        if steps:
            deeds = LabDeeds(drivers, lab.name, sink, dict(observed.domains), lab, made)
            _converge(drivers, steps, deeds, Room(accel.name, gauge), text, keep=keep)
            after = observe(drivers, lab.name)
            _expect_nothing(plan.make(wanted(lab, made, after.domains), after))
        state.Journal(drivers.paths.journal(lab.name)).converged()
    used = sorted({target.accel for target in made.values()} - {"none"})
    return Outcome(steps, "+".join(used) or "none", accel.why)


def _targets(drivers: Drivers, lab: Lab, accel: str, start: Start) -> dict[str, Target]:
    made = targets(drivers, lab, accel, keys.public_key(drivers.paths.root), cold=start.cold)
    if start.checkpoint is None:
        return made
    saved = checkpoint.parts(drivers, start.checkpoint, made)
    return {name: replace(target, saved=saved[name]) for name, target in made.items()}


def prepare(drivers: Drivers, lab: Lab, sink: Sink = silent, *, cold: bool = False) -> list[str]:
    """Make what ``up`` needs and labs share: images and, unless ``cold``, goldens; return the goldens' names."""
    gauge = Gauge()
    accel = admission.accelerator(drivers, lab, sink)
    made = targets(drivers, lab, accel.name, keys.public_key(drivers.paths.root), cold=cold)
    present = Observed(built=built(drivers), goldens=goldens(drivers))
    steps = plan.make(wanted(lab, made, present.domains), present).only(Action.BUILD_IMAGE, Action.ENSURE_GOLDEN)
    deeds = LabDeeds(drivers, lab.name, sink, {}, lab, made)
    execute(steps, deeds, Room(accel.name, gauge), lambda *_: None, sink)
    return list(deeds.goldens)


def save(drivers: Drivers, lab: Lab, name: str, sink: Sink = silent) -> Snapshot:
    """Keep the running lab as a checkpoint. Raises ``UsageError`` when it is not whole or the name is taken."""
    accel = admission.accelerator(drivers, lab, sink)
    made = targets(drivers, lab, accel.name, keys.public_key(drivers.paths.root))
    return checkpoint.save(drivers, lab.name, name, made, sink)


def _converge(drivers: Drivers, steps: Plan, deeds: LabDeeds, room: Room, text: str, *, keep: bool) -> None:
    """``text`` is the lab's topology, of which nothing is kept either when nothing of the lab is left."""
    journal = state.Journal(drivers.paths.journal(deeds.name))
    try:
        state.declare(drivers.paths, deeds.name, text)
        execute(steps, deeds, room, journal.write, deeds.sink, keep=keep)
    except BaseException:
        if not plan.remove(observe(drivers, deeds.name)):
            state.forget(drivers.paths, deeds.name, keep=True)
        raise


def down(drivers: Drivers, lab: str, sink: Sink = silent, *, keep: bool = False) -> None:
    """Remove everything that carries the lab's mark, ``keep`` its checkpoints. Works with state folder and topology gone. Raises
    ``VerifyError`` when something is left after all."""
    with state.locked(drivers.paths, lab, wait=5.0):
        for _ in range(DOWN_ROUNDS):
            observed = observe_any(drivers, lab)
            steps = plan.remove(observed)
            if not steps:
                break
            deeds = LabDeeds(drivers, lab, sink, dict(observed.domains))
            execute(steps, deeds, Unlimited(), lambda *_: None, sink, keep=True)
        links.delete_namespace(namespace(lab))  # one that a killed run left half-made is not observed as one
        drivers.hypervisors.require_answers(f"whether all of lab {lab} is gone")
        state.forget(drivers.paths, lab, keep=keep)
    if left := plan.remove(observe_any(drivers, lab)).steps:
        raise VerifyError(
            f"lab {lab}: something is left",
            details=[step.id for step in left],
            hint=f"vlab down {lab} again, then vlab audit",
        )


def _expect_nothing(again: Plan) -> None:
    if again:
        raise VerifyError(
            "the host still differs from the file after the run",
            details=[f"{step.id}: {step.why}" for step in again.steps],
            hint="something else may change it too; run vlab up again",
        )
