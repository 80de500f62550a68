"""What a rule is: it judges facts against the lab, and knows how to break its own thing in a running lab. Pure.

A rule is one class, found by its ``id``: nothing else lists them. The rules are those of LVS practice: what people get wrong, with
the public evidence in the documentation of LVS, keepalived and Kubernetes. ``scene`` is what they look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import ClassVar

from vlab.diagnosis.facts import Facts
from vlab.diagnosis.scene import Scene
from vlab.errors import UsageError
from vlab.topology.finding import meant
from vlab.topology.lab import Lab

NAMESPACE = ""
"""The place of a fault that is none of the guests: the lab's network namespace."""


@dataclass(frozen=True, slots=True)
class Found:
    """One place where a rule's thing is wrong: a node or service, the lines that show it, and the commands that mend it."""

    subject: str
    evidence: tuple[str, ...]
    fix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """``severity``: «error» breaks the service, «warning» harms it at times, «note» misleads who looks at it."""

    rule: str
    severity: str
    subject: str
    evidence: tuple[str, ...]
    why: str
    fix: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """``breaks`` is sh that runs at one place, a node or ``NAMESPACE``; ``mends`` is sh by place for what settling the node does not
    mend. Both may run twice."""

    place: str
    breaks: str
    mends: tuple[tuple[str, str], ...] = ()


class Rule:
    """One thing that can be wrong. ``number`` is its row in the list of common faults; ``needs`` says what a lab must have for it."""

    id: ClassVar[str] = ""
    number: ClassVar[int]
    title: ClassVar[str]
    probes: ClassVar[str]
    why: ClassVar[str]
    needs: ClassVar[str] = ""
    severity: ClassVar[str] = "error"

    def __init_subclass__(cls) -> None:
        if cls.id:
            _RULES[cls.id] = cls()

    def found(self, scene: Scene) -> Iterator[Found]:
        """Where it is wrong; nothing in a healthy lab."""
        raise NotImplementedError

    def passing(self, lab: Lab) -> float:  # noqa: ARG002 - for rules that look at it
        """For how many seconds a healthy lab may look as if it were wrong; 0 for never."""
        return 0.0

    def victims(self, lab: Lab) -> Sequence[str]:
        """Places where it can be broken, the best first; empty where it cannot apply to the lab."""
        raise NotImplementedError

    def fault(self, lab: Lab, place: str) -> Fault:
        """How to break it at one of ``victims``."""
        raise NotImplementedError


_RULES: dict[str, Rule] = {}


def rules() -> list[Rule]:
    """All rules, in the order of their numbers."""
    from vlab.diagnosis import rules as modules

    for module in iter_modules(modules.__path__):
        import_module(f"{modules.__name__}.{module.name}")
    return sorted(_RULES.values(), key=lambda rule: (rule.number, rule.id))


def rule(id: str) -> Rule:
    """Raises ``UsageError`` for an id that no rule has."""
    known = {rule.id: rule for rule in rules()}
    if id not in known:
        raise UsageError(f"there is no rule '{id}'", hint=meant(id, known) or "vlab check --list")
    return known[id]


def diagnose(lab: Lab, facts: Facts) -> list[Finding]:
    """Every finding, by rule."""
    scene = Scene(lab, facts)
    return [_finding(each, place) for each in rules() for place in each.found(scene)]


def passing(lab: Lab, findings: Iterable[Finding]) -> float:
    """Seconds after which every one of ``findings`` that is still there is no passing moment."""
    return max((rule(finding.rule).passing(lab) for finding in findings), default=0.0)


def _finding(rule: Rule, place: Found) -> Finding:
    return Finding(rule.id, rule.severity, place.subject, place.evidence, rule.why, place.fix)


def fault(lab: Lab, id: str, nodes: Iterable[str] = ()) -> list[tuple[str, Fault]]:
    """(rule, fault) for each of ``nodes``, or for the best place. Raises ``UsageError`` where the rule cannot apply."""
    chosen = rule(id)
    able = chosen.victims(lab)
    if not able:
        need = chosen.needs or "what this lab does not have"
        raise UsageError(f"{id} cannot be broken in lab {lab.name}: it needs {need}", hint="vlab fault inject --list")
    for node in nodes:
        if node not in able:
            places = ", ".join(place or "no node: leave --node out" for place in able)
            raise UsageError(f"{id} cannot be broken at '{node}'", hint=f"places: {places}")
    return [(id, chosen.fault(lab, place)) for place in list(nodes) or [able[0]]]
