"""Recipes into artefacts: what is missing is built, in order, under the store's lock; what is there is returned.

Idempotent. Progress goes to the sink as events of the step's own subject, «build-image/NAME:FORM», with fractions from apt's own
lines; who called says when it starts and ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from vlab.errors import UsageError
from vlab.events import Event, Sink, silent
from vlab.images import apt, disk, kernel, rootfs
from vlab.images.artifact import Artifact, Form
from vlab.images.forms import FORMS, FormSpec
from vlab.images.kernel import Flavour
from vlab.images.recipe import Recipe
from vlab.images.store import Store
from vlab.run import run

_LISTS_AGE = 6 * 3600.0
_BOOTSTRAP_PACKAGES = 140  # about; mmdebstrap runs apt more than once and never says how many there will be


def build(recipe: Recipe, form: Form, store: Store, sink: Sink = silent) -> Artifact:
    """The artefact of ``recipe`` in ``form``, built with its parents and its kernel when it is not there yet.

    Raises ``HostError`` when the host lacks a tool or package lists, ``CommandError`` with the tool's last lines when a build fails;
    nothing half-made stays.
    """
    return store.find(recipe, form) or _build(recipe, form, store, sink)


def form(name: str) -> Form:
    """A form by its name. Raises ``UsageError``."""
    for known in FORMS:
        if known == name:
            return known
    raise UsageError(f"no form is called '{name}'", hint=f"one of {', '.join(FORMS)}")


def forms(name: str) -> tuple[Form, ...]:
    """The form called ``name``, or every form for «all». Raises ``UsageError``."""
    return tuple(FORMS) if name == "all" else (form(name),)


def _build(recipe: Recipe, form: Form, store: Store, sink: Sink) -> Artifact:
    subject = f"build-image/{recipe.name}:{form}"
    with store.lock(sink, subject):
        job = _Job(store, apt.read_host(), sink, subject)
        job.layers(recipe)
        spec = FORMS[form]
        if spec.flavour:
            job.disk(recipe, spec, spec.flavour)
    found = store.find(recipe, form)
    assert found is not None
    return found


class _Job:
    """One build under the lock: the host's apt, read once, and where progress goes."""

    def __init__(self, store: Store, host: apt.Apt, sink: Sink, subject: str) -> None:
        self.store, self.host, self.sink, self.subject = store, host, sink, subject

    def layers(self, recipe: Recipe) -> None:
        """Build the recipe's tree and those below it, as far as they are missing."""
        if recipe.parent:
            self.layers(recipe.parent)
        else:
            self.bootstrap(recipe)
        target = self.store.layer(recipe)
        if target.exists():
            return
        lower = self.store.layers(recipe)[1:]
        archives = self.refresh() if recipe.parent and recipe.packages else self.archives()
        with self.store.make(target, needs=(lower[0].parent,)) as (folder, manifest):
            (folder / "tree").mkdir()
            follow = self.follow(f"{recipe.name}: packages")
            rootfs.layer(self.host, recipe, lower, folder / "tree", folder / "scratch", archives, follow)
            manifest["packages"] = _packages((folder / "tree", *lower))
        _empty(archives)

    def bootstrap(self, recipe: Recipe) -> None:
        target = self.store.bootstrap(recipe)
        if target.exists():
            return
        with self.store.make(target) as (folder, manifest):
            follow = self.follow(f"{self.host.release.codename}: packages", _BOOTSTRAP_PACKAGES)
            rootfs.bootstrap(self.host, recipe.packages, folder / "tree", folder / "scratch", follow)
            manifest["packages"] = _packages((folder / "tree",))

    def disk(self, recipe: Recipe, form: FormSpec, flavour: Flavour) -> None:
        """Write the disk of a direct or disk artefact: the tree with the kernel's modules (and the kernel, for GRUB) on top."""
        boot = self.kernel(recipe, form, flavour)
        target = self.store.disk(recipe, form.name)
        if target.exists():
            return
        lower = (boot / "tree", *self.store.layers(recipe))
        self.note(f"{recipe.name}: writing the disk")
        with self.store.make(target, needs=(boot,)) as (folder, manifest):
            grub = disk.grub_config(form.cmdline) if form.bootloader else ""
            disk.make_qcow2(lower, folder / "disk.qcow2", folder / "scratch", grub=grub)
            (folder / "disk.qcow2").chmod(0o644)
            manifest["packages"] = _packages(lower)

    def kernel(self, recipe: Recipe, form: FormSpec, flavour: Flavour) -> Path:
        """The kernel's entry, built when missing. depmod comes from the recipe's own tree: the host may have none."""
        target = self.store.kernel(form.name)
        assert target is not None
        if target.exists():
            return target
        state = self.refresh().parent
        self.note(f"kernel {flavour.name}: downloading")
        with self.store.make(target) as (folder, manifest):
            manifest["packages"] = kernel.assemble(
                flavour, self.host, state, folder, self.store.layers(recipe.chain[-1])
            )
        return target

    def archives(self) -> Path:
        folder = self.store.root / ".apt" / "archives"
        (folder / "partial").mkdir(parents=True, exist_ok=True)
        return folder

    def refresh(self) -> Path:
        """Fresh package lists in the store's own place; returns the folder for package archives beside them."""
        archives = self.archives()
        state = archives.parent
        stamp = state / "updated"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > _LISTS_AGE:
            self.note("reading package lists")
            run(["apt-get", "update", "-q"], env=apt.outside(self.host, state))
            stamp.touch()
        return archives

    def note(self, text: str) -> None:
        self.sink(Event(self.subject, "progress", text))

    def follow(self, text: str, expected: int = 0) -> Callable[[str], None]:
        progress = apt.Progress(expected)

        def on_line(line: str) -> None:
            fraction = progress.feed(line)
            if fraction is not None:
                self.sink(Event(self.subject, "progress", text, fraction))

        return on_line


def _packages(stack: tuple[Path, ...]) -> dict[str, str]:
    status = next((tree / "var/lib/dpkg/status" for tree in stack if (tree / "var/lib/dpkg/status").exists()), None)
    return rootfs.packages(status.read_text()) if status else {}


def _empty(archives: Path) -> None:
    for package in archives.glob("*.deb"):
        package.unlink()
