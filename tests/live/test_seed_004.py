"""The tests of the paper behind topologies/seed-004.yaml: 80 web and 20 FTP requests through one VIP; the same with the active
director switched off; the same with it back. The counts stand beside the paper's in the test's output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.live.harness import TOPOLOGIES, eventually, running, status, traces, verify, vlab

pytestmark = pytest.mark.live

LAB = "t-seed-004"
FILE = TOPOLOGIES / "seed-004.yaml"
VIP = "125.219.112.9"
PAPER = {"web1": 28, "web2": 27, "web3": 25, "ftp1": 20}

WEB = f"for i in $(seq 80); do curl -sm 5 http://{VIP}/ | head -n 1; done"
FTP = f"for i in $(seq 20); do curl -sm 5 ftp://{VIP}/hostname; done"


@pytest.fixture(scope="module", autouse=True)
def lab() -> Iterator[str]:
    with running(FILE, LAB, "--no-verify"):
        verify(LAB)
        yield LAB
    assert traces(LAB) == []


def visits() -> dict[str, int]:
    """Who answered the paper's hundred visits, printed beside the paper's counts."""
    said = vlab("exec", f"{LAB}/client1", "--", "sh", "-c", f"{WEB}; {FTP}").out.split()
    counts = dict(Counter(said))
    print("".join(f"{name}: {counts.get(name, 0)} (paper: {paper})\n" for name, paper in PAPER.items()))
    return counts


def as_expected(counts: dict[str, int]) -> bool:
    """rr gives each of three web servers 80 / 3 requests, give or take one; the FTP server gets every one of its own."""
    webs = sorted(count for name, count in counts.items() if name.startswith("web"))
    return webs == [26, 27, 27] and counts.get("ftp1") == 20 and sum(counts.values()) == 100


def active() -> str:
    return str(status(LAB)["services"][0]["active"])


def test_scheduling_and_availability() -> None:
    first = active()
    assert as_expected(visits())
    vlab("fault", "kill", f"{LAB}/{first}")
    eventually("the other director is active", lambda: active() not in ("", first), 15)
    second = active()
    assert as_expected(visits()), "with one director off"
    vlab("up", str(FILE), "--as", LAB, "--no-verify")
    assert active() == second, "the one that came back stands by"
    assert as_expected(visits()), "with it back"
