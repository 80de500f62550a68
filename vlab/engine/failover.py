"""Kill the active director of a pair under load, see who takes over, bring it back by ``up``, and measure what both cost.

The load runs in a client of each service (``lvs/load``), which writes a record that is looked at from here; what it means
is decided in ``lvs/failover``. Times are the client's own.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from vlab.engine import lifecycle
from vlab.engine.drivers import Drivers
from vlab.errors import GuestError, UsageError, VlabError
from vlab.events import Event, Sink, silent
from vlab.guests.base import Channel
from vlab.guests.wait import NotYet, wait_until
from vlab.hypervisors.mark import Domain
from vlab.lvs import failover, load, pairs, vrrp
from vlab.lvs.failover import Measured
from vlab.lvs.load import Record
from vlab.topology.lab import Lab, Pair, Service

QUICK = frozenset({"container"})
"""Virt kinds whose nodes start a process in no time; they are asked to be clients first."""

WARM = 5.0
"""Seconds of load before the kill: the kernel sends what it has to tell of connections every 2 s at the latest (ip_vs_sync.c)."""

BEGIN = 60.0
RETURN = 30.0
AFTERWARDS = 2.0
"""Seconds of load after it is known who is active in the end."""

POLL = 0.5


@dataclass(frozen=True, slots=True)
class Loaded:
    """A service under load. ``log`` is the record's path in the client, ``stop`` the file that ends it."""

    service: Service
    client: str
    channel: Channel
    log: str
    stop: str
    http: bool

    @property
    def kept(self) -> int:
        return load.KEPT if self.http else 0

    def record(self) -> Record:
        """What happened so far. Raises as ``Channel.get`` does."""
        return load.parse(self.channel.get(self.log).decode(errors="replace"))


def measure(drivers: Drivers, lab: Lab, text: str, pair: Pair, sink: Sink = silent) -> list[Measured]:
    """One failover of ``pair`` and back, for each of its services that a client can ask by TCP. ``text`` is the lab's topology, for ``up``.

    Raises ``UsageError`` when the lab is not whole or has nobody to ask, ``VlabError`` when a guest fails. However it ends, the killed
    director is brought back, unless that fails too; then ``up`` does it."""
    domains = _whole(drivers, lab)
    loads = _loads(drivers, lab, pair, domains)
    killed = _active(drivers, pair, domains)
    with _running(loads):
        _wait(f"{pair.director}: load to run", lambda: all(_warm(it) for it in loads), BEGIN)
        since = {it.service.name: it.record().now for it in loads}
        _say(sink, pair, f"{killed} is killed")
        drivers.hypervisors.destroy(domains[killed])
        try:
            _decided(loads, since, failover.STALL, failover.longest(pair))
            took_over = _owner(drivers, pair, domains, without=killed)
        finally:
            _say(sink, pair, f"{killed} is brought back")
            until = {it.service.name: _last(it) for it in loads}
            seconds = _bring_back(drivers, lab, text, sink)
        after = _returned(drivers, lab, pair, killed, took_over)
        time.sleep(AFTERWARDS)
        found = _decided(loads, until, 0.0, load.KEPT_TIMEOUT)
    return [
        Measured(
            it.service.name, pair.director, it.service.mode, pair.sync, it.client, killed, took_over, after, round(seconds, 1),
            failover.cost(found[it.service.name], since[it.service.name], until[it.service.name]),
            failover.cost(found[it.service.name], until[it.service.name], found[it.service.name].now),
        )
        for it in loads
    ]  # fmt: skip


def _whole(drivers: Drivers, lab: Lab) -> dict[str, Domain]:
    domains = {d.mark.node.name: d for d in drivers.hypervisors.domains(lab.name) if d.state == "running"}
    if missing := [node.name for node in lab.nodes if node.name not in domains]:
        raise UsageError(f"lab {lab.name} is not whole: {', '.join(missing)}", hint="vlab up first")
    return domains


def _loads(drivers: Drivers, lab: Lab, pair: Pair, domains: dict[str, Domain]) -> list[Loaded]:
    services = [service for service in lab.services if service.director == pair.director and service.protocol == "tcp"]
    found = [_loaded(drivers, lab, service, domains) for service in services]
    if not (made := [it for it in found if it]):
        raise UsageError(f"nobody can ask a service of director {pair.director}", hint="add a group with image: client")
    return made


def _loaded(drivers: Drivers, lab: Lab, service: Service, domains: dict[str, Domain]) -> Loaded | None:
    clients = failover.clients(lab, service, QUICK)
    if not clients or not any(server.weight for server in service.real_servers):
        return None
    server, name = service.real_servers[0], f"/run/vlab-load-{uuid.uuid4().hex[:8]}"
    http = dict(drivers.recipes[lab.node(server.node).image].serves).get(server.port or service.port) == "http"
    channel = drivers.channel(domains[clients[0].name])
    return Loaded(service, clients[0].name, channel, f"{name}.log", f"{name}.stop", http)


@contextmanager
def _running(loads: Sequence[Loaded]) -> Iterator[None]:
    """All loads run while the block does; they end after it, whatever ended it, and leave no file."""
    with ThreadPoolExecutor(len(loads)) as pool, ExitStack() as ending:
        for it in loads:
            words = load.command(it.service.vip, it.service.port, it.log, it.stop, http=it.http)
            run = pool.submit(it.channel.run, words, timeout=load.LONGEST + BEGIN)
            ending.callback(_remove, it)
            ending.callback(run.result)
            ending.callback(it.channel.put, it.stop, b"")
        yield


def _remove(it: Loaded) -> None:
    it.channel.run(["rm", "-f", it.log, it.stop])


def _warm(it: Loaded) -> bool:
    return failover.warm(it.record(), WARM, it.kept)


def _wait(what: str, holds: Callable[[], bool], timeout: float) -> None:
    """Raises ``WaitError`` after ``timeout`` seconds. A guest that does not answer yet, or has no record yet, is asked again."""

    def looked() -> None:
        try:
            done = holds()
        except GuestError as error:
            raise NotYet(error.what) from error
        if not done:
            raise NotYet("not yet")

    wait_until(what, looked, timeout=timeout, interval=POLL, slowest=POLL)


def _decided(loads: Sequence[Loaded], since: dict[str, float], least: float, timeout: float) -> dict[str, Record]:
    """Each service's record, once it says what became of every connection (``failover.over``); what is open after ``timeout`` stays so."""
    found: dict[str, Record] = {}

    def decided() -> bool:
        found.update({it.service.name: it.record() for it in loads})
        return all(failover.over(record, since[name], least) for name, record in found.items())

    with suppress(VlabError):
        _wait("the failover", decided, timeout)
    return found or {it.service.name: it.record() for it in loads}


def _last(it: Loaded) -> float:
    try:
        return it.record().now
    except VlabError:
        return 0.0


def _active(drivers: Drivers, pair: Pair, domains: dict[str, Domain]) -> str:
    """The active node, once there is one: the lab may just have been made."""
    with suppress(VlabError):
        _wait(f"{pair.director}: an active node", lambda: _owner(drivers, pair, domains) != "", RETURN)
    if owner := _owner(drivers, pair, domains):
        return owner
    raise UsageError(f"director {pair.director} has no active node, or two", hint="vlab verify says more")


def _owner(drivers: Drivers, pair: Pair, domains: dict[str, Domain], *, without: str = "") -> str:
    """The one active node; empty when there is none, or two."""
    held = {node: pairs.read(drivers.channel(domains[node])) for node in pair.nodes if node != without}
    found = pairs.active(vrrp.addresses(pair), held)
    return found[0] if len(found) == 1 else ""


def _bring_back(drivers: Drivers, lab: Lab, text: str, sink: Sink) -> float:
    began = time.monotonic()
    lifecycle.up(drivers, lab, text, sink)
    return time.monotonic() - began


def _returned(drivers: Drivers, lab: Lab, pair: Pair, killed: str, took_over: str) -> str:
    """Who is active in the end: waited for when that is to change once more, otherwise asked when it could have."""
    domains, wanted = _whole(drivers, lab), failover.active_after(pair, killed, took_over)
    if wanted == took_over:
        time.sleep(vrrp.takeover(pair, killed))
    with suppress(VlabError):
        _wait(f"{wanted} to be active", lambda: _owner(drivers, pair, domains) == wanted, RETURN)
    return _owner(drivers, pair, domains)


def _say(sink: Sink, pair: Pair, text: str) -> None:
    sink(Event(f"failover/{pair.director}", "note", text))
