"""What several verbs show: a lab's status and the checks of ``verify``."""

from __future__ import annotations

from collections.abc import Sequence

from vlab.cli import report
from vlab.engine.drivers import Drivers
from vlab.engine.status import Status, status
from vlab.errors import GuestError, UsageError
from vlab.guests.base import Channel
from vlab.lvs.status import ServerState, ServiceState
from vlab.lvs.verify import Check, verify
from vlab.topology.lab import Lab


def status_of(drivers: Drivers, lab: str) -> Status:
    """A lab's status; the declared topology adds guests that are gone, where it is still there."""
    from vlab.cli.labs import declared_lab

    try:
        declared = declared_lab(drivers, lab)
    except UsageError:
        declared = None
    return status(drivers, lab, declared)


def show_status(found: Status) -> None:
    report.say(f"lab {found.lab}: {found.state}, accelerator {found.accel}")
    for text in found.notes:
        report.say(f"  note: {text}")
    report.table(
        ("node", "group", "virt", "accel", "state", "image", "addresses"),
        [(n.name, n.group, n.virt, n.accel, n.state, n.image, _addresses(n.addresses)) for n in found.nodes],
    )
    if found.services:
        report.table(
            ("service", "vip", "by", "real server", "weight", "state", "active/inactive"),
            [_service_row(service, server) for service in found.services for server in service.real_servers],
        )


def _service_row(service: ServiceState, server: ServerState) -> tuple[object, ...]:
    how = f"{service.director} {service.mode} {service.scheduler}"
    connections = f"{server.active}/{server.inactive}"
    return (
        service.name,
        f"{service.vip}:{service.port}",
        how,
        f"{server.node} {server.address}",
        server.weight,
        server.state,
        connections,
    )


def _addresses(addresses: dict[str, str]) -> str:
    return " ".join(f"{network}={address}" for network, address in addresses.items())


def verified(drivers: Drivers, lab: Lab) -> list[Check]:
    """Run ``verify`` on a running lab."""
    domains = {d.mark.node.name: d for d in drivers.hypervisors.domains(lab.name)}

    def channel_of(node: str) -> Channel:
        if node not in domains:
            raise GuestError(f"{node} is not running", hint=f"vlab up makes it again; vlab status {lab.name}")
        return drivers.channel(domains[node])

    return verify(lab, channel_of, lambda image: dict(drivers.recipes[image].serves))


def show_checks(lab: str, checks: Sequence[Check]) -> None:
    if not checks:
        return
    report.table(
        ("check", "", "expected", "found"), [(c.id, "ok" if c.ok else "FAILED", c.expected, c.found) for c in checks]
    )
    failed = [check for check in checks if not check.ok]
    for check in failed:
        report.say(f"{check.id}: {check.hint}")
    report.say(f"{lab}: {len(checks) - len(failed)} of {len(checks)} checks ok")
