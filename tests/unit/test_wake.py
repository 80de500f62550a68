"""The scripts that make a golden and wake a clone: shell and Perl that can be read, words that arrive as they were said."""

from __future__ import annotations

import shlex
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import need
from vlab.guests import wake
from vlab.guests.settings import Link, Settings, Unit
from vlab.images.recipe import catalogue

WAKE = Path(__file__).parents[2] / "images/base/wake"
MACS = ("52:54:00:AA:BB:01", "52:54:00:aa:bb:02")
WANTED = Settings("web1", "a" * 32, tuple(Link(f"eth{i}", mac, 1500) for i, mac in enumerate(MACS)))


def words(script: str) -> list[str]:
    """What the command line of a wake script says."""
    line = next(line for line in script.splitlines() if line.startswith(wake.WAKE))
    return shlex.split(line.removesuffix(" </dev/null"))


def checked(script: str) -> str:
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return script


def test_every_recipes_scripts_are_shell() -> None:
    for recipe in catalogue().values():
        checked(wake.quiet(recipe.named, recipe.warm))
    checked(wake.script(WANTED))


@pytest.mark.parametrize("name", ["a b.service", "$(reboot).service", "-x.service", "it's.service"])
def test_units_are_quoted(name: str) -> None:
    script = checked(wake.quiet([name, "b.service"], ""))
    line = next(line for line in script.splitlines() if line.startswith("systemctl stop"))
    assert shlex.split(line) == ["systemctl", "stop", "--", name, "b.service"]


def test_nothing_is_stopped_where_nothing_is_named() -> None:
    assert "systemctl stop" not in wake.quiet([], "")


def test_the_images_own_warm_up_comes_after_the_boot_and_before_the_sync() -> None:
    script = checked(wake.quiet(["a.service"], "modprobe ip_vs\nmodprobe ip_vs_rr"))
    order = [script.index(part) for part in ("is-system-running", "stop -- a.service", "modprobe ip_vs\n", "sync\n")]
    assert order == sorted(order)


def test_a_warm_up_that_fails_is_not_saved() -> None:
    lines = wake.quiet([], "false").replace(f"[ -x {wake.WAKE} ]", ":").replace("systemctl", "true")
    assert subprocess.run(["sh"], input=lines, text=True, capture_output=True, check=False).returncode


def test_a_clone_is_told_its_names_the_time_and_its_macs_in_order() -> None:
    before = time.time()
    program, name, machine_id, now, entropy, *macs = words(checked(wake.script(WANTED)))
    assert (program, name, machine_id) == (wake.WAKE, "web1", "a" * 32)
    assert before - 0.01 <= float(now) <= time.time() + 0.01
    assert len(bytes.fromhex(entropy)) == 32
    assert macs == [mac.lower() for mac in MACS], "as the kernel writes them"


def test_no_two_scripts_have_the_same_entropy() -> None:
    assert len({words(wake.script(WANTED))[4] for _ in range(100)}) == 100


@pytest.mark.parametrize("name", ["it's", "$(reboot)", "a b", "-rf"])
def test_names_are_quoted(name: str) -> None:
    assert words(checked(wake.script(Settings(name, "m"))))[1] == name


def test_a_script_stops_where_wake_fails() -> None:
    script = wake.script(WANTED).replace(wake.WAKE, "false") + "echo went on\n"
    done = subprocess.run(["sh"], input=script, text=True, capture_output=True, check=False)
    assert (bool(done.returncode), done.stdout) == (True, "")


def test_what_runs_already_counts_as_there_but_for_what_waits_for_its_name() -> None:
    found = wake.restored(["nginx.service", "mariadb.service"], ["mariadb.service"])
    assert found.units == (Unit("nginx.service"),)
    assert (found.hostname, found.machine_id, found.links, found.files) == ("", "", (), ())


def test_the_program_in_the_guest_is_perl() -> None:
    need("perl")
    done = subprocess.run(["perl", "-c", str(WAKE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_program_is_in_every_image() -> None:
    for recipe in catalogue().values():
        files = [file for one in recipe.chain for file in one.files if file.path == wake.WAKE]
        assert len(files) == 1
        assert files[0].mode & 0o111
