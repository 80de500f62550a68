"""The kernels guests boot, taken from the distribution's own packages: image, trimmed module tree, initrd.

``cloud`` is small and knows virtio only: direct kernel boot. ``generic`` knows emulated SATA and e1000: boot from a disk. No
kernel is ever installed inside an image, so no initramfs tools run there.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import HostError
from vlab.images import initrd
from vlab.images.apt import Apt, outside
from vlab.images.rootfs import depmod
from vlab.run import run


@dataclass(frozen=True, slots=True)
class Flavour:
    """``packages`` are meta-packages by distribution; ``initrd`` the modules loaded before the root disk is mounted;
    ``direct`` says that QEMU loads the kernel itself."""

    name: str
    packages: tuple[tuple[str, str], ...]
    initrd: tuple[str, ...]
    direct: bool


# vmgenid hears that a guest was restored, and reseeds the random generator at once: two clones must not draw the same numbers.
_VIRTIO = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_rng", "virtio_net", "virtio_balloon", "vmgenid")
CLOUD = Flavour(
    "cloud", (("debian", "linux-image-cloud-amd64"), ("ubuntu", "linux-image-virtual")), _VIRTIO, direct=True
)
GENERIC = Flavour(
    "generic", (("debian", "linux-image-amd64"), ("ubuntu", "linux-image-generic")),
    ("crc32c_generic", "ext4", "ahci", "ata_piix", "sd_mod", "e1000", "virtio_pci", "virtio_console", "virtio_rng", "vmgenid"),
    direct=False,
)  # fmt: skip

# What a guest of a network lab may load; everything these depend on comes along.
KEEP = tuple(
    re.compile(pattern)
    for pattern in (
        r"kernel/net/(8021q|bridge|core|ipv4|ipv6|llc|netfilter|packet|sched|unix)/",
        r"kernel/drivers/net/(bonding/|dummy|failover|ifb|ipvlan/|macvlan|macvtap|net_failover|tap|tun|veth|virtio_net|vrf|vxlan/|geneve|gtp)",
        r"kernel/drivers/net/ethernet/intel/e1000/",
        r"kernel/drivers/(virtio|vhost)/",
        r"kernel/drivers/virt/vmgenid",
        r"kernel/drivers/block/(virtio_blk|loop|zram)",
        r"kernel/drivers/char/(virtio_console|hw_random/virtio)",
        r"kernel/drivers/ata/(ahci|libahci|ata_piix|ata_generic)\.",
        r"kernel/drivers/scsi/sd_mod\.",
        r"kernel/fs/(ext4|overlayfs|fuse|configfs)/",
        r"kernel/lib/(crc|libcrc)",
        r"kernel/crypto/(crc32c|crct10dif)",
        r"kernel/net/(ife|psample|mpls|l2tp|key|xfrm)/",
    )
)

_PACKAGE = re.compile(r"linux-(image|modules)(-unsigned|-extra)?-\d[^ ]*")


def kernel_packages(depends: Callable[[str], str], meta: str) -> tuple[str, ...]:
    """The packages that hold the kernel ``meta`` stands for. ``depends`` returns ``apt-cache depends`` output of a package."""
    found: list[str] = []
    pending = [meta]
    while pending:
        for name in re.findall(r"^\s*\|?Depends: (\S+)$", depends(pending.pop()), re.MULTILINE):
            if _PACKAGE.fullmatch(name) and name not in found:
                found.append(name)
                pending.append(name)
    return tuple(found)


def dependencies(modules_dep: str) -> dict[str, tuple[str, ...]]:
    """modules.dep as data: module path → paths it needs."""
    pairs = (line.split(":", 1) for line in modules_dep.splitlines() if ":" in line)
    return {path: tuple(needs.split()) for path, needs in pairs}


def kept(needs: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """The module paths a guest keeps, closed under need."""
    wanted = [path for path in needs if any(pattern.match(path) for pattern in KEEP)]
    return frozenset(initrd.load_order(needs, wanted))


def module_name(path: str) -> str:
    """«kernel/drivers/block/virtio_blk.ko.xz» is «virtio_blk»."""
    return Path(path).name.split(".")[0].replace("-", "_")


def named(needs: Mapping[str, Sequence[str]], names: Sequence[str]) -> list[str]:
    """The paths of modules by name; a name that is not there is built in, or the kernel does without."""
    by_name = {module_name(path): path for path in needs}
    return [by_name[name] for name in names if name in by_name]


def unpack(data: bytes) -> bytes | None:
    """Decompress by magic number; None when no tool here can."""
    for magic, how in _PACKERS.items():
        if data.startswith(magic):
            return how(data)
    return data if data.startswith(b"\x7fELF") else None


def _by_tool(tool: str) -> Callable[[bytes], bytes | None]:
    def decompress(data: bytes) -> bytes | None:
        # The kernel's payload has its size appended, which the tools call trailing garbage and exit 1.
        result = run([tool, "-d", "-c", "-q"], input=data, check=False) if shutil.which(tool) else None
        return result.stdout if result and result.stdout else None

    return decompress


def _xz(data: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(data)


_PACKERS: Mapping[bytes, Callable[[bytes], bytes | None]] = {
    b"\xfd7zXZ\0": _xz,
    b"\x1f\x8b": gzip.decompress,
    b"BZh": lambda data: bz2.BZ2Decompressor().decompress(data),
    b"\x02\x21\x4c\x18": _by_tool("lz4"),
    b"\x28\xb5\x2f\xfd": _by_tool("zstd"),
}


def uncompressed(image: bytes) -> bytes | None:
    """The ELF kernel inside a bzImage when QEMU can start it directly (it has a PVH entry), else None.

    An emulated CPU spends more than a second on unpacking a kernel that the host unpacks once, here.
    """
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    elf = unpack(image[start : start + length])
    return elf if elf and elf.startswith(b"\x7fELF") and has_pvh_entry(elf) else None


def has_pvh_entry(elf: bytes) -> bool:
    """Whether an ELF64 file has the Xen note of type 18 (PHYS32_ENTRY), by which QEMU starts it."""
    (table,) = struct.unpack_from("<Q", elf, 0x20)
    size, count = struct.unpack_from("<HH", elf, 0x36)
    for index in range(count):
        kind, _flags, offset, _va, _pa, length = struct.unpack_from("<IIQQQQ", elf, table + index * size)
        if kind == 4 and struct.pack("<III", 4, 8, 18) + b"Xen\0" in elf[offset : offset + length]:
            return True
    return False


def meta_package(flavour: Flavour, distribution: str) -> str:
    """Raises ``HostError`` for a distribution whose kernel packages are not known."""
    for known, package in flavour.packages:
        if known == distribution:
            return package
    raise HostError(f"vlab does not know the kernel packages of {distribution}", hint="use Debian 12 or Ubuntu")


def trim(modules: Path, needs: Mapping[str, Sequence[str]]) -> None:
    """Remove from a /lib/modules/VERSION folder every module that ``kept`` does not name."""
    keep = kept(needs)
    for path in needs:
        if path not in keep:
            (modules / path).unlink()
    for folder in sorted((p for p in modules.rglob("*") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def make_initrd(flavour: Flavour, modules: Path, busybox: Path, target: Path) -> None:
    """Write the initrd of a kernel whose trimmed module tree is ``modules``."""
    needs = dependencies((modules / "modules.dep").read_text())
    order = initrd.load_order(needs, named(needs, flavour.initrd))
    contents = [(f"{module_name(path)}.ko", unpack((modules / path).read_bytes()) or b"") for path in order]
    packed = initrd.archive(busybox.read_bytes(), contents)
    # A boot loader reads through the BIOS, slower than the kernel unpacks; QEMU hands it over as it is.
    target.write_bytes(packed if flavour.direct else gzip.compress(packed, mtime=0))


def assemble(flavour: Flavour, host: Apt, state: Path, folder: Path, stack: Sequence[Path]) -> dict[str, str]:
    """Fill ``folder`` with ``kernel``, ``initrd`` and ``tree`` (modules, and /boot for a boot loader); return package versions.

    ``state`` is where apt keeps its lists; ``stack`` is a root tree that has depmod. Needs ``folder/scratch``.
    """
    scratch, tree = folder / "scratch", folder / "tree"
    env = outside(host, state)
    meta = meta_package(flavour, host.release.distribution)
    names = kernel_packages(lambda name: run(["apt-cache", "depends", name], env=env).text, meta)
    if not names:
        raise HostError(f"package {meta} leads to no kernel", hint="run apt-get update")
    packages = scratch / "packages"
    packages.mkdir()
    run(["apt-get", "download", *names, "busybox-static"], env=env, cwd=packages)
    for package in packages.glob("*.deb"):
        run(["dpkg-deb", "-x", str(package), str(scratch / "unpacked")])
    _arrange(flavour, scratch / "unpacked", tree, folder, stack)
    return {p.name.split("_")[0]: p.name.split("_")[1] for p in packages.glob("*.deb")}


def _arrange(flavour: Flavour, unpacked: Path, tree: Path, folder: Path, stack: Sequence[Path]) -> None:
    modules_from = _first(unpacked / "lib/modules", unpacked / "usr/lib/modules")
    release = next(modules_from.iterdir()).name
    # Through /usr/lib, where the merged tree's /lib points: a real /lib here would hide that link.
    modules = tree / "usr/lib/modules" / release
    modules.parent.mkdir(parents=True)
    shutil.move(modules_from / release, modules)
    depmod(stack, tree, folder / "scratch", release)
    trim(modules, dependencies((modules / "modules.dep").read_text()))
    depmod(stack, tree, folder / "scratch", release)
    image = (unpacked / f"boot/vmlinuz-{release}").read_bytes()
    plain = uncompressed(image) if flavour.direct else None
    (folder / "kernel").write_bytes(plain or image)
    make_initrd(flavour, modules, _first(unpacked / "bin/busybox", unpacked / "usr/bin/busybox"), folder / "initrd")
    if not flavour.direct:
        _put_boot(folder, tree)


def _put_boot(folder: Path, tree: Path) -> None:
    (tree / "boot").mkdir()
    shutil.copy(folder / "kernel", tree / "boot/vmlinuz")
    shutil.copy(folder / "initrd", tree / "boot/initrd")


def _first(*paths: Path) -> Path:
    return next(path for path in paths if path.exists())
