"""A running lab changed through its declared topology: guests' settings follow, no guest starts or ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlab import state
from vlab.engine import lifecycle
from vlab.engine.drivers import Drivers
from vlab.engine.lifecycle import Outcome
from vlab.engine.preview import preview as plan_of
from vlab.errors import ConflictError
from vlab.events import Sink, silent
from vlab.guests.wait import NotYet, wait_until
from vlab.hypervisors.mark import Domain
from vlab.lvs import resting
from vlab.lvs.index import index
from vlab.lvs.ipvs import Table
from vlab.lvs.status import read_entries
from vlab.plan import Action, Plan
from vlab.topology.lab import Lab, Service

IN_FORCE = 20.0
"""Seconds that keepalived may take to read its file again; an emulated director on a busy host needs one or two."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a lab is to be (``text`` and what it stands for), and the declaration that this was made from."""

    lab: Lab
    text: str
    before: str


def preview(drivers: Drivers, proposal: Proposal) -> Plan:
    """The plan of ``make``, which touches nothing. Raises ``ConflictError`` as ``make`` does."""
    steps = plan_of(drivers, proposal.lab)
    _refuse_more_than_settings(proposal.lab, steps)
    return steps


def make(drivers: Drivers, proposal: Proposal, services: Sequence[str], sink: Sink = silent) -> Outcome:
    """Change the lab, and return when the directors of ``services`` have it in force.

    Raises ``ConflictError``, before anything is done, when more than settings would change or another run changed the
    declaration meanwhile; ``WaitError`` when a director does not take it over."""

    def consent(steps: Plan) -> None:
        name = proposal.lab.name
        if state.declared(drivers.paths, name) != proposal.before:
            raise ConflictError(f"lab {name}: another run changed it meanwhile", hint="run the command again")
        _refuse_more_than_settings(proposal.lab, steps)

    outcome = lifecycle.up(drivers, proposal.lab, proposal.text, sink, consent=consent)
    _await_force(drivers, proposal.lab, [s for s in proposal.lab.services if s.name in services])
    return outcome


def _refuse_more_than_settings(lab: Lab, steps: Plan) -> None:
    known = index(lab)
    more = [
        step
        for step in steps.steps
        if step.action is not Action.SETTLE or step.subject not in known.directing.keys() | known.serving.keys()
    ]
    if more:
        raise ConflictError(
            f"lab {lab.name}: more would happen than new settings of directors and real servers",
            details=[f"{step.id}: {step.why}" for step in steps.steps],
            hint=f"vlab status {lab.name} shows what is missing; vlab up FILE --as {lab.name} mends it",
        )


def directors(drivers: Drivers, lab: str, service: Service) -> list[Domain]:
    """The running directors of a service."""
    running = [d for d in drivers.hypervisors.domains(lab) if d.state == "running"]
    return [d for d in running if any(each.name == service.name for each in d.mark.services)]


def tables(drivers: Drivers, lab: str, services: Sequence[Service]) -> list[tuple[Service, Domain, Table]]:
    """The table of each director of each service; one that directs several is asked once. Raises as ``Channel.run`` does."""
    pairs = [(service, domain) for service in services for domain in directors(drivers, lab, service)]
    read = {name: read_entries(drivers.channel(domain)) for name, domain in {d.name: d for _, d in pairs}.items()}
    return [(service, domain, read[domain.name]) for service, domain in pairs]


def _await_force(drivers: Drivers, lab: Lab, services: Sequence[Service]) -> None:
    def look() -> None:
        missing = [f"{d.mark.node.name}: {lack}" for s, d, table in tables(drivers, lab.name, services)
                   for lack in resting.lacks(s, table)]  # fmt: skip
        if missing:
            raise NotYet("; ".join(missing))

    hint = f"vlab logs {lab.name}/NODE of the director shows what keepalived says"
    wait_until(f"{lab.name}: the director to take the change over", look, timeout=IN_FORCE, interval=0.1, hint=hint)
