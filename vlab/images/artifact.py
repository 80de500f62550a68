"""What an image is built into, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Form = Literal["rootfs", "direct", "disk"]
"""``rootfs``: a stack of root trees for a container. ``direct``: kernel, initrd and qcow2 disk, virtio only, for a direct
kernel boot. ``disk``: a qcow2 disk with a BIOS boot loader and drivers for emulated SATA and e1000."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A built image. ``layers`` (rootfs only) are overlayfs lower directories, topmost first. ``cmdline`` is the kernel
    command line of a direct boot. ``digest`` is the content hash of everything that went in."""

    image: str
    form: Form
    digest: str
    layers: tuple[Path, ...] = ()
    disk: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    cmdline: str = ""


@dataclass(frozen=True, slots=True)
class Clone:
    """A node's own disk or root. ``boot`` is the artefact it was cloned from; ``root`` is where a container's overlay is
    mounted (in libvirtd's mount namespace), ``disk`` the qcow2 overlay, ``initrd`` the artefact's with the clone's seed behind it."""

    boot: Artifact
    disk: Path | None = None
    root: Path | None = None
    initrd: Path | None = None
