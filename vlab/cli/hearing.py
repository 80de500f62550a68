"""Asking several guests the same thing when some of them may not answer: the others' answers, and who was silent and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vlab.errors import VlabError


@dataclass(frozen=True, slots=True)
class Silent:
    """A director that did not answer: ``reason`` in one line, ``hint`` what to do about it."""

    director: str
    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.director} is not shown: {self.reason}\n(hint: {self.hint})"


@dataclass(frozen=True, slots=True)
class Heard:
    """What each director said, by its name, in the order of asking."""

    said: Mapping[str, str]
    silent: tuple[Silent, ...] = ()


def hear(questions: Mapping[str, Callable[[], str]], otherwise: str) -> Heard:
    """Ask each director. ``otherwise`` is the hint for a reason that has none. Raises the first one's ``VlabError`` when none answers."""
    said: dict[str, str] = {}
    refused: dict[str, VlabError] = {}
    for director, ask in questions.items():
        try:
            said[director] = ask()
        except VlabError as error:
            refused[director] = error
    if refused and not said:
        raise next(iter(refused.values()))
    return Heard(said, tuple(_silent(director, error, otherwise) for director, error in refused.items()))


def _silent(director: str, error: VlabError, otherwise: str) -> Silent:
    return Silent(director, ": ".join([error.what, *error.details]), error.hint or otherwise)
