"""Errors, one class per person who must act.

Library code raises them; only ``vlab.cli`` prints them and turns them into exit codes. Anything that is not a
``VlabError`` and reaches the user is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class VlabError(Exception):
    """What happened, in the user's own names; details, one a line; and the next thing to type."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, details: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.details = tuple(details)
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what, *(f"  {line}" for line in self.details)]
        return "\n".join([*lines, f"(hint: {self.hint})"] if self.hint else lines)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a topology file. ``line`` and ``column`` count from 1."""

    line: int
    column: int
    message: str
    hint: str = ""

    def render(self, file: str) -> str:
        hint = f" (hint: {self.hint})" if self.hint else ""
        return f"{file}:{self.line}:{self.column}: {self.message}{hint}"


class TopologyError(VlabError):
    """The author of the file must edit it. Carries every problem of the file at once."""

    exit_code = 2

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems))
        count = len(self.problems)
        super().__init__(
            f"{file}: {count} problem{'s' if count != 1 else ''}",
            details=[problem.render(file) for problem in self.problems],
        )

    def __str__(self) -> str:
        return "\n".join(self.details)


class UsageError(VlabError):
    """The command line names something that does not exist or does not fit."""

    exit_code = 2


class HostError(VlabError):
    """The owner of the host must install something, load a module or gain a right."""

    exit_code = 5


class HypervisorError(VlabError):
    """libvirt or QEMU said no; its own message is in the details."""


class GuestError(VlabError):
    """A guest did not answer, or a command in it failed."""


class WaitError(VlabError):
    """A deadline passed. Says what was awaited, for how long, and what was seen last."""

    exit_code = 4


class VerifyError(VlabError):
    """vlab did its work, yet the world differs from what was declared."""


class ConflictError(VlabError):
    """Another run, or an object that is not ours, is in the way."""


class CommandError(VlabError):
    """A host command failed; carries its exit code and output."""

    def __init__(self, argv: Sequence[str], code: int, output: str, *, hint: str = "") -> None:
        import shlex

        self.code = code
        self.output = output
        tail = output.strip().splitlines()[-20:]
        super().__init__(f"{argv[0]} failed with exit code {code}", details=[shlex.join(argv), *tail], hint=hint)
