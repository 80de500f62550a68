"""The store: hashes, names, atomic entries, and removal of what nothing needs."""

import dataclasses
from pathlib import Path

import pytest

from vlab.images import digest
from vlab.images.apt import Release
from vlab.images.forms import FORMS
from vlab.images.recipe import ImageFile, Recipe
from vlab.images.store import MANIFEST, Store

RELEASE = Release("debian", "bookworm")
BASE = Recipe("base", packages=("bash",))
WEB = Recipe("web", parent=BASE, packages=("nginx",), files=(ImageFile("/a", b"1"),))
RECIPES = {"base": BASE, "web": WEB}


def store(root: Path) -> Store:
    return Store(root, RELEASE, lambda: RECIPES)


def fill(at: Store, target: Path, *needs: Path) -> None:
    with at.make(target, needs) as (folder, manifest):
        (folder / "tree").mkdir()
        (folder / "disk.qcow2").write_bytes(b"x" * 5000)
        manifest["packages"] = {"bash": "5"}


def full(root: Path) -> Store:
    """A store with web as rootfs and direct."""
    made = store(root)
    with made.lock():
        fill(made, made.bootstrap(BASE))
        fill(made, made.layer(BASE), made.bootstrap(BASE))
        fill(made, made.layer(WEB), made.layer(BASE))
        kernel = made.kernel("direct")
        assert kernel is not None
        fill(made, kernel)
        fill(made, made.disk(WEB, "direct"), kernel)
    return made


@pytest.mark.parametrize(
    "change", [{"packages": ("nginx", "x")}, {"files": (ImageFile("/a", b"2"),)}, {"mask": ("a.service",)}, {"run": "true"},
               {"files": (ImageFile("/a", b"1", 0o755),)}, {"parent": Recipe("base", packages=("zsh",))}],
)  # fmt: skip
def test_every_input_changes_the_digest(change: dict[str, object]) -> None:
    changed = dataclasses.replace(WEB, **change)  # type: ignore[arg-type]  # any field, on purpose
    assert digest.layer(changed, RELEASE) != digest.layer(WEB, RELEASE)


def test_what_is_said_about_an_image_does_not_change_it() -> None:
    described = dataclasses.replace(WEB, title="words", serves=((80, "http"),), ready=("nginx.service",))
    assert digest.layer(described, RELEASE) == digest.layer(WEB, RELEASE)


def test_release_and_form_change_the_digest() -> None:
    assert digest.layer(WEB, Release("debian", "trixie")) != digest.layer(WEB, RELEASE)
    assert len({digest.artifact(WEB, form, RELEASE) for form in FORMS.values()}) == 3


def test_found_only_when_every_part_is_there(tmp_path: Path) -> None:
    made = full(tmp_path)
    rootfs, direct = made.find(WEB, "rootfs"), made.find(WEB, "direct")
    assert rootfs is not None and direct is not None
    assert [layer.parent.name.split("-")[:2] for layer in rootfs.layers] == [
        ["layer", "web"],
        ["layer", "base"],
        ["bootstrap", "base"],
    ]
    assert direct == made.planned(WEB, "direct")
    assert direct.cmdline.startswith("root=/dev/vda ")
    assert made.find(WEB, "disk") is None
    assert made.planned(WEB, "disk").kernel is None
    (made.layer(BASE) / MANIFEST).unlink()
    assert made.find(WEB, "rootfs") is None


def test_listing_knows_what_is_stale(tmp_path: Path) -> None:
    made = full(tmp_path)
    changed = Store(tmp_path, RELEASE, lambda: {"base": BASE, "web": dataclasses.replace(WEB, run="true")})
    assert [(b.image, b.form, b.current) for b in made.built()] == [
        ("base", "rootfs", True),
        ("web", "direct", True),
        ("web", "rootfs", True),
    ]
    assert [(b.image, b.current) for b in changed.built()] == [("base", True), ("web", False), ("web", False)]
    assert all(b.size >= 5000 and len(b.made) == 16 for b in made.built())


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    made = store(tmp_path)
    with made.lock(), pytest.raises(RuntimeError), made.make(made.layer(WEB)) as (folder, _):
        (folder / "tree").mkdir()
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_a_dead_builders_folder_goes_with_the_next_lock(tmp_path: Path) -> None:
    made = store(tmp_path)
    (tmp_path / "tmp-1-layer-web-0" / "tree").mkdir(parents=True)
    (tmp_path / "tmp-1-layer-web-0" / MANIFEST).write_text("{")
    assert made.built() == []
    with made.lock():
        assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_removing_takes_what_nothing_needs_any_more(tmp_path: Path) -> None:
    made = full(tmp_path)
    assert [b.form for b in made.remove("web")] == ["direct", "rootfs"]
    assert [(e.kind, e.name) for e in made.entries()] == [("bootstrap", "base"), ("layer", "base")]
    assert made.remove("web") == []
    made.remove("all")
    assert made.entries() == []


def test_removing_a_parent_takes_the_trees_above_it(tmp_path: Path) -> None:
    made = full(tmp_path)
    assert [(b.image, b.form) for b in made.remove("base")] == [("base", "rootfs"), ("web", "rootfs")]
    assert made.find(WEB, "direct") is not None
