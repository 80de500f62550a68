"""From a topology file, or from what a lab was declared to be, to a completed lab."""

from __future__ import annotations

from pathlib import Path

from vlab.cli import report
from vlab.cli.app import topology_file
from vlab.engine.drivers import Drivers
from vlab.errors import UsageError
from vlab.images.recipe import catalogue
from vlab.state import declared
from vlab.topology.addressing import complete
from vlab.topology.lab import Lab
from vlab.topology.model import Topology
from vlab.topology.parse import Source, parse, read, warnings


def parsed(file: str) -> tuple[Source, Topology]:
    """A topology file, checked. Raises ``TopologyError``, ``UsageError``."""
    source = read(file)
    return source, parse(source, images=catalogue())


def all_from_file(given: str, option: Path | None, copies: list[str]) -> list[tuple[str, Lab]]:
    """(text, completed lab) of the topology file meant, once for each name in ``copies``, or once under its own."""
    source, topology = parsed(topology_file(given, option))
    report.warnings(source.file, warnings(source, topology))
    return [(source.text, complete(topology, name or None)) for name in copies or [""]]


def from_file(given: str, option: Path | None, name: str = "") -> tuple[str, Lab]:
    """(text, completed lab) of the topology file meant."""
    return all_from_file(given, option, [name])[0]


def declared_lab(drivers: Drivers, name: str) -> Lab:
    """The lab as its last ``up`` declared it. Raises ``UsageError`` when the state folder lost it."""
    return declaration(drivers, name)[1]


def declaration(drivers: Drivers, name: str) -> tuple[str, Lab]:
    """(text, completed lab) as its last ``up`` declared it. Raises ``UsageError`` when the state folder lost it."""
    text = declared(drivers.paths, name)
    if text is None:
        raise UsageError(
            f"the declared topology of lab {name} is gone",
            hint=f"vlab up FILE --as {name} declares it again; verify and explain take it by -t FILE",
        )
    return text, lab_of(text, name, f"{name} (as declared)")


def lab_of(text: str, name: str, source: str) -> Lab:
    """The lab ``name`` that a topology's text declares; ``source`` is where it is from, for messages."""
    return complete(parse(Source(source, text), images=catalogue()), name)
