"""The oracle: who must get each of a known series of connections, by the kernel's own algorithms. Pure.

It runs ``models`` from every state that a service may be in (``starts``). What comes out is either the set of all possible
sequences, or, where connections that were in the table before may leave it meanwhile, bounds for each server.

A connection that is closed is «inactive» from its first FIN (FIN_WAIT or TIME_WAIT for up to 120 s, ip_vs_proto_tcp.c), so when the
next one is scheduled there is no active one. That is why sed, nq and ovf, which count active ones only, send all requests that
come one after another to one server, and are told apart by connections that stay open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, gcd

from vlab.errors import UsageError
from vlab.lvs.models import Arrival, Key, Pool, Server, chance, pool
from vlab.lvs.starts import Known, settled, starts
from vlab.topology.lab import Service

RISK = 1e-6
"""How often a statistical bound may be broken by chance alone."""

Bounds = Mapping[str, tuple[int, int]]
"""The least and the most requests of each server, by its node's name; "" stands for refused connections."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What has become of a connection when the next one arrives."""

    words: str
    run: Callable[[Pool, Iterable[Arrival]], tuple[list[Server | None], Pool]]


CLOSED = Pace("each closed before the next", Pool.serve)
HELD = Pace("all open at once", Pool.hold)
GONE = Pace("each forgotten at once (one-packet scheduling)", Pool.pass_by)


@dataclass(frozen=True, slots=True)
class Expectation:
    """``requests`` are all that are made. ``sequences`` are all possible answers, name by name; empty where only ``bounds`` (and for
    twos ``odds``, the shares of which one must fit) are known. ``why`` is one sentence."""

    requests: int
    bounds: Bounds
    why: str
    sequences: frozenset[tuple[str, ...]] = frozenset()
    odds: tuple[Mapping[str, float], ...] = ()

    @property
    def refused(self) -> tuple[int, int]:
        """The least and the most requests that nobody gets."""
        return self.bounds.get("", (0, 0))

    def holds(self, counts: Mapping[str, int]) -> bool:
        """Whether ``counts`` (by server; one that is not in it got none; the missing were refused) is a possible split."""
        full = {name: count for name, count in counts.items() if count and name}
        refused = self.requests - sum(full.values())
        if refused < 0 or not full.keys() <= self.bounds.keys():
            return False
        full |= {"": refused} if refused else {}
        if self.sequences:
            return any(Counter(sequence) == full for sequence in self.sequences)
        within = all(
            low <= full.get(name, 0) <= high for name, (low, high) in {**self.bounds, "": self.refused}.items()
        )
        return within and self._likely(full)

    def follows(self, names: Sequence[str]) -> bool:
        """Whether the answers came in a possible order; "" is a refused connection."""
        return tuple(names) in self.sequences if self.sequences else self.holds(Counter(names))

    def _likely(self, counts: Mapping[str, int]) -> bool:
        """Pearson's test, where every share is large enough for it (five expected is the usual rule)."""
        fits = [odds for odds in self.odds if min(odds.values()) * self.requests >= 5]
        return not fits or any(chance.chi_square(counts, odds) > RISK for odds in fits)

    def render(self) -> str:
        """«web1 4, web2 4, web3 3–5», or «all 12 to one of web1, web2»."""
        if self.requests and self.sequences and all(len(set(sequence)) == 1 for sequence in self.sequences):
            names = sorted({sequence[0] or "nobody" for sequence in self.sequences})
            return f"all {self.requests} to {names[0] if len(names) == 1 else 'one of ' + ', '.join(names)}"
        refused = [f"{_range(*self.refused)} refused"] if self.refused[1] else []
        return ", ".join([*(f"{name} {_range(*bound)}" for name, bound in self.bounds.items() if name), *refused])


def expected(known: Known, asked: Sequence[Arrival], pace: Pace = CLOSED) -> Expectation:
    """What ``asked``, in this order, must come to. All go to one VIP; with persistence all come from one client. A ``port`` of 0 is one
    that nobody knows.

    Raises ``UsageError`` for a scheduler without a model.
    """
    if known.scheduler not in pool.names():
        raise UsageError(f"vlab has no oracle for scheduler «{known.scheduler}»")
    if not asked or not known.live:
        return _whole(known, asked, {("",) * len(asked)}, "every weight is 0, so nobody may get a request")
    if known.persistent:
        return _whole(
            known,
            asked,
            _to_one(known, asked),
            "persistence keeps one client on one server, whatever the scheduler says",
        )
    if known.scheduler in _UNSEEN:
        return _UNSEEN[known.scheduler](known, asked)
    return _simulated(known, asked, pace)


def _simulated(known: Known, asked: Sequence[Arrival], pace: Pace) -> Expectation:
    why = f"{_WHY[known.scheduler](known)}; {pace.words}"
    if known.scheduler in _HASHED and _ports_unknown(known, asked):
        return _anything(known, asked, why)
    if known.scheduler in _HASHED and not known.ordered:
        one = len({(arrival.client, arrival.port) for arrival in asked}) == 1
        return _whole(known, asked, _to_one(known, asked), why) if one else _anything(known, asked, why)
    began = starts(known, asked[0].vip, len(asked))
    if not began:
        return _TURNS.get(known.scheduler, _anything)(known, asked, why)
    made = {tuple(known.name(server) for server in pace.run(start, asked)[0]) for start in began}
    if settled(known):
        return _whole(known, asked, made, why)
    why += "; connections of before may be forgotten meanwhile"
    if known.scheduler not in _STEADY or any(server.upper for server in known.servers):
        return _anything(known, asked, why)
    return Expectation(len(asked), _hull(known, made), why + _quiesced(known))


def whole_turns(known: Known, at_least: int) -> int:
    """The smallest number of requests, ``at_least`` or more, that is made of whole turns of the scheduler."""
    shares = _shares(known)
    period = sum(shares.values()) if shares else 1
    return ceil(at_least / period) * period


def wrr_turn(service: Service) -> list[str]:
    """One whole turn of wrr over the servers of ``service``, if keepalived added the last of the file first."""
    servers = [Server(server.address, server.port, server.weight) for server in service.real_servers]
    names = {server.key: real.node for server, real in zip(servers, service.real_servers, strict=True)}
    turn = sum(server.weight for server in servers) // (gcd(*(server.weight for server in servers)) or 1)
    arrivals = [Arrival(service.vip, 1, service.vip)] * turn
    chosen, _ = Pool.listed(pool.scheduler("wrr"), servers).hold(arrivals)
    return [names[server.key] for server in chosen if server]


def _whole(known: Known, asked: Sequence[Arrival], sequences: Iterable[tuple[str, ...]], why: str) -> Expectation:
    made = frozenset(sequences)
    return Expectation(len(asked), _hull(known, made), why + _quiesced(known), made)


def _hull(known: Known, sequences: Iterable[tuple[str, ...]]) -> Bounds:
    counts = [Counter(sequence) for sequence in sequences]
    names = [
        *(known.name(server) for server in sorted(known.servers, key=lambda s: list(known.names).index(s.key))),
        "",
    ]
    return {name: (min(c[name] for c in counts), max(c[name] for c in counts)) for name in names}


def _to_one(known: Known, asked: Sequence[Arrival]) -> Iterable[tuple[str, ...]]:
    return ((known.name(server),) * len(asked) for server in known.live)


def _anything(known: Known, asked: Sequence[Arrival], why: str) -> Expectation:
    """Any server of a weight may get any request, and any request may be refused where the scheduler refuses at all."""
    most = len(asked)
    refusing = known.scheduler in _REFUSING or any(server.upper for server in known.servers)
    bounds = dict.fromkeys(known.names.values(), (0, 0)) | {known.name(server): (0, most) for server in known.live}
    if len(known.live) == 1 and not refusing:
        bounds[known.name(known.live[0])] = (most, most)
    return Expectation(most, {**bounds, "": (0, most if refusing else 0)}, why + _quiesced(known))


def _ports_unknown(known: Known, asked: Sequence[Arrival]) -> bool:
    """Does a source port that nobody knows decide, by sh-port or mh-port?"""
    return any(flag.endswith("-port") for flag in known.flags) and not all(arrival.port for arrival in asked)


def _turns(known: Known, asked: Sequence[Arrival], why: str) -> Expectation:
    """Any window of a cyclic sequence that is too long to try: exact for whole turns, within one turn's share for the rest."""
    shares = _shares(known)
    period = sum(shares.values())
    whole, rest = divmod(len(asked), period)
    bounds = dict.fromkeys(known.names.values(), (0, 0)) | {
        name: (whole * share + max(0, rest - (period - share)), whole * share + min(rest, share))
        for name, share in shares.items()
    }
    return Expectation(len(asked), bounds, why + _quiesced(known))


def _shares(known: Known) -> dict[str, int]:
    """What each live server gets of one turn; empty for schedulers that know no turns."""
    if known.scheduler not in _WEIGHED or not known.live:
        return {}
    weights = {known.name(s): s.weight if _WEIGHED[known.scheduler] else 1 for s in known.live}
    common = gcd(*weights.values())
    return {name: weight // common for name, weight in weights.items()}


def _quiesced(known: Known) -> str:
    names = [known.name(server) for server in known.servers if server.weight == 0]
    return f"; {', '.join(sorted(names))}: weight 0, no new connections" if names and known.live else ""


def _twos(known: Known, asked: Sequence[Arrival]) -> Expectation:
    """The kernel's random numbers are not to be known: bounds, and Pearson's test against the shares of idle servers and of loads
    that have evened out. Counts lie between the two."""
    why = f"twos draws two servers at random and takes the less loaded: bounds that chance breaks once in {round(1 / RISK):,}"
    nobody = dict.fromkeys(known.names.values(), (0, 0))
    bounds = {known.names[key]: bound for key, bound in chance.bounds(known.servers, len(asked), RISK).items()}
    shares = (chance.shares(known.servers), chance.settled_shares(known.servers))
    odds = tuple({known.names[key]: share for key, share in each.items()} for each in shares)
    return Expectation(len(asked), nobody | bounds, why + _quiesced(known), odds=odds)


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"


def _weights(known: Known) -> str:
    by_key: dict[Key, int] = {server.key: server.weight for server in known.servers}
    return ":".join(str(by_key[key]) for key in known.names if by_key.get(key))


def _by_client(name: str) -> Callable[[Known], str]:
    def why(known: Known) -> str:
        port = " and port" if f"{name}-port" in known.flags else ""
        return f"{name} hashes the client's address{port}"

    return why


_WHY: Mapping[str, Callable[[Known], str]] = {
    "rr": lambda _: "rr takes the servers in turn, whatever their weights",
    "wrr": lambda known: f"wrr shares out by weight, {_weights(known)}, in each turn",
    "lc": lambda _: "lc evens out active · 256 + inactive connections",
    "wlc": lambda _: "wlc evens out (active · 256 + inactive connections) / weight",
    "sed": lambda _: "sed takes the least (active + 1) / weight",
    "nq": lambda _: (
        "nq takes the first server of its list without an active connection, else the least (active + 1) / weight"
    ),
    "fo": lambda _: "fo sends everything to the highest weight that is there",
    "ovf": lambda _: "ovf fills the highest weight first, until active connections pass it",
    "sh": _by_client("sh"),
    "mh": _by_client("mh"),
    "dh": lambda _: "dh hashes the VIP",
    "lblc": lambda _: "lblc keeps a VIP on its server until that is overloaded",
    "lblcr": lambda _: "lblcr keeps a VIP on its servers until they are overloaded",
}

_UNSEEN = {"twos": _twos}
_TURNS = {"rr": _turns, "wrr": _turns}
_WEIGHED = {"rr": False, "wrr": True, "lc": False, "wlc": True}
"""Schedulers whose split is exact after a whole turn, and whether weights make it."""

_HASHED = frozenset({"sh", "dh", "mh"})
"""Schedulers with which the order of the list decides what a hash means."""

_REFUSING = frozenset({"sh", "dh", "mh", "ovf"})
"""Schedulers that may refuse a connection although a server has a weight."""

_STEADY = frozenset({"lc", "wlc", "sed"})
"""Schedulers with which a server gets the more, the fewer connections it has and the more the others have: the extremes of what may
be forgotten bound everything between them."""
