"""A drained node watched until it rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vlab.engine.change import directors, tables
from vlab.engine.drivers import Drivers
from vlab.errors import VlabError, WaitError
from vlab.events import Event, Sink, silent
from vlab.guests.wait import NotYet, wait_until
from vlab.hypervisors.mark import Domain
from vlab.lvs import listing, resting
from vlab.lvs.resting import Rest
from vlab.lvs.status import TIMEOUT
from vlab.topology.lab import Service

POLL = 1.0
"""Seconds between two looks at a director's table, each of which takes 0.1 s of an emulated processor."""

NEWS = 10.0
"""Seconds between two lines of progress where no terminal shows it live."""


def refuse_last(drivers: Drivers, lab: str, node: str, services: Sequence[Service]) -> None:
    """Raise ``UsageError`` where, by the directors' tables as they are now, nobody but ``node`` serves."""
    for service, _, table in tables(drivers, lab, services):
        resting.refuse_last(lab, service, node, table)


def await_rest(
    drivers: Drivers, lab: str, node: str, services: Sequence[Service], timeout: float, sink: Sink = silent
) -> list[Rest]:
    """Return once ``node`` has no active connection in ``services``. Raises ``WaitError``, which lists the open ones, after ``timeout``
    seconds."""
    watch = _Watch(drivers, lab, node, services, sink)
    try:
        return wait_until(f"{node}: its connections to end", watch, timeout=timeout, interval=0.2, slowest=POLL)
    except WaitError as late:
        raise WaitError(
            f"{node} is drained, but not at rest after {timeout:g} s",
            details=_still_open(drivers, lab, node, services) or late.details,
            hint=f"vlab drain {lab}/{node} waits on, vlab undrain {lab}/{node} takes it back",
        ) from late


class _Watch:
    """One look at how busy the node still is; tells it."""

    def __init__(self, drivers: Drivers, lab: str, node: str, services: Sequence[Service], sink: Sink) -> None:
        self._drivers, self._lab, self._node, self._services = drivers, lab, node, services
        self._sink, self._next_news = sink, 0.0

    def __call__(self) -> list[Rest]:
        found = tables(self._drivers, self._lab, self._services)
        rests = [resting.rest(service, self._node, d.mark.node.name, table) for service, d, table in found]
        if busy := "; ".join(f"{rest.service}: {rest.active} active connections" for rest in rests if rest.active):
            self._tell(busy)
            raise NotYet(busy)
        return [
            replace(rest, templates=_templates(self._drivers, domain, service, self._node))
            for rest, (service, domain, _) in zip(rests, found, strict=True)
        ]

    def _tell(self, text: str) -> None:
        event = Event(f"drain/{self._node}", "progress", text)
        self._sink(event)
        if event.at >= self._next_news:
            self._next_news = event.at + NEWS
            self._sink(replace(event, state="note"))


def _templates(drivers: Drivers, director: Domain, service: Service, node: str) -> int:
    if service.persistence is None:
        return 0
    return resting.templates(_connections(drivers, director), service, node)


def _still_open(drivers: Drivers, lab: str, node: str, services: Sequence[Service]) -> list[str]:
    """The connections that keep ``node`` busy, in words; none where a director does not answer."""
    found: list[str] = []
    for service in services:
        for director in directors(drivers, lab, service):
            try:
                found += resting.open_connections(_connections(drivers, director), service, node)
            except VlabError as error:
                found.append(error.what)
    return found


def _connections(drivers: Drivers, director: Domain) -> str:
    return drivers.channel(director).run(listing.READ_CONNECTIONS, timeout=TIMEOUT).text
