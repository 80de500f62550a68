"""The command line as a user meets it, in a process of its own: words, exit codes, pipes, signals. Needs no privileges, no libvirt."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.unit.zygote import Zygote
from vlab.cli import interrupts, verbs
from vlab.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "topologies" / "quickstart.yaml"
# What runs the tests may ignore Ctrl-C (a background job does); a user's shell does not.
PROGRAM = [
    sys.executable, "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from vlab.cli.main import main; main()",
]  # fmt: skip
NOISE = ("Traceback", "Exception ignored", "internal error")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VLAB_")}
    return {**kept, "VLAB_STATE": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}


Ran = subprocess.CompletedProcess[str]
Vlab = Callable[..., Ran]


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.end()


@pytest.fixture
def vlab(zygote: Zygote, env: dict[str, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Vlab:
    """Run vlab in an empty folder; nothing it says may be a traceback."""
    streams = tmp_path_factory.mktemp("streams")

    def run(*words: str, stdin: str = "", cwd: Path = tmp_path, **more: str) -> Ran:
        ran = zygote.run(words, streams, stdin=stdin, cwd=cwd, env={**env, **more})
        assert not [noise for noise in NOISE if noise in ran.stdout + ran.stderr], ran.stderr
        return ran

    return run


def test_without_a_word_it_says_what_it_can(vlab: Vlab) -> None:
    ran = vlab()
    assert ran.returncode == 2
    assert "Usage: vlab" in ran.stdout + ran.stderr
    for verb in ("up", "down", "status", "verify", "explain", "doctor", "console", "forward", "plan"):
        assert f"\n  {verb} " in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statsu"], "Did you mean 'status'"),
        (["status", "--outptu", "json"], "--output"),
        (["images", "-o", "xml"], "'table', 'json'"),
        (["up", "--timeout", "soon", str(QUICKSTART)], "--timeout"),
        (["up", "--timeout", "0", str(QUICKSTART)], "--timeout"),
        (["plan", "nofile.yaml"], "there is no file nofile.yaml"),
        (["validate", "/tmp"], "name a topology file in it"),
        (["put", "web1"], "Missing argument 'FILE'"),
        (["restore", "nosuch", "x"], "no lab is called 'nosuch'"),
        (["discard", "nosuch", "x"], "no lab is called 'nosuch'"),
        (["checkpoints", "nosuch"], "known: none"),
        (["plan", str(QUICKSTART), "--as", "Bad Name"], "write bad-name"),
        (["up", str(QUICKSTART), "--as", ","], "names nothing"),
        (["up", str(QUICKSTART), "--as", "a" * 33], "33 characters long"),
        (["down", "--as", "../../elsewhere"], "must start with a-z"),
        (["build", "webb"], "did you mean 'web'?"),
        (["build", "web", "--form", "floppy"], "one of rootfs, direct, disk"),
        (["rm"], "--all"),
        (["exec"], "Missing argument"),
        (["put", "web1", "no-such-file", "/tmp/x"], "cannot read no-such-file"),
    ],
)
def test_a_wrong_word_is_exit_2_and_says_the_right_one(vlab: Vlab, words: list[str], said: str) -> None:
    ran = vlab(*words)
    assert ran.returncode == 2, ran.stderr
    assert said in ran.stderr
    assert ran.stdout == ""


def test_a_name_that_is_a_path_deletes_nothing(vlab: Vlab, tmp_path: Path) -> None:
    victim = tmp_path / "state" / "victim"
    victim.mkdir(parents=True)
    (tmp_path / "state" / "labs").mkdir()
    assert vlab("down", "--as", "../victim").returncode == 2
    assert victim.is_dir()


def test_the_file_is_the_only_one_of_the_folder(vlab: Vlab, tmp_path: Path) -> None:
    ran = vlab("validate")
    assert (ran.returncode, "no topology file here" in ran.stderr) == (2, True)
    (tmp_path / "one.yaml").write_text(QUICKSTART.read_text())
    assert "one.yaml: ok (lab quickstart)" in vlab("validate").stdout
    (tmp_path / "two.yml").write_text("not a topology")
    ran = vlab("validate")
    assert (ran.returncode, "one.yaml, two.yml" in ran.stderr) == (2, True)
    (tmp_path / "topology.yaml").write_text(QUICKSTART.read_text())
    assert vlab("validate").returncode == 0, "a file called topology.yaml is meant rather than others"


def test_standard_input_is_a_file_called_minus(vlab: Vlab) -> None:
    text = QUICKSTART.read_text()
    assert vlab("validate", "-", stdin=text).returncode == 0
    assert vlab("plan", "-", "--as", "t-cli-stdin", stdin=text).returncode == 3
    ran = vlab("validate", "-", stdin=text.replace("mode: nat", "mode: natt"))
    assert ran.returncode == 2
    assert "<stdin>:" in ran.stderr
    assert vlab("validate", "-", stdin="").returncode == 2


def test_warnings_stand_at_their_place_and_do_not_fail(vlab: Vlab, tmp_path: Path) -> None:
    file = tmp_path / "odd: name.yaml"
    weights = ("real_servers: web", "real_servers: web, weights: {web1: 3}")
    file.write_text(QUICKSTART.read_text().replace(*weights))
    ran = vlab("validate", str(file))
    assert ran.returncode == 0
    assert ran.stdout.endswith(": ok (lab quickstart), with 1 warning\n")
    place = ran.stderr.removeprefix(f"{file}:").split(": ")
    assert place[1] == "warning", ran.stderr
    assert vlab("plan", str(file), "--as", "t-cli-warned").stderr.count("warning: ") == 1


def test_schema_and_version_print_what_they_are(vlab: Vlab) -> None:
    assert "properties" in json.loads(vlab("schema").stdout)
    assert vlab("version").stdout.startswith("vlab ")


def _word(command: Any) -> str:
    return str(command.name or command.callback.__name__)


def test_every_word_of_every_verb_is_explained() -> None:
    """Also that of each member of a family; an option that is hidden needs none."""
    verbs.load()

    def unexplained(command: Any, words: str) -> list[str]:
        members = getattr(command, "commands", {})
        own = [] if command.help else [words]
        own += [f"{words} {p.opts[0]}" for p in command.params if not getattr(p, "help", "") and not p.hidden]
        return own + [it for name, member in members.items() for it in unexplained(member, f"{words} {name}")]

    command = typer.main.get_command(app)
    assert unexplained(command, "vlab") == []
    assert len(getattr(command, "commands", {})) > 20


def test_a_command_line_loads_the_module_of_its_verb_and_no_other() -> None:
    verbs.load()
    homes = {_word(command): {command.callback.__module__} for command in app.registered_commands if command.callback}
    for group in app.registered_groups:
        members = group.typer_instance.registered_commands if group.typer_instance else []
        homes[str(group.typer_instance and group.typer_instance.info.name)] = {
            str(it.callback.__module__) for it in members if it.callback
        }
    assert len(homes) > 20
    for verb, modules in homes.items():
        assert {f"{verbs.__name__}.{name}" for name in verbs.needed([verb, "x"])} == {
            *modules,
            f"{verbs.__name__}.common",
        }


@pytest.mark.parametrize("words", [[], ["--help"], ["-v"], ["upp"], ["upp", "plan"], ["-"], [""]])
def test_words_that_are_no_verb_load_every_module(words: list[str]) -> None:
    assert len(verbs.needed(words)) > 10


def test_options_may_stand_before_the_verb() -> None:
    assert verbs.needed(["-v", "--debug", "plan"]) == verbs.needed(["plan"])


def test_a_verb_is_declared_in_the_text_of_its_module() -> None:
    text = '@app.command()\ndef up() -> None:\n\n@app.command("exec", hidden=True)\ndef exec_() -> None:\n\nmine = family(lvs)\n'
    assert verbs.declared(text) == {"up", "exec", "lvs"}


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["version"], {"vlab.topology", "vlab.engine", "vlab.hypervisors", "lxml", "ruamel"}),
        (["validate", str(QUICKSTART)], {"vlab.engine", "vlab.hypervisors", "vlab.host", "lxml"}),
        (["plan", str(QUICKSTART)], {"vlab.engine.deeds", "vlab.engine.executor", "vlab.lvs.verify", "vlab.diagnosis", "vlab.wire"}),
        (["exec", "t-unit-none/web1", "--", "true"], {"vlab.topology.model", "vlab.images.store", "vlab.lvs", "ruamel", "pyroute2"}),
    ],
    ids=["version", "validate", "plan", "exec"],
)  # fmt: skip
def test_a_verb_imports_only_what_it_needs(words: list[str], unwanted: set[str], env: dict[str, str]) -> None:
    python = [sys.executable, "-X", "importtime", *PROGRAM[1:]]
    ran = subprocess.run([*python, *words], capture_output=True, text=True, env=env, timeout=60, check=False)
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    assert "vlab.cli.main" in imported
    assert not [name for name in sorted(imported) if any(f"{name}.".startswith(f"{it}.") for it in unwanted)]


def test_version_is_an_option_too(vlab: Vlab) -> None:
    asked, verb = vlab("--version"), vlab("version")
    assert (asked.returncode, asked.stdout) == (0, verb.stdout) and asked.stdout.startswith("vlab ")


def test_each_line_about_a_file_begins_with_its_place(vlab: Vlab, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("vlab: 1\nname: x\n")
    ran = vlab("validate", "bad.yaml")
    assert ran.returncode == 2
    lines = ran.stderr.splitlines()
    assert len(lines) == 2 and all(line.startswith("bad.yaml:1:1: ") for line in lines)


def test_plan_as_json_has_a_reason_for_each_step(vlab: Vlab) -> None:
    ran = vlab("plan", str(QUICKSTART), "--as", "t-cli-plan", "-o", "json")
    steps = json.loads(ran.stdout)
    assert ran.returncode == 3
    assert all(set(step) == {"id", "action", "subject", "why", "after"} for step in steps)
    assert "boot/web1" in [step["id"] for step in steps]


def test_images_as_json_names_the_recipes(vlab: Vlab) -> None:
    found = json.loads(vlab("images", "-o", "json").stdout)
    assert {"web", "director"} <= set(found["recipes"])
    assert found["built"] == []


@pytest.mark.parametrize("words", [["schema"], ["version"], ["images"]])
def test_a_reader_that_goes_is_no_noise(env: dict[str, str], words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        ran = subprocess.run(
            [*PROGRAM, *words], stdout=out, stderr=subprocess.PIPE, text=True, env=env, timeout=60, check=False
        )
    assert ran.stderr == ""
    assert ran.returncode == 1


def test_errors_that_nobody_reads_keep_their_exit_code(env: dict[str, str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as said:
        assert (
            subprocess.run([*PROGRAM, "plan", "nofile.yaml"], stderr=said, env=env, timeout=60, check=False).returncode
            == 2
        )


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_streams_closed_at_the_start_are_no_noise(env: dict[str, str], redirection: str) -> None:
    shell = ["sh", "-c", f'"$@" {redirection}', "sh", *PROGRAM, "version"]
    ran = subprocess.run(shell, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_full_disk_behind_the_output_is_said(env: dict[str, str]) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [*PROGRAM, "schema"], stdout=full, stderr=subprocess.PIPE, text=True, env=env, timeout=60, check=False
        )
    assert ran.returncode
    assert "Traceback" not in ran.stderr
    assert "No space left" in ran.stderr


def on_a_terminal(env: dict[str, str], *words: str) -> str:
    master, slave = pty.openpty()
    with os.fdopen(slave, "wb") as terminal, os.fdopen(master, "rb", buffering=0) as screen:
        subprocess.run([*PROGRAM, *words], stdout=terminal, stderr=terminal, env=env, timeout=60, check=False)
        return screen.read(65536).decode()


def test_colours_on_a_terminal_but_not_with_no_color(env: dict[str, str]) -> None:
    env = {**env, "TERM": "xterm-256color"}
    assert "\x1b[1m" in on_a_terminal(env, "images")
    plain = on_a_terminal({**env, "NO_COLOR": "1"}, "images")
    assert "not built" in plain
    assert "\x1b[3" not in plain


def waiting(env: dict[str, str]) -> subprocess.Popen[str]:
    """vlab at a point where it waits for its user: it reads a topology from standard input."""
    child = subprocess.Popen(
        [*PROGRAM, "validate", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )  # fmt: skip
    deadline, quiet, used = time.monotonic() + 30, 0, ""
    while quiet < 5 and time.monotonic() < deadline:
        time.sleep(0.1)
        before, (state, used) = used, _doing(child.pid)
        quiet = quiet + 1 if state == "S" and used == before != "0 0" else 0
    return child


def _doing(pid: int) -> tuple[str, str]:
    """State of a process and its processor time; where in the kernel it sleeps would need privileges to know."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], " ".join(fields[11:13])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_130_and_one_line(env: dict[str, str], number: signal.Signals) -> None:
    child = waiting(env)
    child.send_signal(number)
    out, said = child.communicate(timeout=10)
    assert (child.returncode, out, said) == (130, "", "vlab: interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_was_ignored_at_the_start_stays_ignored(env: dict[str, str], number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    program = [sys.executable, "-c", "from vlab.cli.main import main; main()", "validate", "-"]
    child = subprocess.Popen(
        ["sh", "-c", f'trap "" {name}; exec "$@"', "sh", *program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
    )  # fmt: skip
    time.sleep(1)
    child.send_signal(number)
    out, _ = child.communicate(QUICKSTART.read_text(), timeout=10)
    assert child.returncode == 0
    assert "ok (lab quickstart)" in out


def test_ctrl_c_while_it_loads_is_no_traceback(env: dict[str, str]) -> None:
    """From the moment ``main`` runs; what comes before is Python's own start."""
    begun = "import sys; from vlab.cli.main import main; print('begun', flush=True); main()"
    interruptible = PROGRAM[2].partition(" from ")[0]
    for delay in (0.0, 0.05, 0.1, 0.2):
        child = subprocess.Popen(
            [sys.executable, "-c", f"{interruptible} {begun}", "validate", "-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.01 + delay)
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=10)[1]
        assert "Traceback" not in said, (delay, said)
        assert child.returncode == 130, (delay, said)


class Interrupted:
    def __set_name__(self, owner: type, name: str) -> None:
        raise KeyboardInterrupt


def test_ctrl_c_while_a_class_is_made_is_an_interrupt() -> None:
    with pytest.raises((RuntimeError, KeyboardInterrupt)) as met:
        type("Made", (), {"it": Interrupted()})
    assert interrupts.is_one(met.value)
    assert not interrupts.is_one(RuntimeError("of another kind"))


@pytest.mark.parametrize("words", [["up", str(QUICKSTART), "--as", "t-cli-state"], ["build", "web"]])
def test_a_state_folder_that_cannot_be_is_a_host_error(vlab: Vlab, words: list[str]) -> None:
    ran = vlab(*words, VLAB_STATE="/dev/null/state")
    assert ran.returncode == 5, ran.stderr
    assert "(hint: " in ran.stderr


def test_debug_shows_where_an_error_comes_from(env: dict[str, str]) -> None:
    words = ["--debug", "plan", "nofile.yaml"]
    ran = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, env=env, timeout=60, check=False)
    assert ran.returncode == 2
    assert "Traceback" in ran.stderr
    assert "vlab: there is no file nofile.yaml" in ran.stderr
