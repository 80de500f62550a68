"""A virtual service: servers in the kernel's order and a scheduler, through arrivals, closings and changes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from vlab.errors import UsageError
from vlab.lvs.models import loads
from vlab.lvs.models.chance import TwoChoices
from vlab.lvs.models.loads import ByLoad
from vlab.lvs.models.locality import Locality, ReplicatedLocality
from vlab.lvs.models.maglev import Maglev
from vlab.lvs.models.server import Arrival, Key, Scheduler, Server
from vlab.lvs.models.tables import DestinationHash, SourceHash
from vlab.lvs.models.turns import RoundRobin, WeightedRoundRobin

_MODELS: dict[str, Callable[[frozenset[str]], Scheduler]] = {
    "rr": lambda _: RoundRobin(),
    "wrr": lambda _: WeightedRoundRobin(),
    "lc": lambda _: ByLoad(loads.lc),
    "wlc": lambda _: ByLoad(loads.wlc),
    "sed": lambda _: ByLoad(loads.sed),
    "nq": lambda _: ByLoad(loads.nq),
    "fo": lambda _: ByLoad(loads.fo),
    "ovf": lambda _: ByLoad(loads.ovf),
    "sh": lambda flags: SourceHash("sh-port" in flags, "sh-fallback" in flags),
    "dh": lambda _: DestinationHash(),
    "mh": lambda flags: Maglev("mh-port" in flags, "mh-fallback" in flags),
    "lblc": lambda _: Locality(),
    "lblcr": lambda _: ReplicatedLocality(),
    "twos": lambda _: TwoChoices(),
}


def names() -> list[str]:
    """Every scheduler there is a model for, by the kernel's name."""
    return list(_MODELS)


def scheduler(name: str, *flags: str) -> Scheduler:
    """The scheduler before any server was added. ``flags`` are ipvsadm's words: sh-port, sh-fallback, mh-port, mh-fallback."""
    if name not in _MODELS:
        raise UsageError(f"vlab has no model of scheduler «{name}»")
    return _MODELS[name](frozenset(flags))


@dataclass(frozen=True, slots=True)
class Pool:
    """``servers`` are in the order of the kernel's list, the last added first. Without persistence: that would keep a client on its
    server before any scheduler is asked."""

    servers: tuple[Server, ...]
    scheduler: Scheduler

    @classmethod
    def listed(cls, scheduler: Scheduler, servers: Iterable[Server]) -> Pool:
        """A service whose list, from its head, is ``servers``."""
        return cls((), scheduler)._with(tuple(servers))

    def add(self, server: Server) -> Pool:
        return self._with((server, *self.servers))

    def remove(self, key: Key) -> Pool:
        return self._with(tuple(server for server in self.servers if server.key != key))

    def weigh(self, key: Key, weight: int) -> Pool:
        return self._with(_mapped(self.servers, key, lambda server: server.weighed(weight)))

    def arrive(self, arrival: Arrival) -> tuple[Server | None, Pool]:
        """Who gets the connection (as it was before it), None when it is refused, and the service with it."""
        chosen, after = self.scheduler.choose(self.servers, arrival)
        servers = self.servers if chosen is None else _mapped(self.servers, chosen.key, Server.opened)
        return chosen, Pool(servers, after)

    def close(self, key: Key) -> Pool:
        """An active connection of that server becomes inactive."""
        return replace(self, servers=_mapped(self.servers, key, Server.closed))

    def expire(self, key: Key) -> Pool:
        """An inactive connection of that server leaves the table."""
        return replace(self, servers=_mapped(self.servers, key, Server.expired))

    def hold(self, arrivals: Iterable[Arrival]) -> tuple[list[Server | None], Pool]:
        """Connections that all stay open."""
        return _run(self, arrivals, lambda pool, _key: pool)

    def serve(self, arrivals: Iterable[Arrival]) -> tuple[list[Server | None], Pool]:
        """Connections each of which is closed, but not yet expired, when the next arrives: what ``vlab verify`` does."""
        return _run(self, arrivals, Pool.close)

    def pass_by(self, arrivals: Iterable[Arrival]) -> tuple[list[Server | None], Pool]:
        """Connections each of which has left the table when the next arrives: one-packet scheduling."""
        return _run(self, arrivals, lambda pool, key: pool.close(key).expire(key))

    def _with(self, servers: tuple[Server, ...]) -> Pool:
        return Pool(servers, self.scheduler.changed(self.servers, servers))


def _run(
    pool: Pool, arrivals: Iterable[Arrival], after: Callable[[Pool, Key], Pool]
) -> tuple[list[Server | None], Pool]:
    chosen: list[Server | None] = []
    for arrival in arrivals:
        server, pool = pool.arrive(arrival)
        pool = pool if server is None else after(pool, server.key)
        chosen.append(server)
    return chosen, pool


def _mapped(servers: Sequence[Server], key: Key, change: Callable[[Server], Server]) -> tuple[Server, ...]:
    return tuple(change(server) if server.key == key else server for server in servers)
