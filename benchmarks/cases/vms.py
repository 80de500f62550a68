"""Virtual machines alone, and no traffic: what machines cost."""

from __future__ import annotations

from benchmarks import floors
from benchmarks.floors import ALL_AT_ONCE, ONE_AFTER_ANOTHER, ONE_PER_CORE
from benchmarks.labs import LabCase, Start

TOPOLOGY = """\
vlab: 1
name: vms
networks: {{back: {{subnet: 10.30.0.0/24}}}}
groups: {{web: {{count: {count}, virt: para, image: web, networks: [back], memory: 256 MiB}}}}
"""


class Vms(LabCase):
    name = "vms"
    title = (
        "`up --cold` boots, `up` restores from golden snapshots that are there. Their floors: plain QEMU processes until "
        "all agents answer; `virDomainRestore` of the same save images until all agents answer."
    )
    sizes = (1, 4, 8, 12, 16)
    quick = (1, 2)
    starts = (
        Start("up --cold", ("--cold",), "plain QEMU", (ONE_PER_CORE, ALL_AT_ONCE), floors.booted),
        Start("up", (), "virDomainRestore", (ONE_AFTER_ANOTHER, ONE_PER_CORE), floors.restored),
    )

    def topology(self, size: int) -> str:
        return TOPOLOGY.format(count=size)
