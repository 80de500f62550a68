"""Services, arrivals and their strategies for the tests of the schedulers' models."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address

from hypothesis import strategies as st

from vlab.lvs.models import Arrival, Pool, Server, scheduler
from vlab.lvs.models.maglev import Maglev
from vlab.topology.vocabulary import SCHEDULERS

VIP = IPv4Address("10.21.0.100")
BASE = IPv4Address("10.21.0.0")

weights = st.lists(st.integers(0, 6), min_size=1, max_size=6)
clients = st.builds(Arrival, st.ip_addresses(v=4), st.integers(1, 65535), st.just(VIP))
every = st.sampled_from(sorted(SCHEDULERS))


def arrivals(count: int, chance: random.Random | None = None) -> list[Arrival]:
    """One client's connections, each from the next port."""
    draws = chance or random.Random(1)
    return [Arrival(BASE + 9, 20000 + at, VIP, (draws.getrandbits(32), draws.getrandbits(32))) for at in range(count)]


def listed(name: str, weights: list[int], upper: int = 0) -> Pool:
    servers = (Server(BASE + at, weight=weight, upper=upper) for at, weight in enumerate(weights, 1))
    return Pool.listed(scheduler(name), servers)


def letters(chosen: list[Server | None]) -> str:
    """A for the first of the list, B for the second; «-» for a refused connection."""
    return "".join("-" if server is None else chr(ord("A") + int(server.address) - int(BASE) - 1) for server in chosen)


@st.composite
def pools(draw: st.DrawFn, names: st.SearchStrategy[str] = every) -> Pool:
    """A service with some history: thresholds, open and closed connections, changed weights."""
    fields = st.tuples(st.integers(0, 6), st.sampled_from([0, 0, 3, 6]), st.integers(0, 3), st.integers(0, 4))
    name = draw(names)
    base = replace(Maglev(), index=8) if name == "mh" else scheduler(name)
    servers = [
        Server(BASE + at, 80, weight, upper, active=active, inactive=old, overloaded=0 < upper <= active + old)
        for at, (weight, upper, active, old) in enumerate(draw(st.lists(fields, min_size=1, max_size=6)), 1)
    ]
    _, pool = Pool.listed(base, servers).hold(arrivals(draw(st.integers(0, 8))))
    return pool.weigh(draw(st.sampled_from(servers)).key, draw(st.integers(0, 6)))
