"""Disks from trees: an ext4 file system made by mke2fs from a folder, a boot record with GRUB's core behind it, qcow2.

No loop device and no mount of an image on the host: everything is written into a plain file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from vlab.errors import HostError
from vlab.images.rootfs import merged
from vlab.run import run

GRUB = Path("/usr/lib/grub/i386-pc")
SECTOR = 512
FIRST_SECTOR = 2048
"""Where the only partition of a bootable disk starts: 1 MiB, the field's habit; GRUB's core lies before it."""

SIZE = 2 << 30
"""Virtual size of a guest's disk in bytes; the file stays sparse."""

_GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "linux", "boot")


def mke2fs_argv(tree: Path, target: Path, *, offset: int, size: int = SIZE) -> list[str]:
    """ext4 without a journal: a clone is thrown away, never recovered, and the journal costs writes and boot time.

    ``offset`` is where the file system starts in the file, in bytes; ``size`` is the whole disk's.
    """
    extended = f"lazy_itable_init=1,root_owner=0:0,offset={offset}"
    return [
        "mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum,^64bit,^huge_file,^orphan_file", "-m", "0",
        "-b", "4096", "-N", "65536", "-E", extended, "-d", str(tree), str(target), f"{(size - offset) // 1024}k",
    ]  # fmt: skip


def convert_argv(raw: Path, target: Path) -> list[str]:
    return [
        "qemu-img",
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow2",
        "-o",
        "cluster_size=64k,lazy_refcounts=on",
        str(raw),
        str(target),
    ]


def grub_config(cmdline: str) -> str:
    """What GRUB's core runs, embedded: no menu, no other module to load."""
    return f"set root=(hd0,msdos1)\nlinux /boot/vmlinuz {cmdline}\ninitrd /boot/initrd\nboot\n"


def grub_argv(config: Path, core: Path) -> list[str]:
    return [
        "grub-mkimage", "-O", "i386-pc", "-o", str(core), "-c", str(config), "-p", "(hd0,msdos1)/boot/grub", *_GRUB_MODULES,
    ]  # fmt: skip


def boot_record(boot: bytes, core: bytes, disk_size: int = SIZE) -> bytes:
    """The first sectors of a bootable disk: GRUB's boot.img with a partition table, and its core behind it.

    GRUB's images agree on their own that the core starts at sector 1 and continues at 2. Raises ``HostError`` when the core
    does not fit before the partition.
    """
    if len(core) > (FIRST_SECTOR - 1) * SECTOR:
        raise HostError("GRUB's core image does not fit before the first partition", details=[f"{len(core)} bytes"])
    sectors = disk_size // SECTOR - FIRST_SECTOR
    # 0x80 active; CHS fields are filled with their maximum, which means «see the LBA fields»; 0x83 is Linux.
    partition = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", FIRST_SECTOR, sectors)
    code = bytearray(boot[:440])
    # grub-install does the same on hard disks: BIOSes that pass a wrong drive number in DL.
    code[0x66:0x68] = b"\x90\x90"
    return bytes(code) + b"\0" * 6 + partition + b"\0" * 48 + b"\x55\xaa" + core


def make_qcow2(stack: Sequence[Path], target: Path, scratch: Path, *, grub: str = "") -> None:
    """A qcow2 disk holding the merged trees of ``stack`` (topmost first): the bare file system, or, with ``grub`` (GRUB's
    configuration), a bootable disk.

    ``scratch`` is a folder for what lies between; it is left to the caller to remove.
    """
    raw = scratch / "disk.raw"
    offset = FIRST_SECTOR * SECTOR if grub else 0
    with raw.open("wb") as file:
        file.truncate(SIZE)
    tree = scratch / "root"
    tree.mkdir()
    merged(stack, tree, scratch, mke2fs_argv(tree, raw, offset=offset))
    if grub:
        _write_boot(raw, scratch, grub)
    run(convert_argv(raw, target))
    raw.unlink()


def _write_boot(raw: Path, scratch: Path, grub: str) -> None:
    config, core = scratch / "grub.cfg", scratch / "core.img"
    config.write_text(grub)
    run(grub_argv(config, core))
    with raw.open("r+b") as file:
        file.write(boot_record((GRUB / "boot.img").read_bytes(), core.read_bytes()))
