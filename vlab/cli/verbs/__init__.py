"""The verbs, one file a family. A file here is found by being here, and imported when one of its verbs is asked for.

Importing all of them takes longer than most verbs do. Which file has a verb is read where it is declared, from the text of the files;
where that leaves a doubt (help, a mistyped verb), all are imported, so a declaration that is not recognised costs time and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

COMMON = "common"
"""The module of what stands before every verb."""

_VERB = re.compile(r'^@app\.command\((?:"([\w-]+)")?.*\)\ndef (\w+)\(', re.MULTILINE)
_FAMILY = re.compile(r"\bfamily\((\w+)\)")


def load(words: Sequence[str] = ()) -> None:
    """Import the modules that the command line ``words`` (without the program's name) needs; each adds its commands to the app."""
    for module in needed(words):
        import_module(f"{__name__}.{module}")


def needed(words: Sequence[str]) -> list[str]:
    """Names of modules: those of the verb, or family of verbs, that is asked for; all where none is, or none that is known."""
    # No option that stands before the verb takes a value.
    asked = next((word for word in words if not word.startswith("-")), "")
    texts = {path.stem: path.read_text() for path in sorted(Path(__file__).parent.glob("[!_]*.py"))}
    found = {name for name, text in texts.items() if asked in declared(text)}
    return [name for name in texts if name in {COMMON, *found}] if found else list(texts)


def declared(text: str) -> set[str]:
    """The verbs that the text of a module declares, and the families to which it adds."""
    return {named or function for named, function in _VERB.findall(text)} | set(_FAMILY.findall(text))
