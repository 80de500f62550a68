"""Recipes: what a file says, and the words in which a wrong one is refused."""

from pathlib import Path

import pytest

from vlab.errors import UsageError
from vlab.images.recipe import ImageFile, Recipe, catalogue, find


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_own_recipes_are_valid_and_complete() -> None:
    recipes = catalogue()
    assert {"base", "client", "db", "director", "web"} <= set(recipes)
    assert [r.name for r in recipes["web"].chain] == ["web", "base"]
    assert recipes["web"].probe(80) == "http"
    assert recipes["db"].probe(3306) == "mysql"
    assert recipes["web"].probe(8080) == "tcp"
    assert recipes["web"].ready == ("nginx.service",)


def test_a_recipe_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "conf").write_bytes(b"beside\n")
    folder = write(
        tmp_path,
        root="vlab-image: 1\npackages: [bash]\n",
        leaf="""\
vlab-image: 1
title: a leaf
parent: root
packages: [g++, nginx-light]
files:
  - {path: /etc/a, content: "x\\n", mode: "0755"}
  - {path: /etc/b, source: conf}
  - {path: /etc/c, link: /dev/null}
units: {enable: [a.service], mask: [b.timer]}
run: |
  true
serves: {80: http, 3306: mysql}
ready: [a.service]
""",
    )
    leaf = catalogue(folder)["leaf"]
    assert leaf == Recipe(
        name="leaf", title="a leaf", parent=Recipe(name="root", packages=("bash",)), packages=("g++", "nginx-light"),
        files=(ImageFile("/etc/a", b"x\n", 0o755), ImageFile("/etc/b", b"beside\n"), ImageFile("/etc/c", link="/dev/null")),
        enable=("a.service",), mask=("b.timer",), run="true\n", serves=((80, "http"), (3306, "mysql")), ready=("a.service",),
    )  # fmt: skip


WRONG = {
    "packges: [a]": "unknown key 'packges'\n(hint: did you mean 'packages'?)",
    "packages: a": "packages: expected a list, found str",
    "packages: ['-rf']": "packages: '-rf' is not a valid name",
    "units: {mask: ['$(reboot)']}": "units.mask: '$(reboot)' is not a valid name",
    "serves: {0: http}": "serves: 0 is not a port",
    "serves: {80: gopher}": "serves: 'gopher' is not a protocol\n(hint: one of http, mysql, tcp, udp)",
    "parent: nobody": "parent: no image is called 'nobody'\n(hint: known images: one)",
    "parent: one": "parent: one → one goes round in a circle",
    "files: [{path: etc, content: x}]": "files.path: 'etc' is not an absolute path",
    "files: [{path: /a/../../b, content: x}]": "files.path: '/a/../../b' is not an absolute path",
    "files: [{path: /a}]": "files: /a needs exactly one of content, source, link (and may have a mode)",
    "files: [{path: /a, source: gone}]": "files.source: gone does not exist in images/",
    "files: [{path: /a, content: x, mode: 755}]": 'files: mode of /a is 755\n(hint: write octal digits in quotes: "0755")',
    "run: 3": "run: expected text, found 3",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    with pytest.raises(UsageError) as caught:
        catalogue(write(folder, one=f"vlab-image: 1\n{text}\n"))
    assert str(caught.value) == f"images/one.yaml: {message}"


def test_version_and_syntax(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="vlab-image: expected 1, found None"):
        catalogue(write(tmp_path, one="title: x\n"))
    with pytest.raises(UsageError, match="not valid YAML"):
        catalogue(write(tmp_path, one="a: [\n"))


def test_an_unknown_image_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError) as caught:
        find("wbe", {"web": Recipe("web")})
    assert str(caught.value) == "no image is called 'wbe'\n(hint: did you mean 'web'?)"
