"""How long a command takes before it does anything: Python, its libraries, and the module of the verb."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

from benchmarks.case import Case
from benchmarks.command import vlab
from benchmarks.rows import Row

FILE = Path(__file__).parents[2] / "topologies" / "quickstart.yaml"
VERBS = {"version": ("version",), "--help": ("--help",), "validate": ("validate", str(FILE))}
LIBRARIES = [sys.executable, "-c", "import typer, pydantic.main"]
"""What every command needs, as typer needs pydantic."""


class Start(Case):
    name = "start"
    title = (
        "Commands that do next to nothing, from process start to end. `version` loads no verb's module, `--help` all of them, `validate` the "
        "topology language and every recipe. The floor is Python with typer and pydantic."
    )
    sizes = (1,)
    quick = (1,)
    privileged = False

    def measure(self, size: int, rounds: int) -> Generator[Row, None, None]:
        for number in range(1, rounds + 1):
            began = time.monotonic()
            subprocess.run(LIBRARIES, check=True)
            yield Row(self.name, "libraries", size, number, time.monotonic() - began, floor_for="version")
            for variant, words in VERBS.items():
                done = vlab(*words)
                yield Row(self.name, variant, size, number, done.seconds, done.cpu_seconds)
