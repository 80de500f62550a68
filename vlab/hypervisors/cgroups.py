"""Control groups of containers where no systemd-machined runs: each container's own, in every hierarchy, and their removal.

libvirt then places a container only in the hierarchies it manages itself, not in systemd's, pids or the unified one. systemd
inside takes its place there, the root, for its own everywhere: all containers share /system.slice of the host, one cannot
stop what runs in another, and each has moved out of the group that limits its memory.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")

ENTER = """\
own= scoped=
groups=$(cat /proc/self/cgroup)
while IFS=: read -r number names path; do
  case $names in
    cpu|cpu,*|*,cpu|*,cpu,*) own=$path ;;
    name=systemd) [ "$path" = / ] || scoped=yes ;;
  esac
done <<END
$groups
END
case $own in
  *.libvirt-lxc)
    if [ -z "$scoped" ]; then
      mkdir -p /run/vlab-cgroup
      while IFS=: read -r number names path; do
        [ "$path" != "$own" ] || continue
        case $names in
          '') mount -t cgroup2 cgroup /run/vlab-cgroup || continue ;;
          name=systemd) mount -t cgroup -o none,name=systemd cgroup /run/vlab-cgroup || continue ;;
          pids) mount -t cgroup -o pids cgroup /run/vlab-cgroup || continue ;;
          *) continue ;;
        esac
        mkdir -p "/run/vlab-cgroup$own" && echo 0 >"/run/vlab-cgroup$own/cgroup.procs"
        umount /run/vlab-cgroup
      done <<END
$groups
END
      umount -R -l /sys/fs/cgroup
      exec unshare --cgroup /sbin/init
    fi ;;
esac
exec /sbin/init
"""
"""What a container runs as process 1 first: where libvirt's group is not systemd's too, join a group of the same path in the
hierarchies that systemd makes groups in, make that the root of all (a cgroup namespace), and leave mounting them to systemd.
In others systemd makes no groups; a group of ours could stay there for good, as the host may not have them mounted."""


def of_container(controller: int) -> str:
    """The path of the group that libvirt made for the container of this controller process; empty when it made none itself."""
    try:
        lines = Path(f"/proc/{controller}/cgroup").read_text().splitlines()
    except OSError:
        return ""
    paths = {line.split(":", 2)[2] for line in lines}
    return next((path for path in sorted(paths) if path.endswith(".libvirt-lxc") and f"/lxc-{controller}-" in path), "")


def remove(path: str) -> None:
    """Remove one container's group, by its exact path, from every hierarchy. The kernel keeps those that processes are in."""
    if not path.endswith(".libvirt-lxc"):
        return
    for group in ROOT.glob(f"*{path}"):
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
