"""Where built images lie: one folder an entry, named by what it is and the hash of what went in.

An entry appears by one rename of a finished folder; whatever is called ``tmp-…`` is unfinished and belongs to the holder of the
store's lock, so a builder killed at any moment leaves nothing that looks built. Every entry has a ``manifest.json``.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vlab.events import Event, Sink, silent
from vlab.images import digest
from vlab.images.apt import Release, read_release
from vlab.images.artifact import Artifact, Form
from vlab.images.forms import FORMS
from vlab.images.recipe import Recipe, catalogue

MANIFEST = "manifest.json"
_FORM_OF_KIND: Mapping[str, Form] = {"layer": "rootfs", "direct": "direct", "disk": "disk"}


@dataclass(frozen=True, slots=True)
class Built:
    """One built artefact. ``size`` is bytes on the host's disk, ``made`` local time («2026-11-21 03:35»); ``current`` says that
    it is what the recipe, as it is now, would build."""

    image: str
    form: Form
    digest: str
    size: int
    made: str
    current: bool
    path: Path


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder of the store. ``kind`` is bootstrap, layer, kernel, direct or disk; ``needs`` are the folder names it uses."""

    path: Path
    kind: str
    name: str
    digest: str
    size: int
    created: float
    needs: tuple[str, ...]


class Store:
    """The image store under ``root`` (``/var/lib/vlab/images``)."""

    def __init__(
        self, root: Path, release: Release | None = None, recipes: Callable[[], Mapping[str, Recipe]] = catalogue
    ) -> None:
        self.root = root
        self.release = release or read_release()
        self.recipes = recipes

    def path(self, kind: str, name: str, content: str) -> Path:
        """Where an entry with this content lies or will lie."""
        return self.root / f"{kind}-{name}-{content[:16]}"

    def bootstrap(self, recipe: Recipe) -> Path:
        return self.path("bootstrap", recipe.name, digest.bootstrap(recipe, self.release))

    def layer(self, recipe: Recipe) -> Path:
        return self.path("layer", recipe.name, digest.layer(recipe, self.release))

    def layers(self, recipe: Recipe) -> tuple[Path, ...]:
        """The trees that make up the recipe's root, topmost first, whether built or not."""
        chain = recipe.chain
        return (*(self.layer(each) / "tree" for each in chain), self.bootstrap(chain[-1]) / "tree")

    def kernel(self, form: Form) -> Path | None:
        flavour = FORMS[form].flavour
        return self.path("kernel", flavour.name, digest.kernel(flavour, self.release)) if flavour else None

    def disk(self, recipe: Recipe, form: Form) -> Path:
        return self.path(form, recipe.name, digest.artifact(recipe, FORMS[form], self.release))

    def planned(self, recipe: Recipe, form: Form) -> Artifact:
        """The artefact as it will be once built; its files need not be there."""
        content = digest.artifact(recipe, FORMS[form], self.release)
        kernel = self.kernel(form)
        if kernel is None:
            return Artifact(recipe.name, form, content, layers=self.layers(recipe))
        disk = self.disk(recipe, form) / "disk.qcow2"
        if FORMS[form].bootloader:
            return Artifact(recipe.name, form, content, disk=disk)
        return Artifact(
            recipe.name,
            form,
            content,
            disk=disk,
            kernel=kernel / "kernel",
            initrd=kernel / "initrd",
            cmdline=FORMS[form].cmdline,
        )

    def find(self, recipe: Recipe, form: Form) -> Artifact | None:
        """The built artefact, None when it or a part of it is not there."""
        kernel = self.kernel(form)
        parts = [kernel, self.disk(recipe, form)] if kernel else [tree.parent for tree in self.layers(recipe)]
        return self.planned(recipe, form) if all((part / MANIFEST).exists() for part in parts) else None

    def entries(self) -> list[Entry]:
        """Everything finished in the store."""
        return [
            _entry(path.parent)
            for path in sorted(self.root.glob(f"*/{MANIFEST}"))
            if not path.parent.name.startswith("tmp-")
        ]

    def built(self) -> list[Built]:
        """What guests can boot, by image and form."""
        entries = self.entries()
        current = self._current()
        found = [_built(entry, current) for entry in entries if entry.kind in _FORM_OF_KIND]
        return sorted(found, key=lambda built: (built.image, built.form, built.made))

    def _current(self) -> frozenset[str]:
        """Folder names of what the recipes would build."""
        recipes = self.recipes().values()
        return frozenset(
            path.name
            for recipe in recipes
            for path in (self.layer(recipe), *(self.disk(recipe, form) for form in FORMS if FORMS[form].flavour))
        )

    def remove(self, name: str) -> list[Built]:
        """Remove every artefact of image ``name`` («all» for everything) and what nothing needs afterwards; return what went.

        The root trees of images built on it go too: without their lower layers they are nothing. Whether a running lab uses any of
        it is for the caller to ask first.
        """
        with self.lock():
            built, entries = self.built(), self.entries()
            going = above(entries, {b.path.name for b in built if name in (b.image, "all")})
            gone = [b for b in built if b.path.name in going]
            # Uppermost first: at no moment does an image lie on nothing.
            for one in sorted(gone, key=lambda b: len(above(entries, {b.path.name}))):
                discard(one.path)
            self._sweep()
        return gone

    def _sweep(self) -> None:
        """Remove kernels and package trees that no artefact needs."""
        entries = self.entries()
        needed = {need for entry in entries for need in entry.needs}
        for entry in entries:
            if entry.kind not in _FORM_OF_KIND and entry.path.name not in needed:
                discard(entry.path)

    @contextmanager
    def lock(self, sink: Sink = silent, subject: str = "images") -> Iterator[None]:
        """Hold the store alone; folders that a dead builder left are gone afterwards."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _acquire(descriptor, sink, subject)
            for stale in self.root.glob("tmp-*"):
                discard(stale)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def make(self, target: Path, needs: tuple[Path, ...] = ()) -> Iterator[tuple[Path, dict[str, object]]]:
        """Build an entry: yields its unfinished folder and the manifest to fill; on success they become ``target``.

        Only under ``lock``. Scratch files go into the folder's ``scratch``, which is dropped.
        """
        kind, name, content = _name_parts(target.name)
        unfinished = self.root / f"tmp-{os.getpid()}-{target.name}"
        unfinished.mkdir(mode=0o755)
        # What apt is told may hold a password of the host's.
        (unfinished / "scratch").mkdir(mode=0o700)
        manifest: dict[str, object] = {}
        started = time.monotonic()
        try:
            yield unfinished, manifest
            discard(unfinished / "scratch")
            facts = {"kind": kind, "name": name, "digest": content, "needs": [n.name for n in needs],
                     "created": time.time(), "seconds": round(time.monotonic() - started, 1), "builder": digest.BUILDER,
                     "size": allocated(unfinished)}  # fmt: skip
            (unfinished / MANIFEST).write_text(json.dumps({**facts, **manifest}, indent=1))
            unfinished.chmod(0o755)
            if target.exists():
                discard(target)
            unfinished.rename(target)
        finally:
            discard(unfinished)


def above(entries: Sequence[Entry], names: set[str]) -> set[str]:
    """``names`` and the folder names of all that is built on them."""
    more = {entry.path.name for entry in entries if set(entry.needs) & names} - names
    return above(entries, names | more) if more else names


def _built(entry: Entry, current: frozenset[str]) -> Built:
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created))
    form = _FORM_OF_KIND[entry.kind]
    return Built(entry.name, form, entry.digest, entry.size, made, entry.path.name in current, entry.path)


def _acquire(descriptor: int, sink: Sink, subject: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sink(Event(subject, "note", "waiting for another builder"))
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _name_parts(folder: str) -> tuple[str, str, str]:
    """«layer-my-web-0123abcd» is a layer, of my-web, with that content."""
    kind, _, rest = folder.partition("-")
    name, _, content = rest.rpartition("-")
    return kind, name, content


def _entry(path: Path) -> Entry:
    facts = json.loads((path / MANIFEST).read_text())
    return Entry(
        path, facts["kind"], facts["name"], facts["digest"], facts["size"], facts["created"], tuple(facts["needs"])
    )


def discard(path: Path) -> None:
    """Remove a tree if it is there: first out of sight by a rename within the folder, so that no half-removed entry is found."""
    if not path.exists():
        return
    hidden = path if path.name.startswith("tmp-") else path.with_name(f"tmp-{os.getpid()}-gone-{path.name}")
    path.rename(hidden)
    shutil.rmtree(hidden)


def allocated(path: Path) -> int:
    """Bytes a tree takes on disk, hard links counted once."""
    seen = {}
    for folder, _, names in os.walk(path):
        for name in (*names, "."):
            status = (Path(folder) / name).lstat()
            seen[status.st_ino] = status.st_blocks * 512
    return sum(seen.values())
