"""Waiting for a director's table: a lab may just have been made, a server restarted, a file be taken up. A guest that does not answer is no
reason to wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from vlab.errors import VlabError
from vlab.guests.base import Channel
from vlab.lvs import checks, procfs
from vlab.lvs.asking import Bench
from vlab.lvs.ipvs import Table, Virtual, renewed
from vlab.lvs.status import read_table
from vlab.topology.lab import Service

SETTLE = 10.0
"""Seconds that real servers may take to pass their health check."""

RELOADED = 2.0
"""Of these seconds, how many a table that holds every real server may differ otherwise: keepalived may be taking up another file."""

LOOK = 0.15
"""Seconds between two looks into a file of an emulated guest, each of which takes 0.03 s of its processor."""

REST = 4.0
"""How much longer at least than the last look took: a guest that answers late has work, and looks are no part of it."""

LONGEST = 0.5
"""Seconds between two looks at most."""

POLL = 0.5

Found = TypeVar("Found")


def found(bench: Bench, node: str, read: Callable[[Channel], Found]) -> Found | None:
    """What ``read`` finds in a node, None when it does not answer."""
    try:
        return read(bench.channel_of(node))
    except VlabError:
        return None


def rest(looked: float) -> None:
    """Sleep after a look that began at ``looked`` (``time.monotonic``)."""
    time.sleep(min(LONGEST, max(LOOK, REST * (time.monotonic() - looked))))


def whole_table(bench: Bench, director: str, services: Sequence[Service]) -> Table:
    """The director's table, once every real server is in it and all is as declared, or the time for that is over. Raises ``GuestError`` when
    it does not answer.

    keepalived begins its checks a second after it has made the services; in that second there is time to read all that takes processes, and
    the end is seen in a file."""
    channel, began = bench.channel_of(director), time.monotonic()
    kernels = [each for service in services for each in service.each()]
    _await(bench, director, lambda table: len(table.services) >= len(kernels), began + bench.settle)
    table = read_table(channel, services)
    while not _declared(table, services, director):
        patience = RELOADED if all(complete(service, table) for service in services) else bench.settle
        if time.monotonic() - began >= min(patience, bench.settle):
            break
        bench.pause.set()
        live = _await(bench, director, lambda table: _length(table) >= _servers(kernels), began + bench.settle)
        table = _read_again(channel, services, director, renewed(table, live or Table()))
    return table


def _await(bench: Bench, director: str, enough: Callable[[Table], bool], deadline: float) -> Table | None:
    """The table as a file tells it once it is ``enough``, None when that is not seen before ``deadline``: to look costs an emulated director
    an eighth of reading it whole, and its processor is needed for the health checks that are waited for."""
    while (looked := time.monotonic()) < deadline:
        table = found(bench, director, procfs.read_table)
        if table is None or enough(table):
            return table
        bench.pause.set()
        rest(looked)
    return None


def _read_again(channel: Channel, services: Sequence[Service], director: str, seen: Table) -> Table:
    """What was ``seen`` where that is as declared, else the table as it is a while later."""
    if _declared(seen, services, director):
        return seen
    time.sleep(POLL)
    return read_table(channel, services)


def _declared(table: Table, services: Sequence[Service], director: str) -> bool:
    return all(checks.table(service, table, director).ok for service in services)


def _servers(kernels: Sequence[Service]) -> int:
    return sum(len(each.real_servers) for each in kernels)


def _length(table: Table) -> int:
    return sum(len(virtual.destinations) for virtual in table.services)


def complete(service: Service, table: Table) -> bool:
    """Is every real server of the service in the table?"""
    return all(_holds(table.of(each), each) for each in service.each())


def _holds(virtual: Virtual | None, each: Service) -> bool:
    return virtual is not None and all(virtual.destination(s.address, s.port) for s in each.real_servers)
