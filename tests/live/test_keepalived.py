"""keepalived's own opinion of what vlab writes for it: the program of the director image reads every golden configuration.

No guest boots: the program runs in the image's tree, as the image store has it, in namespaces of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.harness import STATE, vlab
from vlab.images import rootfs
from vlab.images.recipe import catalogue
from vlab.images.store import Store

pytestmark = pytest.mark.live

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "keepalived").glob("*.conf"))

# $1 the root, $2 the folder of the files. The interfaces are those that a pair's file names.
# A PID namespace for each keepalived: before it looks at a script as another user, 2.2.7 asks whether its parent died, and «-t» never
# noted who that is, so it ends itself unless it has none.
ASK = """\
ip link add eth0 type veth peer name eth1
mount -t proc proc "$1/proc"
mount -t tmpfs dev "$1/dev"
: >"$1/dev/null"
mount --bind /dev/null "$1/dev/null"
mount -t tmpfs run "$1/run"
mkdir "$1/run/asked"
mount --bind "$2" "$1/run/asked"
for file in "$2"/*.conf; do
  code=0
  timeout 20 unshare --pid --fork --kill-child=KILL \\
    chroot "$1" keepalived -t -f "/run/asked/${file##*/}" >"$file.said" 2>&1 || code=$?
  echo "$code" >"$file.code"
done
"""


@dataclass(frozen=True)
class Opinion:
    code: int
    said: str

    @property
    def complaints(self) -> list[str]:
        """Unknown keywords and the like, some of which are only warnings to keepalived: we want none at all."""
        words = "unknown|invalid|violation|ignor|not exist|no such"
        return [line for line in self.said.splitlines() if re.search(words, line, re.IGNORECASE)]


def opinions(texts: Mapping[str, str], folder: Path) -> dict[str, Opinion]:
    """What keepalived says of each text, by name."""
    asked, root, scratch = (folder / name for name in ("asked", "root", "scratch"))
    for each in (asked, root, scratch):
        each.mkdir()
    for name, text in texts.items():
        (asked / f"{name}.conf").write_text(text)
    vlab("build", "director", "--form", "rootfs")
    layers = Store(STATE / "images").layers(catalogue()["director"])
    rootfs.merged(layers, root, scratch, ["unshare", "--net", "sh", "-euc", ASK, "sh", str(root), str(asked)])
    return {name: _opinion(asked / f"{name}.conf") for name in texts}


def _opinion(file: Path) -> Opinion:
    code, said = (file.with_name(f"{file.name}.{word}").read_text() for word in ("code", "said"))
    return Opinion(int(code), said)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Opinion]:
    return opinions({file.stem: file.read_text() for file in GOLDEN}, tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", [file.stem for file in GOLDEN])
def test_keepalived_accepts_it(name: str, found: dict[str, Opinion]) -> None:
    assert (found[name].code, found[name].complaints) == (0, []), found[name].said


def test_what_is_wrong_is_refused(tmp_path: Path) -> None:
    text = (GOLDEN[0].parent / "keys.conf").read_text()
    broken = {
        "keyword": ("lvs_sched ", "lvs_schedd ", "Unknown keyword 'lvs_schedd'"),
        "number": ("weight 1\n", "weight much\n", "invalid number 'much'"),
        "user": ("user keepalived_script", "user nobody_there", "Failed to set uid/gid"),
    }
    assert all(old in text for old, _, _ in broken.values())
    said = opinions({name: text.replace(old, new) for name, (old, new, _) in broken.items()}, tmp_path)
    assert [name for name in broken if said[name].code == 0] == []
    assert [name for name, (_, _, words) in broken.items() if words not in said[name].said] == []
