"""The example lab, web-db, from the command to verified traffic."""

from __future__ import annotations

from pathlib import Path

from benchmarks import floors
from benchmarks.floors import ALL_AT_ONCE, ONE_PER_CORE
from benchmarks.labs import LabCase, Start

FILE = Path(__file__).resolve().parents[2] / "topologies" / "web-db.yaml"


class WebDb(LabCase):
    name = "web-db"
    title = (
        "`topologies/web-db.yaml`: four VMs and four containers. `up` includes verification by traffic; the floors do not, and "
        "they end when all agents answer and systemd in all containers takes orders."
    )
    sizes = (8,)
    quick = (8,)
    starts = (
        Start("up --cold", ("--cold",), "plain QEMU and libvirt-LXC", (ONE_PER_CORE, ALL_AT_ONCE), floors.booted),
        Start(
            "up --no-verify",
            ("--no-verify",),
            "virDomainRestore and libvirt-LXC",
            (ONE_PER_CORE, ALL_AT_ONCE),
            floors.restored,
        ),
        Start("up", (), "virDomainRestore and libvirt-LXC", (ONE_PER_CORE, ALL_AT_ONCE), floors.restored),
    )

    def topology(self, size: int) -> str:  # noqa: ARG002 - it has one
        return FILE.read_text()
