"""The initial RAM disk of our guests: busybox, the few modules that reach the root disk, and an init of thirty lines. Pure.

A distribution's own initrd spends several seconds under emulation on udev and hooks that a known virtual machine does not
need. This one loads a fixed list of modules, mounts the root and hands over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

DIRECTORY, REGULAR, _LINK, _CHARACTER = 0o040000, 0o100000, 0o120000, 0o020000

INIT = """\
#!/bin/busybox sh
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do insmod "/modules/$module" 2>/dev/null; done </modules/order
root=/dev/vda init=/sbin/init
read -r words </proc/cmdline
for word in $words; do
    case $word in
        root=*) root=${word#root=} ;;
        init=*) init=${word#init=} ;;
    esac
done
tries=0
until [ -b "$root" ]; do
    tries=$((tries + 1))
    [ $tries -gt 600 ] && { echo "vlab: no root disk $root after 30 s"; exec sh; }
    sleep 0.05
done
mount -t ext4 -o rw,noatime "$root" /root || { echo "vlab: cannot mount $root"; exec sh; }
[ ! -d /seed ] || [ -e /root/etc/vlab/settings.json ] || cp -a /seed/. /root/
mount --move /dev /root/dev
mount --move /proc /root/proc
mount --move /sys /root/sys
exec switch_root /root "$init"
"""

_APPLETS = ("cp", "mount", "insmod", "sleep", "switch_root", "sh", "echo")


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a cpio archive. ``device`` is (major, minor) of a character device."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def archive(busybox: bytes, modules: Sequence[tuple[str, bytes]]) -> bytes:
    """The initrd: ``modules`` are (file name, content), each after those it needs."""
    order = "".join(f"{name}\n" for name, _ in modules).encode()
    return cpio([
        *(Entry(name, DIRECTORY | 0o755) for name in ("bin", "dev", "modules", "proc", "root", "sys")),
        Entry("dev/console", _CHARACTER | 0o600, device=(5, 1)),
        Entry("bin/busybox", REGULAR | 0o755, busybox),
        *(Entry(f"bin/{applet}", _LINK | 0o777, b"busybox") for applet in _APPLETS),
        Entry("init", REGULAR | 0o755, INIT.encode()),
        *(Entry(f"modules/{name}", REGULAR | 0o644, content) for name, content in modules),
        Entry("modules/order", REGULAR | 0o644, order),
    ])  # fmt: skip


def cpio(entries: Sequence[Entry]) -> bytes:
    """A «newc» archive, as the kernel unpacks it."""
    members = [_member(number, entry) for number, entry in enumerate(entries, start=1)]
    return b"".join([*members, _member(0, Entry("TRAILER!!!", 0))])


def _member(inode: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    major, minor = entry.device
    fields = (inode, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, major, minor, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _pad(header) + _pad(entry.content)


def _pad(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def load_order(dependencies: Mapping[str, Sequence[str]], wanted: Sequence[str]) -> list[str]:
    """``wanted`` modules (paths as in modules.dep) and all they need, each after its needs."""
    order: list[str] = []

    def visit(path: str) -> None:
        if path not in order:
            for needed in reversed(dependencies.get(path, ())):
                visit(needed)
            order.append(path)

    for path in wanted:
        visit(path)
    return order
