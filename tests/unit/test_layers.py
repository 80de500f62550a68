"""The layers of ARCHITECTURE.md hold: dependencies point down, and each foreign library has one door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "vlab").rglob("*.py"))

LAYERS = (
    {"errors", "events", "plain"},
    {"run"},
    {"topology", "wire"},
    {"state", "guests", "host", "hypervisors", "images", "lvs"},
    {"plan", "diagnosis"},
    {"engine"},
    {"cli"},
)
"""Lowest first. A module may import its own layer and those below."""

DOORS = {
    "libvirt": "vlab/hypervisors/connection.py",
    "libvirt_qemu": "vlab/hypervisors/connection.py",
    "pyroute2": "vlab/host/links.py",
    "subprocess": "vlab/run.py",
    "typer": "vlab/cli/",
    "rich": "vlab/cli/",
}


def test_every_part_of_vlab_has_a_layer() -> None:
    parts = {path.relative_to(ROOT / "vlab").parts[0].removesuffix(".py") for path in MODULES} - {
        "__init__",
        "__main__",
    }
    assert parts <= set().union(*LAYERS)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(module: Path) -> None:
    part = module.relative_to(ROOT / "vlab").parts[0].removesuffix(".py")
    if part in ("__init__", "__main__"):
        return
    upward = [name for name in imports(module) if name.startswith("vlab.") and rank(name.split(".")[1]) > rank(part)]
    assert not upward


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_foreign_libraries_have_one_door(module: Path) -> None:
    where = str(module.relative_to(ROOT))
    foreign = {name.split(".")[0] for name in imports(module)}
    assert not [name for name in foreign & DOORS.keys() if not where.startswith(DOORS[name])]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_prints(module: Path) -> None:
    if module.is_relative_to(ROOT / "vlab/cli"):
        return
    calls = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert not [f"line {call.lineno}" for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


def rank(part: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if part in layer)


def imports(module: Path) -> Iterator[str]:
    """Full names of all that a module imports, at its top or inside a function."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # «from vlab import state» names the part only in its alias
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(), str(module))
