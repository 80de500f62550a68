"""What several verbs show: a lab's status and the checks of ``verify``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

from vlab.cli import report
from vlab.engine.drivers import Drivers
from vlab.engine.status import NodeState, Status, status
from vlab.errors import GuestError, TopologyError, UsageError
from vlab.guests.base import Channel
from vlab.lvs.status import ServerState, ServiceState
from vlab.topology.lab import Lab

if TYPE_CHECKING:
    from vlab.lvs.checks import Check


def status_of(drivers: Drivers, lab: str) -> Status:
    """A lab's status; the declared topology adds guests that are gone, where it is still there."""
    from vlab.cli.files import declared_lab

    try:
        declared = declared_lab(drivers, lab)
    except (UsageError, TopologyError):  # it is gone, or another version of vlab wrote it
        declared = None
    return status(drivers, lab, declared)


def show_status(found: Status) -> None:
    report.say(f"lab {found.lab}: {found.state}, accelerator {found.accel}")
    for text in found.notes:
        report.say(f"  note: {text}")
    report.table(
        ("node", "group", "virt", "accel", "state", "image", "addresses"),
        [(n.name, n.group, n.virt, n.accel, n.state, n.image, _addresses(n)) for n in found.nodes],
    )
    if found.services:
        report.table(
            ("service", "vip", "by", "active", "real server", "weight", "state", "active/inactive"),
            [_service_row(service, server) for service in found.services for server in _servers(service)],
        )


def _servers(service: ServiceState) -> Iterable[ServerState]:
    return (*service.real_servers, *([service.sorry_server] if service.sorry_server else []))


def _service_row(service: ServiceState, server: ServerState) -> tuple[object, ...]:
    how = f"{service.director} {service.mode} {service.scheduler}"
    connections = f"{server.active}/{server.inactive}"
    return (
        service.name,
        service.endpoint,
        how,
        service.active or "none",
        f"{server.node} {server.address}",
        server.weight,
        server.state,
        connections,
    )


def _addresses(node: NodeState) -> str:
    six = node.addresses6 or {}
    return " ".join(
        f"{network}={address}{f',{six[network]}' if network in six else ''}"
        for network, address in node.addresses.items()
    )


def proved(drivers: Drivers, lab: Lab) -> tuple[list[Check], Status]:
    """Run ``verify`` on a running lab, and read its status while that waits for the kernel's counters. Where a check failed, the status is
    that of afterwards."""
    quiet = Event()

    def seen() -> Status:
        quiet.wait()
        return status_of(drivers, lab.name)

    with ThreadPoolExecutor(max_workers=1) as beside:
        found = beside.submit(seen)
        try:
            checks = verified(drivers, lab, quiet)
        finally:
            quiet.set()
    return checks, found.result() if all(check.ok for check in checks) else status_of(drivers, lab.name)


def verified(drivers: Drivers, lab: Lab, quiet: Event | None = None) -> list[Check]:
    """Run ``verify`` on a running lab; ``quiet`` is its own."""
    from vlab.lvs.verify import verify

    domains = {d.mark.node.name: d for d in drivers.hypervisors.domains(lab.name)}

    def channel_of(node: str) -> Channel:
        if node not in domains:
            raise GuestError(f"{node} is not running", hint=f"vlab up makes it again; vlab status {lab.name}")
        return drivers.channel(domains[node])

    return verify(lab, channel_of, lambda image: dict(drivers.recipes[image].serves), quiet=quiet)


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
