"""``vlab plan`` by number of guests: the whole command, from process start to printed plan.

.venv/bin/python -m benchmarks.plan_size
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

PROGRAM = [sys.executable, "-c", "from vlab.cli.main import main; main()"]
TOPOLOGY = """\
vlab: 1
name: big
networks: {{front: {{subnet: 10.0.0.0/16}}, back: {{subnet: 10.1.0.0/16}}}}
groups:
  web: {{count: {web}, virt: container, image: web, networks: [back]}}
  client: {{virt: container, image: client, networks: [front]}}
directors:
  lvs:
    networks: [front, back]
    services: {{www: {{vip: 10.0.200.1, port: 80, mode: nat, scheduler: rr, real_servers: web}}}}
"""


def main() -> None:
    for guests in (10, 100, 1_000, 10_000):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(TOPOLOGY.format(web=guests - 2))
            file.flush()
            began = time.monotonic()
            done = subprocess.run([*PROGRAM, "plan", file.name], capture_output=True, check=False)
            print(f"{guests:6} guests: {time.monotonic() - began:6.2f} s  (exit {done.returncode})")


if __name__ == "__main__":
    main()
