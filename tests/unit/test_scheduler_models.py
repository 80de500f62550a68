"""The models of ip_vs' schedulers: exact sequences, and sequences measured on a real director."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from tests.unit.pools import BASE, arrivals, letters, listed
from vlab.errors import UsageError
from vlab.lvs.models import Arrival, Pool, Server, scheduler
from vlab.lvs.models.pool import names
from vlab.topology.vocabulary import SCHEDULERS


def test_there_is_a_model_for_every_scheduler_of_the_language() -> None:
    assert set(names()) == SCHEDULERS.keys()


def test_an_unknown_scheduler_is_refused() -> None:
    with pytest.raises(UsageError, match="mystery"):
        scheduler("mystery")


@pytest.mark.parametrize(
    ("name", "weights", "sequence"),
    [
        ("rr", [4, 3, 2], "ABCABCABC"),
        ("rr", [1, 0, 1], "ACACAC"),
        ("wrr", [4, 3, 2], "AABABCABCAABABCABC"),
        ("wrr", [1, 2], "BABBAB"),
        ("wrr", [2, 4], "BABBAB"),
        ("wrr", [0, 0], "----"),
        ("lc", [9, 1, 1], "ABCABC"),
        ("wlc", [4, 3, 2], "ABCABACBA"),
        ("sed", [3, 1], "AAABAAAB"),
        ("nq", [3, 1], "ABAAAAABAAAB"),
        ("fo", [1, 3, 3], "BBBB"),
        ("ovf", [1, 2], "BBBAA--"),
        ("dh", [0, 0], "--"),
    ],
)
def test_connections_that_stay_open(name: str, weights: list[int], sequence: str) -> None:
    chosen, _ = listed(name, weights).hold(arrivals(len(sequence)))
    assert letters(chosen) == sequence


@pytest.mark.parametrize(
    ("name", "weights", "sequence"),
    [
        ("lc", [1, 1, 1], "ABCABC"),
        ("wlc", [4, 3, 2], "ABCABACBA"),
        ("sed", [1, 3, 3], "BBBB"),
        ("nq", [1, 3, 3], "AAAA"),
        ("ovf", [1, 2], "BBBBBB"),
    ],
)
def test_connections_each_closed_before_the_next(name: str, weights: list[int], sequence: str) -> None:
    chosen, _ = listed(name, weights).serve(arrivals(len(sequence)))
    assert letters(chosen) == sequence


@pytest.mark.parametrize(
    ("name", "start", "first"),
    [
        ("lc", [(1, 0), (0, 257), (0, 256)], "A"),  # one active connection is worth 256 others
        ("lc", [(1, 0), (0, 255), (0, 254)], "C"),
        ("wlc", [(0, 3), (0, 2)], "B"),
        ("sed", [(2, 0), (0, 900)], "B"),
        ("nq", [(1, 0), (0, 900)], "B"),
        ("ovf", [(2, 0), (1, 0)], "B"),
    ],
)
def test_known_connections_count(name: str, start: list[tuple[int, int]], first: str) -> None:
    servers = [Server(BASE + at, active=load[0], inactive=load[1]) for at, load in enumerate(start, 1)]
    chosen, _ = Pool.listed(scheduler(name), servers).arrive(arrivals(1)[0])
    assert letters([chosen]) == first


MEASURED = [
    # scheduler and flags, port; last byte, weight, upper, lower and last weight of each destination; clients; who got them
    ("mh", 101, 9011, "66:1 53:6 61:0:5 63:2", "167 155 196 155 159 242 171 163 137 138 218 235",
     "63 66 53 66 66 66 53 53 53 53 53 66"),
    ("mh", 103, 9049, "56:4 57:0:8:2:3 63:3 61:6 53:0:5", "186 213 167 143 160 215 240 143 153 132 153 210",
     "56 63 - 61 61 61 63 61 61 56 61 61"),
    ("mh mh-port mh-fallback", 101, 9019, "61:50:5:2 59:9 70:6 64:0:0:0:2 54:3",
     "153/33185 181/30952 200/54127 209/36882 205/47302 244/55174 136/38913 197/52274 235/55703 206/34065 194/42091",
     "61 70 61 61 61 61 54 59 59 70 70"),
    ("sh", 103, 9047, "58:9 51:1 66:6:5 54:1:5 63:3 67:3", "163 190 205 183 162 194 235 227 142 170 229 249",
     "66 58 58 66 51 67 58 66 58 58 67 67"),
    ("sh sh-port", 103, 9052, "62:2:5:2 56:0:5 54:6:8:2 70:1",
     "187/22429 176/38133 180/58627 210/54339 233/41952 228/28506 186/57475 239/30951 232/48170 215/40421 189/49017 "
     "214/35946",
     "54 54 54 54 54 62 54 54 62 62 54 -"),
    ("sh sh-fallback", 104, 9072, "62:3 51:3:8:2 66:2 70:6 60:9:5:2", "148 144 223 184 165 223 214 167 217 182 199 136",
     "70 60 60 60 62 60 60 70 70 70 62 51"),
    ("dh", 103, 9048, "55:5:8 60:50:5:2 54:0:5 59:1:5:2", "168 235 197 170 220 167", "60 60 60 60 60 -"),
    ("dh", 106, 9105, "58:50:5 68:1 69:9:8 66:9", "198 173 138 179 215 189 248 190 224", "69 69 69 69 69 69 69 69 -"),
    ("lblcr", 105, 9089, "53:2 68:300 67:9 63:9:5 51:1:5 59:1:8:2", "157 245 237 188 145", "53 53 53 68 68"),
    ("ovf", 101, 9008, "56:6 51:9:5 66:2 58:50:5 53:50", "192 216 179 220 210 173 178", "58 58 58 58 58 53 53"),
]  # fmt: skip
"""What a director with Debian's kernel 6.1.0-56 (amd64) did with real SYNs, as ``ipvsadm -Lnc`` told it: ten of 456 random services
of all schedulers but twos, which that kernel lacks. All 456 went as the models say. Destinations are in the list's order."""


@pytest.mark.parametrize(("words", "vip", "port", "servers", "asking", "answer"), MEASURED)
def test_as_a_director_did_it(words: str, vip: int, port: int, servers: str, asking: str, answer: str) -> None:
    pool = Pool.listed(scheduler(*words.split()), (measured(text, port) for text in servers.split()))
    chosen, _ = pool.hold(asker(text, BASE + vip) for text in asking.split())
    assert " ".join("-" if server is None else str(int(server.address) - int(BASE)) for server in chosen) == answer


def measured(text: str, port: int) -> Server:
    number, weight, upper, lower, last = [*map(int, text.split(":")), 0, 0, 0][:5]
    return Server(BASE + number, port, weight, upper, lower, last_weight=last or None)


def asker(text: str, vip: IPv4Address) -> Arrival:
    number, _, port = text.partition("/")
    return Arrival(BASE + int(number), int(port or 0), vip)
