"""``vlab plan`` by number of guests: the whole command, from process start to printed plan."""

from __future__ import annotations

import tempfile
from collections.abc import Generator

from benchmarks.case import Case
from benchmarks.command import vlab
from benchmarks.rows import Row

CHANGES_PENDING = 3
TOPOLOGY = """\
vlab: 1
name: bench-plan
networks: {{front: {{subnet: 10.0.0.0/16}}, back: {{subnet: 10.1.0.0/16}}}}
groups:
  web: {{count: {web}, virt: container, image: web, networks: [back]}}
  client: {{virt: container, image: client, networks: [front]}}
directors:
  lvs:
    networks: [front, back]
    services: {{www: {{vip: 10.0.200.1, port: 80, mode: nat, scheduler: rr, real_servers: web}}}}
"""


class Plan(Case):
    name = "plan"
    title = "`vlab plan` of a lab that is not there, all of whose web servers are behind one service."
    sizes = (10, 100, 1_000, 10_000)
    quick = (10, 100)
    privileged = False

    def measure(self, size: int, rounds: int) -> Generator[Row, None, None]:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(TOPOLOGY.format(web=size - 2))
            file.flush()
            for number in range(1, rounds + 1):
                done = vlab("plan", file.name, codes=(CHANGES_PENDING,))
                yield Row(self.name, "plan", size, number, done.seconds, done.cpu_seconds)
