"""What an image is made of, as data: the YAML files of ``images/`` read into frozen ``Recipe`` objects. Pure but for reading files.

A recipe names its parent, the Debian packages it adds, files, units to enable or mask, and shell lines that run inside the
image at build time. Everything a role needs is in its image: nothing is downloaded when a guest boots.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

from vlab.errors import UsageError

FOLDER = Path(__file__).resolve().parents[2] / "images"
"""The project's own recipes."""

LANGUAGE_VERSION = 1
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(service|socket|target|timer|mount|automount|path)")
_PROBES = ("http", "mysql", "tcp", "udp")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file of the image. ``path`` is absolute inside it; ``link`` makes it a symbolic link to that target instead."""

    path: str
    content: bytes = b""
    mode: int = 0o644
    link: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """``parent`` is None for the image that everything else is laid over. ``serves`` maps a port to how it is talked to
    («http», «mysql», «tcp», «udp»); ``ready`` are the units that must be active before the guest counts as ready, ``named`` those of them that
    read the host name when they start. ``run`` is a POSIX shell script executed inside the image, as root, after packages and
    files; ``warm`` one that is executed in a booted guest before its memory becomes a golden snapshot."""

    name: str
    title: str = ""
    parent: Recipe | None = None
    packages: tuple[str, ...] = ()
    files: tuple[ImageFile, ...] = ()
    enable: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    run: str = ""
    serves: tuple[tuple[int, str], ...] = ()
    ready: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    warm: str = ""

    @property
    def chain(self) -> tuple[Recipe, ...]:
        """This recipe and its ancestors, the root of the family last."""
        return (self, *(self.parent.chain if self.parent else ()))

    def probe(self, port: int) -> str:
        """How to talk to ``port``: the recipe's own word or its nearest ancestor's, «tcp» when nobody says."""
        return next((probe for recipe in self.chain for known, probe in recipe.serves if known == port), "tcp")


@cache
def catalogue(folder: Path = FOLDER) -> Mapping[str, Recipe]:
    """Every recipe of ``folder`` by name, parents resolved; read once. Raises ``UsageError`` naming the file and the key."""
    documents = {path.stem: _load(path) for path in sorted(folder.glob("*.yaml"))}
    found: dict[str, Recipe] = {}
    for name in documents:
        _resolve(name, documents, folder, found, ())
    return dict(sorted(found.items()))


def find(name: str, recipes: Mapping[str, Recipe]) -> Recipe:
    """The recipe called ``name``; ``UsageError`` with the nearest names otherwise."""
    if name in recipes:
        return recipes[name]
    near = difflib.get_close_matches(name, recipes, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known images: {', '.join(sorted(recipes))}"
    raise UsageError(f"no image is called '{name}'", hint=hint)


def _resolve(
    name: str,
    documents: Mapping[str, Mapping[str, object]],
    folder: Path,
    found: dict[str, Recipe],
    above: tuple[str, ...],
) -> Recipe:
    if name in found:
        return found[name]
    document = documents[name]
    where = f"{folder.name}/{name}.yaml"
    parent = document.get("parent")
    if parent is not None and parent not in documents:
        _refuse(where, f"parent: no image is called '{parent}'", f"known images: {', '.join(sorted(documents))}")
    if parent in (*above, name):
        _refuse(where, f"parent: {' → '.join([*above, name, str(parent)])} goes round in a circle")
    above_it = _resolve(str(parent), documents, folder, found, (*above, name)) if parent is not None else None
    found[name] = parse(name, document, above_it, folder, where)
    return found[name]


def parse(name: str, document: Mapping[str, object], parent: Recipe | None, folder: Path, where: str) -> Recipe:
    """One document into a ``Recipe``. ``folder`` is where ``source:`` files lie; ``where`` names the file in messages."""
    unknown = sorted(set(document) - _KEYS)
    if unknown:
        near = difflib.get_close_matches(unknown[0], _KEYS, n=1)
        _refuse(
            where,
            f"unknown key '{unknown[0]}'",
            f"did you mean '{near[0]}'?" if near else f"keys: {', '.join(sorted(_KEYS))}",
        )
    if document.get("vlab-image") != LANGUAGE_VERSION:
        _refuse(where, f"vlab-image: expected {LANGUAGE_VERSION}, found {document.get('vlab-image')!r}")
    if not _NAME.fullmatch(name):
        _refuse(where, f"'{name}' is not an image name", "lower-case letters, digits and '-', at most 31")
    units = _mapping(document.get("units"), where, "units")
    return Recipe(
        name=name,
        title=_text(document.get("title"), where, "title"),
        parent=parent,
        packages=_words(document.get("packages"), where, "packages", _PACKAGE),
        files=tuple(_file(item, folder, where) for item in _list(document.get("files"), where, "files")),
        enable=_words(units.get("enable"), where, "units.enable", _UNIT),
        mask=_words(units.get("mask"), where, "units.mask", _UNIT),
        run=_text(document.get("run"), where, "run"),
        serves=_serves(document.get("serves"), where),
        ready=(ready := _words(document.get("ready"), where, "ready", _UNIT)),
        named=_among(ready, _words(document.get("named"), where, "named", _UNIT), where),
        warm=_text(document.get("warm"), where, "warm"),
    )


_KEYS = {"vlab-image", "title", "parent", "packages", "files", "units", "run", "serves", "ready", "named", "warm"}


def _load(path: Path) -> Mapping[str, object]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    where = f"{path.parent.name}/{path.name}"
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text())
    except YAMLError as error:
        raise UsageError(f"{where} is not valid YAML", details=str(error).splitlines()) from error
    return _mapping(document, where, "the file")


def _file(item: object, folder: Path, where: str) -> ImageFile:
    entry = _mapping(item, where, "files")
    path = _text(entry.get("path"), where, "files.path")
    if not path.startswith("/") or ".." in path.split("/"):
        _refuse(where, f"files.path: '{path}' is not an absolute path")
    sources = [key for key in ("content", "source", "link") if key in entry]
    if len(sources) != 1 or set(entry) - {"path", "mode", "content", "source", "link"}:
        _refuse(where, f"files: {path} needs exactly one of content, source, link (and may have a mode)")
    mode = _mode(entry.get("mode", "0644"), where, path)
    text = _text(entry[sources[0]], where, f"files.{sources[0]}")
    return _FILE_OF[sources[0]](path, text, mode, folder, where)


def _from_source(path: str, text: str, mode: int, folder: Path, where: str) -> ImageFile:
    source = folder / text
    if not source.is_file():
        _refuse(where, f"files.source: {text} does not exist in {folder.name}/")
    return ImageFile(path, source.read_bytes(), mode)


_FILE_OF: Mapping[str, Callable[[str, str, int, Path, str], ImageFile]] = {
    "content": lambda path, text, mode, _folder, _where: ImageFile(path, text.encode(), mode),
    "link": lambda path, text, _mode, _folder, _where: ImageFile(path, link=text),
    "source": _from_source,
}


def _mode(value: object, where: str, path: str) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3,4}", value):
        _refuse(where, f"files: mode of {path} is {value!r}", 'write octal digits in quotes: "0755"')
    return int(value, 8)


def _serves(value: object, where: str) -> tuple[tuple[int, str], ...]:
    return tuple(
        sorted((_port(port, where), _probe(probe, where)) for port, probe in _mapping(value, where, "serves").items())
    )


def _port(value: object, where: str) -> int:
    if not isinstance(value, int) or not 0 < value < 65536:
        _refuse(where, f"serves: {value!r} is not a port")
    return value


def _probe(value: object, where: str) -> str:
    if value not in _PROBES:
        _refuse(where, f"serves: {value!r} is not a protocol", f"one of {', '.join(_PROBES)}")
    return str(value)


def _words(value: object, where: str, key: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    words = tuple(_text(item, where, key) for item in _list(value, where, key))
    for word in words:
        if not pattern.fullmatch(word):
            _refuse(where, f"{key}: '{word}' is not a valid name")
    return words


def _among(ready: tuple[str, ...], named: tuple[str, ...], where: str) -> tuple[str, ...]:
    for unit in named:
        if unit not in ready:
            _refuse(where, f"named: {unit} is not one of ready", "named are units of ready that read the host name")
    return named


def _mapping(value: object, where: str, key: str) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        _refuse(where, f"{key}: expected keys and values, found {type(value).__name__}")
    return value


def _list(value: object, where: str, key: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        _refuse(where, f"{key}: expected a list, found {type(value).__name__}")
    return value


def _text(value: object, where: str, key: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        _refuse(where, f"{key}: expected text, found {value!r}")
    return value


def _refuse(where: str, message: str, hint: str = "") -> NoReturn:
    raise UsageError(f"{where}: {message}", hint=hint)
