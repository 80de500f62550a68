"""Containers alone, and no traffic: what containers cost."""

from __future__ import annotations

from benchmarks import floors
from benchmarks.floors import ALL_AT_ONCE, ONE_PER_CORE
from benchmarks.labs import LabCase, Start

TOPOLOGY = """\
vlab: 1
name: containers
networks: {{back: {{subnet: 10.30.0.0/16}}}}
groups: {{web: {{count: {count}, virt: container, image: web, networks: [back], memory: 128 MiB}}}}
"""


class Containers(LabCase):
    name = "containers"
    title = "The floor: libvirt-LXC containers on overlays, created by hand, until systemd in all of them takes orders."
    sizes = (1, 10, 50, 100)
    quick = (1, 3)
    starts = (Start("up", (), "libvirt-LXC", (ONE_PER_CORE, ALL_AT_ONCE), floors.booted),)

    def topology(self, size: int) -> str:
        return TOPOLOGY.format(count=size)
