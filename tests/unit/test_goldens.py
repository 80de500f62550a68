"""The store of golden snapshots: found whole, made once, made again when damaged, and nothing half-made stays or is listed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from vlab.engine.drivers import Drivers
from vlab.engine.golden import stale
from vlab.errors import ConflictError, GuestError
from vlab.hypervisors.mark import Domain
from vlab.images.goldens import DISK, MEMORY, Golden, Goldens, damage
from vlab.state import Paths

NAME = "web-para-0123456789abcdef"
FACTS = {"image": "web", "virt": "para"}


class Maker:
    """Fills the folder with what stands for a saved guest; counts how often it was asked."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.made, self.seconds = 0, seconds

    def __call__(self, folder: Path) -> Mapping[str, str]:
        self.made += 1
        assert list(folder.iterdir()) == [], "a maker starts from nothing"
        (folder / MEMORY).write_bytes(os.urandom(100_000))
        time.sleep(self.seconds)
        (folder / DISK).write_bytes(os.urandom(100_000))
        return FACTS


def ensure(goldens: Goldens, make: Callable[[Path], Mapping[str, str]], said: list[str] | None = None) -> Golden:
    return goldens.ensure(NAME, make, (said if said is not None else []).append)


def left(root: Path) -> list[str]:
    """What lies beside the locks."""
    return sorted(path.name for path in root.iterdir() if path.name != ".locks")


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(content)


def test_none_is_found_where_none_was_made(tmp_path: Path) -> None:
    goldens = Goldens(tmp_path / "goldens")
    assert goldens.find(NAME) is None
    assert goldens.all() == []
    goldens.sweep()


def test_what_was_made_is_found_by_everybody_and_made_once(tmp_path: Path) -> None:
    make, goldens = Maker(), Goldens(tmp_path)
    made = ensure(goldens, make)
    assert ensure(goldens, make) == made == Goldens(tmp_path).find(NAME)
    assert make.made == 1
    assert goldens.all() == [made]
    assert (made.name, made.facts, made.memory.parent) == (NAME, FACTS, tmp_path / NAME)
    assert set(made.sums) == {MEMORY, DISK}
    assert made.size >= 200_000
    assert damage(made) == ""


def test_a_golden_of_other_inputs_is_not_found(tmp_path: Path) -> None:
    goldens = Goldens(tmp_path)
    ensure(goldens, Maker())
    assert goldens.find(NAME[:-1] + "0") is None


@pytest.mark.parametrize("half", [(), (MEMORY,), (MEMORY, DISK)], ids=["empty", "memory", "no-manifest"])
def test_a_half_made_one_is_neither_found_nor_listed_and_is_made(half: tuple[str, ...], tmp_path: Path) -> None:
    make, goldens = Maker(), Goldens(tmp_path)
    for folder in (tmp_path / NAME, tmp_path / f"tmp-{NAME}"):
        folder.mkdir()
        for part in half:
            (folder / part).write_bytes(b"half")
    assert goldens.find(NAME) is None
    assert goldens.all() == []
    assert damage(ensure(goldens, make)) == ""
    assert make.made == 1
    assert left(tmp_path) == [NAME]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"sums": {}}', "\0\0\0\0", '"\\ud800"', '{"created": "x"}'])
def test_one_whose_manifest_cannot_be_read_is_made_again(text: str, tmp_path: Path) -> None:
    make, goldens = Maker(), Goldens(tmp_path)
    ensure(goldens, make)
    (tmp_path / NAME / "manifest.json").write_text(text)
    assert goldens.find(NAME) is None
    assert goldens.all() == []
    assert damage(ensure(goldens, make)) == ""
    assert make.made == 2


def test_a_manifest_that_is_no_text_is_no_golden(tmp_path: Path) -> None:
    goldens = Goldens(tmp_path)
    ensure(goldens, Maker())
    (tmp_path / NAME / "manifest.json").write_bytes(b"\xff\xfe\x00")
    assert goldens.find(NAME) is None


@pytest.mark.parametrize("part", [MEMORY, DISK])
@pytest.mark.parametrize(
    "harm",
    [lambda path: os.truncate(path, 99_999), lambda path: flip(path, 54_321), lambda path: flip(path, 0), Path.unlink],
    ids=["cut", "one-bit", "first-byte", "gone"],
)
def test_damage_is_noticed_said_and_made_good(part: str, harm: Callable[[Path], None], tmp_path: Path) -> None:
    make, goldens = Maker(), Goldens(tmp_path)
    first = ensure(goldens, make)
    harm(first.path / part)
    assert part in damage(first)
    said: list[str] = []
    again = ensure(goldens, make, said)
    assert (make.made, damage(again)) == (2, "")
    assert len(said) == 1
    assert NAME in said[0] and part in said[0] and "made again" in said[0]
    assert again.sums != first.sums
    assert left(tmp_path) == [NAME]


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> Mapping[str, str]:
        (folder / MEMORY).write_bytes(b"half")
        raise GuestError("it did not boot")

    goldens = Goldens(tmp_path)
    with pytest.raises(GuestError, match="did not boot"):
        ensure(goldens, fail)
    assert left(tmp_path) == []
    assert ensure(goldens, Maker()).name == NAME


def test_a_damaged_one_whose_maker_fails_is_not_found_again(tmp_path: Path) -> None:
    def fail(_folder: Path) -> Mapping[str, str]:
        raise GuestError("it did not boot")

    goldens = Goldens(tmp_path)
    flip(ensure(goldens, Maker()).memory, 7)
    with pytest.raises(GuestError):
        ensure(goldens, fail)
    assert goldens.find(NAME) is None


def test_of_two_at_once_one_makes_and_the_other_gets_it(tmp_path: Path) -> None:
    make, found = Maker(0.3), []
    threads = [threading.Thread(target=lambda: found.append(ensure(Goldens(tmp_path), make))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert make.made == 1
    assert len(found) == 4
    assert found.count(found[0]) == 4


def test_goldens_of_two_shapes_are_made_side_by_side(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=10)

    def make(folder: Path) -> Mapping[str, str]:
        together.wait()
        return Maker()(folder)

    goldens = Goldens(tmp_path)
    threads = [threading.Thread(target=goldens.ensure, args=(name, make, print)) for name in ("a-para-1", "a-para-2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [golden.name for golden in goldens.all()] == ["a-para-1", "a-para-2"]


KILLED = """
import sys, time
from pathlib import Path
from vlab.images.goldens import Goldens

def make(folder):
    (folder / "memory").write_bytes(b"half")
    print("making", flush=True)
    time.sleep(60)

Goldens(Path(sys.argv[1])).ensure(sys.argv[2], make, print)
"""


def killed_maker(root: Path) -> subprocess.Popen[bytes]:
    """A process that is in the middle of making a golden."""
    maker = subprocess.Popen([sys.executable, "-c", KILLED, str(root), NAME], stdout=subprocess.PIPE)
    assert maker.stdout and maker.stdout.readline() == b"making\n"
    return maker


def test_what_a_killed_maker_left_is_not_listed_and_goes_with_the_next(tmp_path: Path) -> None:
    goldens = Goldens(tmp_path)
    with killed_maker(tmp_path) as maker:
        goldens.sweep()
        assert left(tmp_path) == [f"tmp-{NAME}"], "a living maker's folder stays"
        assert goldens.all() == []
        maker.send_signal(signal.SIGKILL)
    assert left(tmp_path) == [f"tmp-{NAME}"]
    assert goldens.find(NAME) is None
    assert goldens.all() == []
    goldens.sweep()
    assert left(tmp_path) == []


def test_who_waits_for_a_killed_maker_makes_it(tmp_path: Path) -> None:
    found: list[Golden] = []
    with killed_maker(tmp_path) as maker:
        waiting = threading.Thread(target=lambda: found.append(ensure(Goldens(tmp_path), Maker())))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        maker.send_signal(signal.SIGKILL)
        waiting.join(20)
    assert [damage(golden) for golden in found] == [""]
    assert left(tmp_path) == [NAME]


def test_removing(tmp_path: Path) -> None:
    goldens = Goldens(tmp_path)
    goldens.remove(NAME)
    ensure(goldens, Maker())
    goldens.remove(NAME)
    assert goldens.all() == []
    assert left(tmp_path) == []


def test_goldens_are_kept_where_a_mark_of_another_version_cannot_be_read(tmp_path: Path) -> None:
    class Unreadable:
        def domains(self) -> list[Domain]:
            raise ConflictError("domain vlab-x.y carries a mark that this version of vlab cannot read")

    class Quiet(Unreadable):
        def domains(self) -> list[Domain]:
            return []

    goldens = Goldens(tmp_path)
    old = ensure(goldens, Maker())
    new = goldens.ensure(f"{NAME}1", Maker(), lambda _: None)
    for hypervisors, found in ((Quiet(), [old]), (Unreadable(), [])):
        drivers = cast(Drivers, SimpleNamespace(hypervisors=hypervisors, goldens=goldens, paths=Paths(tmp_path)))
        assert stale(drivers, new) == found
