"""The typer application, the options that many verbs share, and how a word of the command line becomes a lab or a node."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vlab.errors import UsageError

app = typer.Typer(
    name="vlab",
    help="One topology file, one Linux host, one small data centre with a Linux Virtual Server director in front.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"auto_envvar_prefix": "VLAB", "help_option_names": ["-h", "--help"]},
)

lvs = typer.Typer(name="lvs", help="See and change a running director's services.", no_args_is_help=True)
fault = typer.Typer(name="fault", help="Break things on purpose, and mend them.", no_args_is_help=True)
"""Families of verbs whose members live in several modules of ``verbs``; a module gets one by ``family``."""


def family(members: typer.Typer) -> typer.Typer:
    """``members``, attached to the app the first time somebody asks for it: an empty family shows in no help."""
    if members not in [group.typer_instance for group in app.registered_groups]:
        app.add_typer(members)
    return members


class Output(StrEnum):
    """What ``-o`` takes."""

    table = "table"
    json = "json"


OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table or json")]
TopologyOption = Annotated[Path | None, typer.Option("-t", "--topo", help="topology file", show_default=False)]
AsOption = Annotated[
    str, typer.Option("--as", metavar="NAME", help="name of the copy; several, by commas, make several labs")
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="how long to wait for a guest", min=1)
]
YesOption = Annotated[bool, typer.Option("-y", "--yes", help="do not ask")]
NodeOption = Annotated[str, typer.Option("--node", metavar="A,B", help="only these nodes")]
GroupOption = Annotated[str, typer.Option("--group", metavar="GROUP", help="all nodes of a group")]
LabArgument = Annotated[
    str, typer.Argument(metavar="LAB|FILE", help="a lab's name or a topology file", show_default=False)
]
FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="topology file, - for stdin", show_default=False)]

TOPOLOGY_PATTERNS = ("*.vlab.yaml", "*.vlab.yml", "topology.yaml", "topology.yml")


def topology_file(given: str, option: Path | None = None) -> str:
    """The topology file meant: as given, by ``-t``, or the one in the current folder. Raises ``UsageError``."""
    if given or option:
        return given or str(option)
    found = sorted({path for pattern in TOPOLOGY_PATTERNS for path in Path.cwd().glob(pattern)}) or _only_yaml()
    if len(found) == 1:
        return str(found[0])
    names = ", ".join(path.name for path in found)
    raise UsageError(
        f"several topology files here: {names}" if found else "no topology file here", hint="name one: vlab … FILE"
    )


def _only_yaml() -> list[Path]:
    return sorted([*Path.cwd().glob("*.yaml"), *Path.cwd().glob("*.yml")])


def is_file(word: str) -> bool:
    """Whether a LAB|FILE word means a file: lab names hold no dot and no slash."""
    return word == "-" or "/" in word or word.endswith((".yaml", ".yml"))


@dataclass(frozen=True, slots=True)
class NodeName:
    """``lab`` is empty when the word named no lab."""

    lab: str
    node: str


def node_name(word: str) -> NodeName:
    """«web1» or «lab/web1»."""
    lab, _, node = word.rpartition("/")
    return NodeName(lab, node)


def names(word: str) -> list[str]:
    """A comma list, empty items dropped. Raises ``UsageError`` when nothing is left of it."""
    found = [item.strip() for item in word.split(",") if item.strip()]
    if word and not found:
        raise UsageError(f"'{word}' names nothing", hint="names stand with commas between them: a,b")
    return found


def debug_from_now_on() -> None:
    os.environ["VLAB_DEBUG"] = "1"


def debugging() -> bool:
    """Whether tracebacks are wanted: ``--debug``, or ``VLAB_DEBUG`` in the environment."""
    return os.environ.get("VLAB_DEBUG", "").lower() not in ("", "0", "false", "no")
