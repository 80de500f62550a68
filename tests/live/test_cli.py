"""Every verb against one small running lab, on terminals, in pipes, and interrupted: the contract that scripts and people rely on."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import TOPOLOGIES, Ran, eventually, start, traces, vlab
from tests.live.terminal import NOISE, PROGRAM, Terminal

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

FILE = str(TOPOLOGIES / "quickstart.yaml")
LAB = "t-cli"
SECOND = "t-cli-2"


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    try:
        vlab("up", FILE, "--as", LAB)
        yield LAB
    finally:
        vlab("down", "--as", f"{LAB},{SECOND}", check=False)


@pytest.fixture
def second() -> Iterator[str]:
    """The name of a lab that is gone after the test."""
    yield SECOND
    vlab("down", "--as", SECOND, check=False)


def refused(ran: Ran, code: int, said: str) -> None:
    assert ran.code == code, ran.err
    assert said in ran.err, ran.err
    assert not any(noise in ran.err for noise in NOISE), ran.err


# what is shown


def test_status_and_ls_have_the_fields_that_scripts_rely_on(lab: str) -> None:
    found = vlab("status", lab, "-o", "json").json()
    assert {"lab", "state", "accel", "nodes", "networks", "services"} <= set(found)
    assert {"name", "group", "virt", "accel", "state", "image", "addresses"} <= set(found["nodes"][0])
    service = found["services"][0]
    assert {"name", "director", "vip", "port", "mode", "scheduler", "real_servers"} <= set(service)
    assert {"node", "address", "weight", "state", "active", "inactive"} <= set(service["real_servers"][0])
    row = next(row for row in vlab("ls", "-o", "json").json() if row["lab"] == lab)
    wanted = {"lab": lab, "state": "running", "accel": found["accel"], "nodes": 4, "networks": 2, "services": 1}
    assert row == {**wanted, "active": "lvs1"}
    table = vlab("ls").out.splitlines()
    assert table[0].split() == ["LAB", "STATE", "ACCEL", "NODES", "NETWORKS", "SERVICES", "ACTIVE"]


def test_verify_and_explain_as_json(lab: str) -> None:
    found = vlab("verify", lab, "-o", "json").json()
    assert (found["lab"], found["ok"]) == (lab, True)
    assert {"id", "ok", "expected", "found", "hint"} <= set(found["checks"][0])
    rows = vlab("explain", f"{lab}/web1", "-o", "json").json()
    assert all({"subject", "setting", "why"} <= set(row) for row in rows)
    assert "SETTING" in vlab("explain", f"{lab}/www").out


def test_doctor_audit_and_images(lab: str) -> None:
    probes = vlab("doctor", "-o", "json", check=False).json()
    assert {"id", "level", "what", "fix"} <= set(probes[0])
    left = vlab("audit", "-o", "json", check=False)
    assert left.code == (1 if left.json() else 0)
    assert [item for item in left.json() if item["lab"] == lab] == []
    built = vlab("images", "-o", "json").json()["built"]
    assert {"image", "form", "digest", "size", "made", "current"} <= set(built[0])


def test_plan_says_3_when_something_is_to_do_and_0_when_not(lab: str, tmp_path: Path) -> None:
    ran = vlab("plan", FILE, "--as", lab)
    assert (ran.code, ran.out) == (0, f"{lab}: nothing to do\n")
    assert vlab("plan", FILE, "--as", lab, "-o", "json").json() == []
    changed = tmp_path / "changed.yaml"
    changed.write_text(Path(FILE).read_text().replace("scheduler: rr", "scheduler: wrr"))
    assert vlab("plan", str(changed), "--as", lab, check=False).code == 3


def test_up_again_as_json_is_a_status(lab: str) -> None:
    ran = vlab("up", FILE, "--as", lab, "-o", "json")
    assert ran.json()["status"]["state"] == "running"
    assert "nothing to do" in ran.err


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize("words", [["status", LAB], ["explain", f"{LAB}/web1"]])
def test_a_table_into_head_is_no_noise(words: list[str]) -> None:
    with subprocess.Popen([*PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""


def test_a_status_of_80_columns_breaks_no_address(lab: str) -> None:
    terminal = Terminal("status", lab)
    assert terminal.ended() == 0
    assert "10.20.0.100:80" in terminal.screen
    assert "\x1b[32mrunning" in terminal.screen
    colourless = Terminal("status", lab, NO_COLOR="1")
    assert colourless.ended() == 0
    assert "\x1b[32m" not in colourless.screen


def test_v_and_debug_say_more(lab: str) -> None:
    quiet, debugging = vlab("status", lab), vlab("--debug", "exec", f"{lab}/web1", "--", "true")
    assert quiet.err == ""
    assert "vlab.run" in debugging.err
    assert "nsenter" in debugging.err
    assert vlab("-vv", "exec", f"{lab}/web1", "--", "true").err.count("nsenter") == debugging.err.count("nsenter")


# what is refused


def test_unknown_names_get_the_nearest_known_one(lab: str) -> None:
    refused(vlab("status", "t-cly", check=False), 2, f"did you mean '{lab}'?")
    refused(vlab("exec", f"{lab}/wbe1", "--", "true", check=False), 2, "did you mean 'web1'?")
    refused(vlab("exec", "t-cly/web1", "--", "true", check=False), 2, f"did you mean '{lab}'?")
    refused(vlab("exec", "--lab", lab, "--group", "wbe", "--", "true", check=False), 2, "did you mean 'web'?")
    refused(vlab("explain", f"{lab}/lvs", check=False), 2, "lvs1")
    refused(vlab("forward", "--lab", lab, "8080:wwww", check=False), 2, "www")
    refused(vlab("console", f"{lab}/nobody", check=False), 2, "nobody")
    refused(vlab("down", "t-cly", check=False), 2, f"did you mean '{lab}'?")


def test_rm_refuses_what_the_lab_stands_on(lab: str) -> None:
    for image in ("web", "base"):
        refused(vlab("rm", image, "-y", check=False), 1, f"{lab}/web1")
    assert vlab("exec", f"{lab}/web1", "--", "true").code == 0


@pytest.mark.usefixtures("lab")
def test_build_of_what_is_built_says_so() -> None:
    ran = vlab("build", "web", "--form", "rootfs")
    assert ran.err.count("\n") == 1
    assert "build-image/web:rootfs: done (already built)" in ran.err


def test_without_root_it_says_who_must_run_it(lab: str) -> None:
    unprivileged = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", "--"]

    def as_nobody(*words: str) -> Ran:
        done = subprocess.run(
            [*unprivileged, *PROGRAM, *words], capture_output=True, text=True, check=False, timeout=60
        )
        return Ran(done.returncode, done.stdout, done.stderr, 0)

    if as_nobody("version").code:
        pytest.skip("this checkout cannot be read by others than root")
    for words in (
        ["up", FILE, "--as", SECOND],
        ["down", lab],
        ["ls"],
        ["exec", f"{lab}/web1", "--", "true"],
    ):
        refused(as_nobody(*words), 5, "run it as root")
    assert as_nobody("validate", FILE).code == 0
    assert as_nobody("schema").code == 0
    pending = as_nobody("plan", FILE, "--as", lab)
    assert pending.code == 3
    assert "counts as absent" in pending.err


def test_a_second_up_of_the_same_lab_says_who_works_on_it(second: str, tmp_path: Path) -> None:
    first = start("up", FILE, "--as", second, "--no-verify", "--cold", log=tmp_path / "log")
    try:
        eventually("the first works", lambda: "boot/lvs1: started" in (tmp_path / "log").read_text(), 60)
        again = vlab("up", FILE, "--as", second, check=False)
        refused(again, 1, f"another vlab run is working on it (pid {first.pid})")
        assert again.seconds < 5
    finally:
        first.terminate()
        assert first.wait(60) == 130
    assert traces(second) == []


def test_a_guest_that_takes_too_long_is_exit_4_and_undone(second: str) -> None:
    ran = vlab("up", FILE, "--as", second, "--cold", "--timeout", "1", check=False)
    refused(ran, 4, "lvs1")
    assert traces(second) == []


# into guests


def test_forward_carries_a_web_page(lab: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    child = start("forward", f"{port}:www", "--lab", lab, log=tmp_path / "log")
    try:
        eventually("it listens", lambda: f"127.0.0.1:{port} → 10.20.0.100:80" in (tmp_path / "log").read_text(), 20)
        answers = {urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read().strip() for _ in range(4)}
        assert len(answers) == 2, answers
    finally:
        child.terminate()
        assert child.wait(20) == 130
    assert (tmp_path / "log").read_text().splitlines()[1:] == ["vlab: interrupted"]


def test_a_containers_console_is_a_shell_where_ctrl_c_works(lab: str) -> None:
    terminal = Terminal("console", f"{lab}/web1")
    terminal.until("# ")
    terminal.type("echo it-is-$((40+2))\r")
    terminal.until("it-is-42")
    terminal.type("sleep 1000\r")
    time.sleep(1)
    terminal.type("\x03")
    terminal.until("# ")
    terminal.type("echo still-$((1+1))\r")
    terminal.until("still-2")
    terminal.type("exit 7\r")
    assert terminal.ended() == 7


def test_a_machines_console_is_left_by_its_key(lab: str) -> None:
    terminal = Terminal("console", f"{lab}/lvs1")
    terminal.until("Ctrl-]")
    time.sleep(1)
    terminal.type("\r")
    terminal.until("# ")
    terminal.type("echo it-is-$((40+2))\r")
    terminal.until("it-is-42")
    terminal.type("\x1d")
    assert terminal.ended() == 0


def test_put_get_and_logs(lab: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)))
    vlab("put", f"{lab}/web1", str(tmp_path / "a"), "/tmp/a")
    vlab("get", f"{lab}/web1", "/tmp/a", str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == bytes(range(256))
    refused(vlab("get", f"{lab}/web1", "/tmp/a", str(tmp_path / "no" / "b"), check=False), 2, "cannot write")
    assert vlab("get", f"{lab}/web1", "/no/such/file", check=False).code == 1
    assert vlab("logs", f"{lab}/web1", "-n", "3").out.strip()
