"""The drivers of one run, imported and opened when first needed, and handed to everything that acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vlab import state
from vlab.errors import HostError
from vlab.guests.base import Channel
from vlab.hypervisors.connection import Hypervisors
from vlab.hypervisors.kind import kind
from vlab.hypervisors.mark import Domain

if TYPE_CHECKING:
    from vlab.host.mounts import Mounts
    from vlab.images.goldens import Goldens
    from vlab.images.recipe import Recipe
    from vlab.images.store import Store

GUEST_TIMEOUT = 300.0


@dataclass(frozen=True)
class Drivers:
    """``guest_timeout`` is how long a guest may take from start to its first answer, in seconds."""

    paths: state.Paths
    hypervisors: Hypervisors
    guest_timeout: float = GUEST_TIMEOUT

    @classmethod
    def open(cls, *, guest_timeout: float = GUEST_TIMEOUT) -> Drivers:
        return cls(state.paths(), Hypervisors(), guest_timeout)

    @cached_property
    def store(self) -> Store:
        from vlab.images.store import Store

        return Store(self.paths.images)

    @cached_property
    def goldens(self) -> Goldens:
        from vlab.images.goldens import Goldens

        return Goldens(self.paths.goldens)

    @cached_property
    def mounts(self) -> Mounts:
        from vlab.host.mounts import Mounts

        return Mounts()

    @cached_property
    def recipes(self) -> Mapping[str, Recipe]:
        from vlab.images.recipe import catalogue

        return catalogue()

    def versions(self, uri: str) -> str:
        """libvirt's and its hypervisor's, in words of no further meaning; empty when they do not answer."""
        try:
            return self.hypervisors.versions(uri)
        except HostError:
            return ""

    def channel(self, domain: Domain) -> Channel:
        """The way into a running guest."""
        return kind(domain.mark.node.virt).channel(domain, self.hypervisors)
