"""Every shipped topology: up, proved, a second up changes nothing, down without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.harness import TOPOLOGIES, running, status, traces, verify, vlab

pytestmark = pytest.mark.live

FILES = sorted(TOPOLOGIES.glob("*.yaml"))


def test_the_promised_topologies_are_there() -> None:
    assert {"quickstart", "web-db", "nat", "dr", "tun", "virt-kinds"} <= {path.stem for path in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_topology(file: Path) -> None:
    lab = f"t-{file.stem}"
    with running(file, lab, "--no-verify"):
        seen = status(lab)
        assert seen["state"] == "running"
        assert {node["state"] for node in seen["nodes"]} == {"running"}
        verify(lab)
        assert all(server["state"] == "up" for service in status(lab)["services"] for server in service["real_servers"])
        assert vlab("check", lab, "-o", "json", check=False).json()["findings"] == []
        again = vlab("up", str(file), "--as", lab)
        assert f"{lab}: nothing to do" in again.err
        assert vlab("plan", str(file), "--as", lab).out.strip() == f"{lab}: nothing to do"
        gone = vlab("down", lab)
    assert traces(lab) == []
    left = vlab("audit", "-o", "json", check=False).json()
    assert [
        item for item in left if item["lab"] in (lab, "")
    ] == []  # other labs of this host are not this test's to judge
    assert gone.seconds < 30  # the bound of the requirement (5 s) is measured in benchmarks/, this one catches a hang
