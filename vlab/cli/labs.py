"""From a word of the command line to a lab: its topology, its running domains, its nodes."""

from __future__ import annotations

from pathlib import Path

from vlab.cli.app import NodeName, is_file, topology_file
from vlab.engine.drivers import Drivers
from vlab.engine.observe import lab_names
from vlab.errors import UsageError
from vlab.hypervisors.mark import Domain
from vlab.images.recipe import catalogue
from vlab.state import declared
from vlab.topology.addressing import complete
from vlab.topology.lab import Lab
from vlab.topology.model import Topology
from vlab.topology.parse import Source, parse, read


def parsed(file: str) -> tuple[Source, Topology]:
    """A topology file, checked. Raises ``TopologyError``, ``UsageError``."""
    source = read(file)
    return source, parse(source, images=catalogue())


def all_from_file(given: str, option: Path | None, copies: list[str]) -> list[tuple[str, Lab]]:
    """(text, completed lab) of the topology file meant, once for each name in ``copies``, or once under its own."""
    source, topology = parsed(topology_file(given, option))
    return [(source.text, complete(topology, name or None)) for name in copies or [""]]


def from_file(given: str, option: Path | None, name: str = "") -> tuple[str, Lab]:
    """(text, completed lab) of the topology file meant."""
    return all_from_file(given, option, [name])[0]


def lab_name(drivers: Drivers, word: str) -> str:
    """The lab a LAB|FILE word means; without a word the only lab there is. Raises ``UsageError``."""
    if is_file(word):
        return parsed(word)[1].name
    known = lab_names(drivers)
    if word:
        return _known(word, known)
    if len(known) == 1:
        return known[0]
    raise UsageError(
        f"several labs run: {', '.join(known)}" if known else "no lab runs here",
        hint="name one" if known else "vlab up FILE",
    )


def _known(word: str, known: list[str]) -> str:
    if word in known:
        return word
    raise UsageError(f"no lab is called {word}", details=[f"known: {', '.join(known) or 'none'}"], hint="vlab ls")


def declared_lab(drivers: Drivers, name: str) -> Lab:
    """The lab as its last ``up`` declared it. Raises ``UsageError`` when the state folder lost it."""
    text = declared(drivers.paths, name)
    if text is None:
        raise UsageError(
            f"the declared topology of lab {name} is gone", hint=f"vlab up FILE --as {name} declares it again"
        )
    return complete(parse(Source(f"{name} (as declared)", text), images=catalogue()), name)


def domains_of(drivers: Drivers, word: str, name: NodeName | None = None) -> dict[str, Domain]:
    """The running domains of a lab by node."""
    lab = name.lab if name and name.lab else lab_name(drivers, word)
    return {domain.mark.node.name: domain for domain in drivers.hypervisors.domains(lab)}


def one_domain(drivers: Drivers, name: NodeName) -> Domain:
    """The domain of a NODE word. Raises ``UsageError`` when it is not there or is in several labs."""
    found = [d for d in drivers.hypervisors.domains(name.lab or None) if d.mark.node.name == name.node]
    if len(found) == 1:
        return found[0]
    if found:
        labs = ", ".join(f"{d.mark.lab}/{name.node}" for d in found)
        raise UsageError(f"{name.node} is in several labs", details=[labs], hint=f"say which: {labs.split(',')[0]}")
    raise UsageError(f"no guest called {name.node} runs", hint="vlab status")


def group_domains(drivers: Drivers, lab: str, group: str) -> list[Domain]:
    found = [d for d in drivers.hypervisors.domains(lab) if d.mark.node.group == group]
    if not found:
        raise UsageError(f"no guest of group {group} runs in lab {lab}", hint="vlab status")
    return sorted(found, key=lambda d: d.name)
