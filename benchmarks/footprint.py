"""What running guests take of the host: memory and disk."""

from __future__ import annotations

from pathlib import Path

from vlab.engine.drivers import Drivers
from vlab.hypervisors.kind import kind
from vlab.hypervisors.mark import Domain
from vlab.images.store import allocated

MOUNT = "root"
"""Where a container's overlay is mounted: what is seen there is not the clone's own."""
CONTAINER = ".libvirt-lxc"


def of(drivers: Drivers, lab: str) -> tuple[int, int]:
    """Bytes of memory and of disk of all guests of a running lab."""
    domains = drivers.hypervisors.domains(lab)
    clones = drivers.paths.clones(lab)
    parts = [part for part in clones.glob("*/*") if part.name != MOUNT]
    return sum(map(memory, domains)), sum(_size(part) for part in parts)


def memory(domain: Domain) -> int:
    return _container(domain.pid) if kind(domain.mark.node.virt).shares_host_kernel else _pss(domain.pid)


def _size(path: Path) -> int:
    return allocated(path) if path.is_dir() else path.stat().st_blocks * 512


def _container(init: int) -> int:
    """Its memory group, in which page cache counts, and the libvirt_lxc process that is init's parent."""
    group = memory_group(Path(f"/proc/{init}/cgroup").read_text())
    controller = int(Path(f"/proc/{init}/stat").read_text().rpartition(")")[2].split()[1])
    return _usage(group) + _pss(controller)


def memory_group(membership: str) -> str:
    """From /proc/PID/cgroup, the group of the whole container, as a path below /sys/fs/cgroup: version 1's, where memory is under it."""
    by_names = {names: path for _, names, path in (line.split(":", 2) for line in membership.splitlines())}
    own, folder = (by_names["memory"], "memory") if "memory" in by_names else (by_names[""], "")
    before, marker, _ = own.partition(CONTAINER)
    return f"{folder}{before}{marker}"


def _usage(group: str) -> int:
    folder = Path("/sys/fs/cgroup") / group.lstrip("/")
    files = (folder / name for name in ("memory.usage_in_bytes", "memory.current"))
    return next((int(file.read_text()) for file in files if file.exists()), 0)


def _pss(pid: int) -> int:
    """A process's memory, with its share of what it has in common with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
