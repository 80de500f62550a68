"""The drivers of one run, opened lazily and handed to everything that acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from vlab import state
from vlab.guests.base import Channel
from vlab.host.mounts import Mounts
from vlab.hypervisors.connection import Hypervisors
from vlab.hypervisors.kind import kind
from vlab.hypervisors.mark import Domain
from vlab.images.recipe import Recipe, catalogue
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
        return Store(self.paths.images)

    @cached_property
    def mounts(self) -> Mounts:
        return Mounts()

    @cached_property
    def recipes(self) -> Mapping[str, Recipe]:
        return catalogue()

    def channel(self, domain: Domain) -> Channel:
        """The way into a running guest."""
        return kind(domain.mark.node.virt).channel(domain, self.hypervisors)
