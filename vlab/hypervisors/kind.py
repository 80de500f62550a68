"""The virt kinds: what ``virt:`` in a topology may say, and everything that differs between them.

A kind is one class with a ``name`` in a module of this package; nothing else in vlab lists or compares kinds. ``domain``
makes libvirt's XML (pure), ``channel`` and ``console`` are the ways into a running guest.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from vlab.errors import UsageError
from vlab.images.artifact import Clone, Form
from vlab.topology.lab import Lab, Node

if TYPE_CHECKING:
    from vlab.guests.base import Channel
    from vlab.hypervisors.connection import Hypervisors
    from vlab.hypervisors.mark import Domain
    from vlab.hypervisors.xml import Element


class VirtKind:
    """One word of ``virt:``. ``uri`` is the libvirt driver, ``form`` what its images are built into, ``queue`` which guests
    share an admission limit at boot; ``shares_host_kernel`` says that modules must be on the host."""

    name: ClassVar[str] = ""
    title: ClassVar[str]
    uri: ClassVar[str]
    form: ClassVar[Form]
    queue: ClassVar[Literal["vm", "container"]]
    wants_kvm: ClassVar[bool] = False
    shares_host_kernel: ClassVar[bool] = False
    seeded: ClassVar[bool] = False
    """Whether a clone's seed files reach the guest before it boots."""

    restorable: ClassVar[bool] = False
    """Whether a guest can be restored from the saved memory of another."""

    def __init_subclass__(cls) -> None:
        if cls.name:
            _KINDS[cls.name] = cls()

    def accelerator(self, host: str) -> str:
        """«kvm», «tcg» or «none» for this kind on a host that gives KVM wanters ``host``."""
        raise NotImplementedError

    def cost(self, node: Node) -> int:
        """Bytes of host memory that the node takes when it uses all of its own."""
        raise NotImplementedError

    def domain(self, lab: Lab, node: Node, clone: Clone, accel: str, folder: Path) -> Element:
        """libvirt's XML, with an empty ``<metadata>`` for the mark. ``folder`` is the clone's, for the console's record."""
        raise NotImplementedError

    def channel(self, domain: Domain, hypervisors: Hypervisors) -> Channel:
        """The way into the running ``domain``."""
        raise NotImplementedError

    def freeze(self, domain: Domain, hypervisors: Hypervisors) -> None:
        """Stop everything in the guest, for ``capture``."""
        raise NotImplementedError

    def thaw(self, domain: Domain, hypervisors: Hypervisors) -> None:
        """Let a frozen guest go on; fine when it is not frozen, or gone."""
        raise NotImplementedError

    def capture(self, domain: Domain, hypervisors: Hypervisors, clone: Path, folder: Path) -> None:
        """Write what the frozen guest is into the empty ``folder``; ``clone`` is the folder of its clone."""
        raise NotImplementedError

    def console(self, domain: Domain) -> Sequence[str]:
        """The host argv that gives a terminal on the guest."""
        raise NotImplementedError


_KINDS: dict[str, VirtKind] = {}


def kind(name: str) -> VirtKind:
    """The kind that ``virt: name`` means. Raises ``UsageError``."""
    known = _kinds()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(known)}"
    raise UsageError(f"there is no virt kind «{name}»", hint=hint)


def names() -> list[str]:
    """Every kind's name, in alphabetical order."""
    return list(_kinds())


@cache
def _kinds() -> dict[str, VirtKind]:
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")
    return dict(sorted(_KINDS.items()))
