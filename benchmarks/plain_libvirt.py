"""The other floors, by libvirt alone: VMs restored from the very save images that vlab restores from, containers created, each from the XML and
with the kind of clone that vlab would use, until they answer. No namespace, no bridge, no settings, no plan.

The only module of the benchmarks that imports libvirt.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import libvirt
import libvirt_qemu

from benchmarks.crowd import answer
from vlab.host.mounts import Mounts
from vlab.hypervisors import cgroups, saveimage
from vlab.hypervisors.saveimage import SaveImage
from vlab.images import clone
from vlab.images.artifact import Artifact

URIS = ("qemu:///system", "lxc:///system")
_PING = '{"execute": "guest-ping"}'
_threads = threading.local()


@dataclass(frozen=True)
class Restored:
    """A VM that ``virDomainRestore`` starts with the memory of a golden. ``artifact`` has the golden's disk."""

    name: str
    xml: str
    artifact: Artifact
    image: SaveImage
    folder: Path

    def start(self, stop: Event) -> None:
        clone.make(self.artifact, self.folder, Mounts())
        connection = _connection(URIS[0])
        with saveimage.stream(self.image, self.xml) as path:
            connection.restore(path)
        handle = connection.lookupByName(self.name)
        answer(self.name, lambda: _pinged(handle), stop, 0.02)

    def end(self) -> None:
        with _gone_is_fine():
            _connection(URIS[0]).lookupByName(self.name).destroy()


@dataclass(frozen=True)
class Created:
    """A container that ``virDomainCreateXML`` starts; its answer is systemd's, which takes orders."""

    name: str
    xml: str
    artifact: Artifact
    folder: Path

    def start(self, stop: Event) -> None:
        clone.make(self.artifact, self.folder, Mounts())
        controller = _connection(URIS[1]).createXML(self.xml, 0).ID()
        answer(self.name, lambda: _takes_orders(controller), stop, 0.02)

    def end(self) -> None:
        with _gone_is_fine():
            _end_container(_connection(URIS[1]).lookupByName(self.name))
        clone.remove(self.folder, Mounts())


def sweep(prefix: str) -> None:
    """End every domain whose name begins with ``prefix``: what a killed run left."""
    for uri, end in zip(URIS, (_destroy, _end_container), strict=True):
        _sweep(uri, prefix, end)


def _sweep(uri: str, prefix: str, end: Callable[[Any], None]) -> None:
    for handle in _connection(uri).listAllDomains(0):
        if handle.name().startswith(prefix):
            with _gone_is_fine():
                end(handle)


def _destroy(handle: Any) -> None:
    handle.destroy()


def _end_container(handle: Any) -> None:
    """As vlab does it: libvirt itself would ask init for 1.8 s, and leave the control group."""
    controller = handle.ID()
    group, init = cgroups.of_container(controller), _init_of(controller)
    if init:
        with contextlib.suppress(ProcessLookupError):
            os.kill(init, signal.SIGKILL)
    handle.destroy()
    cgroups.remove(group)


def _takes_orders(controller: int) -> bool:
    init = _init_of(controller)
    return init > 0 and Path(f"/proc/{init}/root/run/systemd/private").exists()


def _init_of(controller: int) -> int:
    try:
        children = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    except OSError:
        return 0
    return int(children[0]) if children else 0


def _pinged(handle: Any) -> bool:
    try:
        libvirt_qemu.qemuAgentCommand(handle, _PING, 5, 0)
    except libvirt.libvirtError:
        return False
    return True


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
            raise


def _connection(uri: str) -> Any:
    """One for each thread: libvirtd serves a client only a few calls at once."""
    opened: dict[str, Any] = _threads.__dict__.setdefault("opened", {})
    if uri not in opened:
        libvirt.registerErrorHandler(lambda _context, _error: None, None)  # its own prints every error to stderr
        opened[uri] = libvirt.open(uri)
    return opened[uri]
