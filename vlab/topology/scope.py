"""What a cross rule may look at: the topology, its nodes by name, and what is known outside it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from dataclasses import dataclass
from functools import cached_property

from vlab.topology.finding import Path
from vlab.topology.members import Directory, Pin, Placed, pins, pins6, placed
from vlab.topology.model import Topology
from vlab.topology.pairs import Pairs


@dataclass(frozen=True)
class Scope:
    """``images`` None believes any image; ``absent`` are names the file has but the topology lost."""

    topology: Topology
    images: Collection[str] | None
    absent: frozenset[str]

    @cached_property
    def directory(self) -> Directory:
        return Directory(self.topology)

    @cached_property
    def pairs(self) -> Pairs:
        return Pairs(self.directory)

    @cached_property
    def pins(self) -> list[Pin]:
        return pins(self.topology)

    @cached_property
    def pins6(self) -> list[Pin]:
        return pins6(self.topology)

    @cached_property
    def services(self) -> list[Placed]:
        return placed(self.topology)

    def attachments(self) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """Each group and director with its networks."""
        for name, group in self.topology.groups.items():
            yield ("groups", name), group.networks
        for name, director in self.topology.directors.items():
            yield ("directors", name), director.networks

    def lacks(self, name: str, known: Container[str]) -> bool:
        """Whether ``name`` means nothing: neither in ``known`` nor something (or a node of something) that was lost."""
        return name not in known and name not in self.absent and name.rstrip("0123456789") not in self.absent
