"""What the measurements were made on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from vlab import __version__
from vlab.engine.drivers import Drivers
from vlab.host import accel, memory


def facts(drivers: Drivers) -> dict[str, str]:
    meminfo = Path("/proc/meminfo").read_text()
    total, free = (memory.show(memory.parse(meminfo, field)) for field in ("MemTotal", "MemAvailable"))
    return {
        "CPU": f"{_field(Path('/proc/cpuinfo').read_text(), 'model name')}, {os.cpu_count()} cores",
        "memory": f"{total}, {free} available at the start",
        "system": _release().get("PRETTY_NAME", "unknown"),
        "kernel": platform.release(),
        "libvirt, QEMU": dotted(drivers.versions("qemu:///system")) or "libvirt does not answer",
        "accelerator": _accelerator(drivers.paths.root),
        "load before": f"{os.getloadavg()[0]:.2f} (average of a minute)",
        "vlab": __version__,
    }


def dotted(text: str) -> str:
    """libvirt's version numbers as people write them: 9000000 is 9.0.0."""
    return re.sub(r"\b(\d+)(\d{3})(\d{3})\b", lambda n: ".".join(str(int(part)) for part in n.groups()), text)


def _accelerator(root: Path) -> str:
    answer = accel.without_booting(root)
    return f"{answer.name}: {answer.why}" if answer else "not known yet"


def _field(text: str, name: str) -> str:
    values = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(name))
    return next(values, "unknown")


def _release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}
