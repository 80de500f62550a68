"""Content hashes of everything an image is made from. Pure.

Package versions are not part of them: an image stays as it is until its recipe changes or someone removes it, so thirty hosts
agree on what is up to date without asking an archive. The versions are in each manifest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import lru_cache

from vlab.images.apt import Release
from vlab.images.forms import FormSpec
from vlab.images.initrd import INIT
from vlab.images.kernel import KEEP, Flavour
from vlab.images.recipe import Recipe

BUILDER = 2
"""Raise when the way images are built changes in a manner the other inputs do not show."""


def bootstrap(root: Recipe, release: Release) -> str:
    """Of the bare package tree under ``root``, a recipe without parent."""
    return _hash("bootstrap", asdict(release), sorted(root.packages))


@lru_cache
def layer(recipe: Recipe, release: Release) -> str:
    """Of a recipe's root tree: its own content and its ancestors'."""
    below = layer(recipe.parent, release) if recipe.parent else bootstrap(recipe, release)
    files = [(f.path, f.mode, f.link, hashlib.sha256(f.content).hexdigest()) for f in recipe.files]
    return _hash("layer", below, recipe.packages, files, recipe.enable, recipe.mask, recipe.run)


@lru_cache
def kernel(flavour: Flavour, release: Release) -> str:
    """Of a kernel, its module tree and its initrd."""
    return _hash("kernel", asdict(release), asdict(flavour), [p.pattern for p in KEEP], INIT)


@lru_cache
def artifact(recipe: Recipe, form: FormSpec, release: Release) -> str:
    """Of what a virt kind boots."""
    if form.flavour is None:
        return layer(recipe, release)
    return _hash(
        "artifact", form.name, layer(recipe, release), kernel(form.flavour, release), form.cmdline, form.bootloader
    )


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps([BUILDER, *parts], sort_keys=True).encode()).hexdigest()
