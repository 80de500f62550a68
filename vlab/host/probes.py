"""``vlab doctor``: everything about this host that will stop or slow a lab, each with its fix.

Each probe looks at one thing and yields findings; none changes the host, and none raises for what it finds. ``doctor`` runs
them all. What decides is pure and takes text or numbers; what reads is one line.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlab.errors import HostError, VlabError
from vlab.host import accel, kernel, memory
from vlab.host.access import User, closed_parent, qemu_user
from vlab.host.kernel import has as kernel_has
from vlab.run import run

__all__ = ["Finding", "doctor", "kernel_has"]

Level = Literal["ok", "warn", "fail"]

READY = "./bootstrap doctor"
"""The command that installs what is missing, starts libvirt, and looks again."""

PROGRAMS = (
    "qemu-system-x86_64", "qemu-img", "virsh", "mmdebstrap", "mke2fs", "grub-mkimage", "ip", "nft", "ssh", "ssh-keygen",
    "nsenter", "unshare", "mount", "umount", "setpriv", "slirp4netns",
)  # fmt: skip
DRIVERS = {"qemu:///system": "virtual machines", "lxc:///system": "containers"}
LOW_MEMORY = 2 * memory.GIB
LOW_DISK = 8 * memory.GIB
NO_DISK = 2 * memory.GIB
LIBVIRT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Finding:
    """``fail``: no lab, or a whole kind of guest, cannot run. ``warn``: slower, or some labs cannot. ``fix`` is what to type or do."""

    id: str
    level: Level
    what: str
    fix: str = ""


Probe = Callable[[Path], Iterator[Finding]]


def doctor(state: Path) -> list[Finding]:
    """All findings on this host; ``state`` is vlab's state folder (it need not exist). Takes about a second."""
    return [finding for probe in PROBES for finding in probe(state)]


def user(_state: Path) -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield Finding("user", "ok", "root: may make namespaces, bridges and mounts")
    else:
        yield Finding("user", "fail", "not root: plan and validate work, up does not", "run vlab with sudo")


def versions(_state: Path) -> Iterator[Finding]:
    yield Finding("kernel", "ok", f"Linux {platform.release()}, {os.cpu_count()} cores")
    if shutil.which(accel.QEMU):
        first = run([accel.QEMU, "--version"], check=False).text.partition("\n")[0]
        yield Finding("qemu", "ok", first)


def programs(_state: Path) -> Iterator[Finding]:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if not shutil.which(program, path=path)]
    if missing:
        yield Finding("programs", "fail", f"not installed: {', '.join(missing)}", READY)
    else:
        yield Finding("programs", "ok", f"all {len(PROGRAMS)} are here")


def kvm(state: Path) -> Iterator[Finding]:
    known = accel.without_booting(state)
    if known is None:
        yield Finding("kvm", "ok", "/dev/kvm opens; the first vlab up boots its kernel to see whether KVM works")
    elif known.name == "kvm":
        yield Finding("kvm", "ok", known.why)
    else:
        fix = "switch virtualisation on in the firmware, or nesting in the outer hypervisor"
        yield Finding("kvm", "warn", f"{known.why}; full and para guests run under TCG, some ten times slower", fix)
    if "hypervisor" in re.findall(r"[^\s:]+", _read("/proc/cpuinfo").partition("\n\n")[0]):
        yield Finding("nested", "ok", "this host is itself a virtual machine: KVM here is nested, and slower")


def kvm_access(_state: Path) -> Iterator[Finding]:
    found, who = _stat(accel.DEVICE), qemu_user()
    if found is None or who is None:
        return
    if stale_capabilities(found, who):
        what = f"libvirt's QEMU user {who.name} may not open {accel.DEVICE}: libvirt probes QEMU again at every start, 4 s a guest"
        yield Finding("kvm-access", "warn", what, f"{READY} (or: chgrp kvm {accel.DEVICE}; chmod 660 {accel.DEVICE})")
    else:
        yield Finding("kvm-access", "ok", f"libvirt's QEMU user {who.name} may open {accel.DEVICE}")


def stale_capabilities(device: os.stat_result, who: User) -> bool:
    """The trap: root can open the device and libvirt's QEMU user cannot."""
    return not who.may(device, stat.S_IROTH | stat.S_IWOTH)


def libvirt(_state: Path) -> Iterator[Finding]:
    if not shutil.which("virsh"):
        return
    for uri, guests in DRIVERS.items():
        try:
            answer = run(["virsh", "-c", uri, "version"], check=False, timeout=LIBVIRT_SECONDS)
        except VlabError as error:
            yield Finding(f"libvirt {uri}", "fail", error.what, f"{READY}; its log is /var/log/libvirt/libvirtd.log")
            continue
        if answer.code:
            why = answer.error_text.strip().partition("\n")[0].removeprefix("error: ")
            yield Finding(f"libvirt {uri}", "fail", f"no {guests}: {why}", READY)
        else:
            library = re.search(r"library: *(.*)", answer.text)
            yield Finding(f"libvirt {uri}", "ok", f"answers, {library.group(1) if library else 'version unknown'}")


def virtlogd(_state: Path) -> Iterator[Finding]:
    if _listens("/run/libvirt/virtlogd-sock"):
        yield Finding("virtlogd", "ok", "keeps the guests' consoles")
    else:
        yield Finding("virtlogd", "fail", "does not run: libvirt starts no virtual machine without it", READY)


def cgroups(_state: Path) -> Iterator[Finding]:
    """libvirt's LXC driver fails in a mount namespace that has both cgroup versions."""
    mounts = libvirtd_mounts()
    if mounts is None:
        return
    if not re.search(r" cgroup2? ", mounts):
        yield Finding(
            "cgroups",
            "fail",
            "libvirtd sees no cgroup file system: containers do not start",
            "mount one at /sys/fs/cgroup",
        )
    elif both_cgroups(mounts):
        what = "libvirtd sees both cgroup versions: containers fail with «Unable to create directory /sys/fs/cgroup/unified»"
        yield Finding("cgroups", "fail", what, f"end libvirtd, then {READY}, which starts it without the second")
    else:
        yield Finding("cgroups", "ok", "libvirtd sees one version")


def both_cgroups(mounts: str) -> bool:
    """Whether a ``/proc/PID/mounts`` has version 1 controllers and version 2 beside them, without systemd to sort it out."""
    lines = [line.split() for line in mounts.splitlines()]
    v2 = any(len(f) > 2 and f[1] == "/sys/fs/cgroup/unified" and f[2] == "cgroup2" for f in lines)
    v1 = any(len(f) > 2 and f[2] == "cgroup" for f in lines)
    return v1 and v2 and not Path("/run/systemd/system").is_dir()


def libvirtd_mounts() -> str | None:
    """The mounts libvirtd sees, None when that cannot be known (none runs, or we are not root)."""
    for file in ("/run/libvirtd.pid", "/run/virtlxcd.pid"):
        try:
            return Path(f"/proc/{int(_read(file))}/mounts").read_text()
        except (OSError, ValueError):
            continue
    return None


def features(_state: Path) -> Iterator[Finding]:
    running = kernel.running()
    missing = [feature for feature in kernel.FEATURES if not running.has(feature.name)]
    for feature in missing:
        level: Level = "fail" if feature.needed else "warn"
        yield Finding(
            f"kernel {feature.name}",
            level,
            f"missing: {feature.use}",
            "a kernel that has it; labs without that use run",
        )
    here = [feature.name for feature in kernel.FEATURES if feature not in missing]
    yield Finding("kernel features", "ok", f"has {', '.join(here)}")


def free_memory(_state: Path) -> Iterator[Finding]:
    free = memory.available()
    low = free < LOW_MEMORY
    yield Finding(
        "memory", "warn" if low else "ok", f"{memory.show(free)} available", "fewer or smaller guests" if low else ""
    )


def disk(state: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(_existing(state)).free
    level: Level = "fail" if free < NO_DISK else "warn" if free < LOW_DISK else "ok"
    fix = "" if level == "ok" else "make room, vlab rm old images, or put the state elsewhere: VLAB_STATE=/big/folder"
    yield Finding("disk", level, f"{memory.show(free)} free in {state}", fix)


def path_access(state: Path) -> Iterator[Finding]:
    """libvirt gives disks to its QEMU user, never the folders above them."""
    who = qemu_user()
    if who is None:
        return
    closed = closed_parent(who, state.absolute())
    if closed is None:
        yield Finding("state folder", "ok", f"libvirt's QEMU user {who.name} can reach {state}")
    else:
        what = f"libvirt's QEMU user {who.name} cannot enter {closed}, so no virtual machine can open a disk in {state}"
        yield Finding("state folder", "fail", what, f"chmod o+x {closed}, or VLAB_STATE=/some/open/folder")


def mandatory_access(_state: Path) -> Iterator[Finding]:
    if _read("/sys/fs/selinux/enforce").strip() == "1":
        yield Finding(
            "selinux",
            "warn",
            "enforcing: libvirt labels the disks it knows; container roots may be refused",
            "setenforce 0 to try",
        )
    if _read("/sys/module/apparmor/parameters/enabled").strip() == "Y":
        yield Finding("apparmor", "ok", "on: libvirt's own profiles let a guest open its disks")


def neighbours(_state: Path) -> Iterator[Finding]:
    filtering = _read("/proc/sys/net/bridge/bridge-nf-call-iptables").strip() == "1"
    if filtering or Path("/run/docker.sock").exists():
        yield Finding(
            "docker",
            "ok",
            "bridged frames meet the host's firewall; labs are in namespaces of their own and do not notice",
        )


def packages(_state: Path) -> Iterator[Finding]:
    """Images are built from the host's own package sources."""
    if not shutil.which("apt-get"):
        yield Finding(
            "packages",
            "fail",
            "no apt here: images are built with it",
            "use Debian 12 or later, or Ubuntu 24.04 or later",
        )
        return
    from vlab.images.apt import read_host

    try:
        apt = read_host()
    except HostError as error:
        yield Finding("packages", "fail", error.what, error.hint)
    else:
        suites = ", ".join(dict.fromkeys(source.suite for source in apt.sources))
        yield Finding("packages", "ok", f"images are built from {apt.release.distribution} {suites}")


PROBES: tuple[Probe, ...] = (
    user, versions, programs, libvirt, virtlogd, cgroups, kvm, kvm_access, features, free_memory, disk, path_access,
    mandatory_access, neighbours, packages,
)  # fmt: skip


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _listens(path: str) -> bool:
    """Whether a daemon is behind this socket; a file that a dead one left refuses the connection."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    except PermissionError:
        return True  # it is there, only not for this user
    except OSError:
        return False
    return True


def _stat(path: Path) -> os.stat_result | None:
    return path.stat() if path.exists() else None


def _existing(path: Path) -> Path:
    """``path`` or the nearest folder above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
