"""What ``lvs set``, ``drain`` and ``undrain`` share: a declaration edited, judged against the words that asked for it, and shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vlab.cli import interrupts, report
from vlab.cli.files import declaration
from vlab.engine import change
from vlab.engine.change import Proposal
from vlab.engine.drivers import Drivers
from vlab.engine.lifecycle import Outcome
from vlab.errors import Problem, TopologyError, UsageError
from vlab.images.recipe import catalogue
from vlab.topology import document
from vlab.topology.addressing import complete
from vlab.topology.document import Position
from vlab.topology.edit import Change, edited
from vlab.topology.lab import Lab
from vlab.topology.model import Topology
from vlab.topology.parse import Source, parse, warnings


@dataclass(frozen=True, slots=True)
class Asked:
    """A change and the words of the command line that asked for it."""

    change: Change
    words: str


def declared(drivers: Drivers, lab: str) -> tuple[str, Lab]:
    """The text that a running lab is declared by, and what it stands for. Raises ``UsageError``."""
    return declaration(drivers, lab)


def propose(text: str, lab: str, asked: Sequence[Asked]) -> Proposal:
    """The declaration ``text`` with what was asked for, checked as a whole file. New warnings are told. Raises ``UsageError`` with every
    problem, each at the words it comes from."""
    made = Source(f"{lab} (as it would be)", edited(text, [each.change for each in asked]))
    try:
        topology = parse(made, images=catalogue())
    except TopologyError as error:
        raise UsageError(f"lab {lab} cannot be changed so", details=_against(error, made.text, asked)) from error
    _warn(made, topology, text)
    return Proposal(complete(topology, lab), made.text, text)


def _warn(made: Source, topology: Topology, before: str) -> None:
    """What is doubtful now and was not before, without its place in a text that nobody has."""
    was = Source(made.file, before)
    known = {doubt.message for doubt in warnings(was, parse(was, images=catalogue()))}
    for doubt in warnings(made, topology):
        if doubt.message not in known:
            report.note(f"warning: {doubt.message}" + (f" (hint: {doubt.hint})" if doubt.hint else ""))


def _against(error: TopologyError, text: str, asked: Sequence[Asked]) -> list[str]:
    places = dict(_places(text, asked))
    return [_worded(problem, places, error.file) for problem in error.problems]


def _worded(problem: Problem, places: Mapping[Position, str], file: str) -> str:
    words = places.get(Position(problem.line, problem.column))
    if words is None:
        return problem.render(file)
    told = f"{words}: {problem.message}"
    return f"{told} (hint: {problem.hint})" if problem.hint else told


def _places(text: str, asked: Sequence[Asked]) -> Iterator[tuple[Position, str]]:
    """Where the words' values stand, and the keys they are at: problems are told at either."""
    found = document.read(text)
    for each in asked:
        yield found.key(each.change.path), each.words
        yield found.position(each.change.path), each.words
        if isinstance(each.change.value, list):
            for index in range(len(each.change.value)):
                yield found.position((*each.change.path, index)), each.words


def done(drivers: Drivers, proposal: Proposal, services: Sequence[str]) -> Outcome:
    """The proposal carried out, with progress on stderr."""
    interrupts.working_on(proposal.lab.name)
    with report.progress() as sink:
        return change.make(drivers, proposal, services, sink)


def difference(proposal: Proposal) -> str:
    """The unified diff that makes the change permanent: «patch FILE» takes it. Empty where nothing changes."""
    before, after = (_whole_lines(text) for text in (proposal.before, proposal.text))
    lines = difflib.unified_diff(before, after, "topology.yaml (as declared)", "topology.yaml (as it is now)")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _whole_lines(text: str) -> list[str]:
    # Not splitlines: that also splits at characters which are no line ends to diff and patch.
    lines = [f"{line}\n" for line in text.split("\n")]
    return [*lines[:-1], *([lines[-1][:-1]] if lines[-1] != "\n" else [])]


def with_words(changes: Sequence[Change], words: str) -> list[Asked]:
    """Changes that all come from the same words."""
    return [Asked(each, words) for each in changes]
