"""libvirt's save images: a header, the domain's XML with a cookie behind it, then QEMU's own migration stream.

A golden's image is one guest's; with another XML in front, the same stream starts another guest: its own name, UUID, disk, NICs. The new
XML must describe the same virtual hardware, which is why a golden's digest is of the XML. Nothing is copied for that: libvirt is
given a pipe to read, and ``Stream`` writes the new head and then sends the stream from the golden's file.

Format: ``virQEMUSaveHeader`` in libvirt's src/qemu/qemu_saveimage.h (version 2): «LibvirtQemudSave», then little-endian 32-bit words: version,
length of what precedes the stream, was it running, compression, offset of the cookie, 14 spare.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import HypervisorError

MAGIC = b"LibvirtQemudSave"
VERSION = 2
_HEADER = struct.Struct("<16s19I")
_PIPE = 1 << 20
"""Bytes of pipe buffer: the most an unprivileged pipe may have, and sixteen times fewer wake-ups than without asking."""


@dataclass(frozen=True, slots=True)
class SaveImage:
    """An uncompressed save image on disk. ``cookie`` is libvirt's own, about the CPU; ``offset`` is where QEMU's stream begins and ``size``
    the file's, both in bytes."""

    path: Path
    cookie: bytes
    offset: int
    size: int


def read(path: Path) -> SaveImage:
    """What stands at the head of a save image. Raises ``HypervisorError`` when it is none, or one that we cannot rewrite."""
    with os.fdopen(_open(path), "rb") as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(MAGIC):
            raise HypervisorError(f"{path.name} is not a save image of libvirt's")
        _, version, length, _, compressed, cookie, *_ = _HEADER.unpack(head)
        if version != VERSION or compressed:
            raise HypervisorError(
                f"{path.name}: a save image of version {version}, compression {compressed}: neither is ours"
            )
        text = file.read(length)
    if len(text) < length or cookie > length:
        raise HypervisorError(f"{path.name}: the save image is cut short")
    return SaveImage(path, text[cookie:].rstrip(b"\0") if cookie else b"", _HEADER.size + length, path.stat().st_size)


def head(xml: str, cookie: bytes) -> bytes:
    """The head of an image that starts the domain of ``xml``, running, from the stream that follows it."""
    described = xml.encode() + b"\0"
    kept = cookie + b"\0" if cookie else b""
    words = (VERSION, len(described) + len(kept), 1, 0, len(described) if cookie else 0)
    return _HEADER.pack(MAGIC, *words, *[0] * 14) + described + kept


@contextlib.contextmanager
def stream(image: SaveImage, xml: str) -> Iterator[str]:
    """A path from which libvirt can read ``image`` with ``xml`` in place of its own.

    It leads to a pipe of this process: when vlab dies, libvirt's reading ends and so does the half-restored guest. Leaving the block stops
    the sending. Raises ``HypervisorError`` when the image cannot be opened.
    """
    source = _open(image.path)  # here: who reads a pipe that nobody fills waits for ever
    reader, writer = os.pipe()
    start = head(xml, image.cookie)
    sender = threading.Thread(target=_send, args=(image, start, source, writer), name="vlab-restore")
    with contextlib.suppress(OSError):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE)
    sender.start()
    try:
        yield f"/proc/{os.getpid()}/fd/{reader}"
    finally:
        os.close(reader)  # nobody reads any more: what is still being sent ends with EPIPE
        sender.join()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HypervisorError(f"the save image {path} cannot be read: {error.strerror}") from error


def _send(image: SaveImage, start: bytes, source: int, writer: int) -> None:
    try:
        # What ends too soon, for whichever reason, is refused by QEMU.
        with contextlib.suppress(OSError):
            sent = 0
            while sent < len(start):
                sent += os.write(writer, start[sent:])
            at = image.offset
            while at < image.size and (count := os.sendfile(writer, source, at, image.size - at)):
                at += count
    finally:
        os.close(source)
        os.close(writer)
