"""What guests boot, byte by byte: initrd, kernel image, boot record; and which modules come along."""

import gzip
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from vlab.errors import HostError
from vlab.images import disk, initrd, kernel
from vlab.images.initrd import Entry


def members(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Name → (mode, content) of a newc archive, read by its specification."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        at += (110 + fields[11] + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], archive[at : at + fields[6]])
        at += (fields[6] + 3) & ~3


def test_initrd_holds_busybox_modules_and_an_order() -> None:
    found = members(initrd.archive(b"BUSY", [("virtio.ko", b"V"), ("virtio_blk.ko", b"BLK")]))
    assert found["bin/busybox"] == (0o100755, b"BUSY")
    assert found["init"] == (0o100755, initrd.INIT.encode())
    assert found["bin/insmod"] == (0o120777, b"busybox")
    assert found["modules/order"][1] == b"virtio.ko\nvirtio_blk.ko\n"
    assert found["modules/virtio_blk.ko"][1] == b"BLK"
    assert found["dev/console"][0] == 0o020600


@pytest.mark.skipif(not shutil.which("cpio"), reason="cpio is not installed")
def test_cpio_reads_it(tmp_path: Path) -> None:
    archive = initrd.cpio([Entry("d", 0o040755), Entry("d/f", 0o100640, b"hello")])
    subprocess.run(["cpio", "-i", "--quiet"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "d/f").read_bytes() == b"hello"


def test_modules_load_after_what_they_need() -> None:
    needs = {"a": ("b", "c"), "b": ("c",), "c": (), "d": ()}
    assert initrd.load_order(needs, ["a", "d", "b"]) == ["c", "b", "a", "d"]


def test_modules_dep_and_trimming() -> None:
    needs = kernel.dependencies(
        "kernel/net/netfilter/ipvs/ip_vs.ko: kernel/lib/thing.ko\nkernel/lib/thing.ko:\nkernel/drivers/gpu/big.ko:\n"
        "kernel/drivers/block/virtio_blk.ko.xz:\n"
    )
    assert kernel.kept(needs) == {
        "kernel/net/netfilter/ipvs/ip_vs.ko", "kernel/lib/thing.ko", "kernel/drivers/block/virtio_blk.ko.xz",
    }  # fmt: skip
    assert kernel.named(needs, ["virtio_blk", "ip_vs", "ext4"]) == [
        "kernel/drivers/block/virtio_blk.ko.xz", "kernel/net/netfilter/ipvs/ip_vs.ko",
    ]  # fmt: skip


def test_kernel_packages_follow_dependencies() -> None:
    depends = {
        "linux-image-virtual": "linux-image-virtual\n  Depends: linux-image-6.8.0-1-generic\n  Depends: linux-modules-extra-x\n",
        "linux-image-6.8.0-1-generic": "x\n |Depends: kmod\n  Depends: linux-modules-6.8.0-1-generic\n",
        "linux-modules-6.8.0-1-generic": "x\n",
    }
    assert kernel.kernel_packages(depends.__getitem__, "linux-image-virtual") == (
        "linux-image-6.8.0-1-generic", "linux-modules-6.8.0-1-generic",
    )  # fmt: skip


def elf(note: bytes) -> bytes:
    """An ELF64 file with one PT_NOTE segment."""
    header = (
        b"\x7fELF" + b"\2\1\1" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    )
    return header + struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(note), len(note), 4) + note


PVH = elf(struct.pack("<III", 4, 8, 18) + b"Xen\0" + b"\0" * 8)


def bz_image(payload: bytes) -> bytes:
    image = bytearray(512 * 2 + 64)
    image[0x1F1] = 1
    struct.pack_into("<II", image, 0x248, 64, len(payload))
    return bytes(image) + payload


def test_a_kernel_with_a_pvh_entry_is_unpacked() -> None:
    assert kernel.uncompressed(bz_image(gzip.compress(PVH))) == PVH
    assert kernel.uncompressed(bz_image(gzip.compress(elf(b"\0" * 24)))) is None
    assert kernel.uncompressed(bz_image(b"unknown packing")) is None


def test_boot_record_has_one_active_linux_partition() -> None:
    record = disk.boot_record(b"\xeb" * 512, b"CORE", disk_size=1 << 30)
    assert record[510:516] == b"\x55\xaaCORE"
    assert record[440:446] == bytes(6)
    flag, _, kind, _, first, count = struct.unpack("<B3sB3sII", record[446:462])
    assert (flag, kind, first, first + count) == (0x80, 0x83, 2048, (1 << 30) // 512)


def test_a_core_that_does_not_fit_is_refused() -> None:
    with pytest.raises(HostError, match="does not fit"):
        disk.boot_record(bytes(512), bytes(2048 * 512))


def test_file_system_of_a_partition_ends_with_the_disk(tmp_path: Path) -> None:
    argv = disk.mke2fs_argv(tmp_path, tmp_path / "raw", offset=1 << 20, size=1 << 30)
    assert argv[-1] == f"{(1 << 20) - 1024}k"
    assert "lazy_itable_init=1,root_owner=0:0,offset=1048576" in argv
