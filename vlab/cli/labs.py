"""From a word of the command line to a lab that is there: its name, its running domains, its nodes."""

from __future__ import annotations

from vlab.cli.app import NodeName, is_file, node_name
from vlab.engine.drivers import Drivers
from vlab.engine.labs import lab_names
from vlab.errors import UsageError
from vlab.hypervisors.mark import Domain
from vlab.state import labs_on_disk
from vlab.topology.fields import LAB_NAME
from vlab.topology.finding import meant, show
from vlab.topology.values import name_problem


def lab_name(drivers: Drivers, word: str) -> str:
    """The lab a LAB|FILE word means; without a word the only lab there is. Raises ``UsageError``."""
    if is_file(word):
        from vlab.cli.files import parsed

        return parsed(word)[1].name
    if _on_disk(drivers, word):
        return word
    known = lab_names(drivers)
    if word:
        return _known(word, known)
    if len(known) == 1:
        return known[0]
    raise UsageError(
        f"several labs run: {', '.join(known)}" if known else "no lab runs here",
        hint="name one" if known else "vlab up FILE",
    )


def _on_disk(drivers: Drivers, word: str) -> bool:
    """Whether this lab has a folder: then there is one of that name, without a look at all others, which are many where a class runs, and
    which another version of vlab may have made."""
    return word in labs_on_disk(drivers.paths)


def _known(word: str, known: list[str]) -> str:
    if word in known:
        return word
    raise UsageError(f"no lab is called '{word}'", hint=meant(word, known) or "vlab ls")


def refuse_bad_names(labs: list[str]) -> None:
    """Raise ``UsageError`` for a word that can be no lab's name: names become paths, and are deleted."""
    for lab in labs:
        if problem := name_problem(lab, LAB_NAME):
            raise UsageError(f"lab name {show(lab)} {problem[0]}", hint=problem[1])


def lab_or_node(drivers: Drivers, word: str) -> tuple[str, list[str]]:
    """The lab and the nodes that «web1», «lab/web1» or «lab» means; no nodes for all of a lab. Raises ``UsageError``."""
    if "/" not in word and (_on_disk(drivers, word) or word in lab_names(drivers)):
        return word, []
    domain = one_domain(drivers, node_name(word))
    return domain.mark.lab, [domain.mark.node.name]


def one_domain(drivers: Drivers, name: NodeName) -> Domain:
    """The domain of a NODE word. Raises ``UsageError`` when it is not there or is in several labs."""
    # A lab of another version of vlab is in the way only of those who name it.
    running = drivers.hypervisors.domains(name.lab) if name.lab else drivers.hypervisors.survey()[0]
    found = [d for d in running if d.mark.node.name == name.node]
    if len(found) == 1:
        return found[0]
    if found:
        labs = ", ".join(f"{d.mark.lab}/{name.node}" for d in found)
        raise UsageError(f"{name.node} is in several labs", details=[labs], hint=f"say which: {labs.split(',')[0]}")
    if name.lab:
        _known(name.lab, lab_names(drivers))
    near = meant(name.node, dict.fromkeys(d.mark.node.name for d in running))
    raise UsageError(f"no guest called '{name.node}' runs", hint=near or "vlab status")


def group_domains(drivers: Drivers, lab: str, group: str) -> list[Domain]:
    running = drivers.hypervisors.domains(_known(lab, lab_names(drivers)))
    found = [d for d in running if d.mark.node.group == group]
    if not found:
        near = meant(group, dict.fromkeys(d.mark.node.group for d in running))
        raise UsageError(f"no guest of group '{group}' runs in lab {lab}", hint=near or f"vlab status {lab}")
    return sorted(found, key=lambda d: d.name)
