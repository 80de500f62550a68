"""A file changes while real servers are down: who is down stays out of the table, and who answers instead of them does so in the new way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import edited, eventually, real_servers, running, traces, verify, vlab

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("lab")]

LAB = "t-dead-servers"
FILE = Path(__file__).with_name("dead-servers.yaml")
PAGE, BARE = "10.30.0.102", "10.30.0.103"


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    with running(FILE, LAB):
        yield LAB
    assert traces(LAB) == []


def shell(node: str, script: str) -> str:
    return vlab("exec", f"{LAB}/{node}", "--", "sh", "-c", script).out


def table() -> dict[str, dict[str, str]]:
    """VIP → address of a server → how the director forwards to it."""
    found: dict[str, dict[str, str]] = {}
    for words in map(str.split, shell("lvs1", "ipvsadm -Sn").splitlines()):
        servers = found.setdefault(words[2].removesuffix(":80"), {})
        if words[0] == "-a":
            servers[words[4].removesuffix(":80")] = words[5]
    assert found.keys() <= {PAGE, BARE}
    return found


def ask(vip: str, times: int = 4) -> set[str]:
    return set(shell("client1", f"for i in $(seq {times}); do curl -s -m 5 http://{vip}/ || echo FAILED; done").split())


def up(folder: Path, *edits: tuple[str, str]) -> None:
    vlab("up", str(edited(FILE, folder / "file.yaml", *edits)), "--as", LAB, "--no-verify")


def states(service: str) -> dict[str, str]:
    return {name: server["state"] for name, server in real_servers(LAB, service).items()}


NAT = ("mode: dr,", "mode: nat, snat: true,")


def test_another_mode_brings_no_dead_server_back(tmp_path: Path) -> None:
    shell("web1", "systemctl stop nginx")
    eventually("web1 is out", lambda: table() == {vip: {"10.30.0.32": "-g"} for vip in (PAGE, BARE)}, within=20)
    up(tmp_path, NAT)
    assert table() == {vip: {"10.30.0.32": "-m"} for vip in (PAGE, BARE)}
    assert ask(PAGE) == ask(BARE) == {"web2"}
    shell("web1", "systemctl start nginx")
    eventually("web1 is back", lambda: states("page") == states("bare") == {"web1": "up", "web2": "up"}, within=20)
    assert set(table()[BARE].values()) == {"-m"}
    verify(LAB)


def test_the_sorry_server_answers_in_the_new_mode(tmp_path: Path) -> None:
    shell("web1", "systemctl stop nginx")
    shell("web2", "systemctl stop nginx")
    eventually("nobody is left", lambda: table() == {PAGE: {"10.30.0.61": "-m"}, BARE: {}}, within=20)
    up(tmp_path)
    assert table() == {PAGE: {"10.30.0.61": "-g"}, BARE: {}}
    assert ask(PAGE) == {"spare1"}
    assert ask(BARE) == {"FAILED"}


def test_another_sorry_server_takes_over(tmp_path: Path) -> None:
    up(tmp_path, ("sorry_server: spare1", "sorry_server: spare2"))
    eventually("spare2 answers", lambda: table() == {PAGE: {"10.30.0.62": "-g"}, BARE: {}}, within=10)
    assert ask(PAGE) == {"spare2"}


def test_a_sorry_server_comes_and_goes_while_nobody_is_up(tmp_path: Path) -> None:
    up(tmp_path, (" sorry_server: spare1,", ""))
    eventually("nobody answers", lambda: table() == {PAGE: {}, BARE: {}}, within=10)
    up(tmp_path)
    eventually("spare1 answers", lambda: table() == {PAGE: {"10.30.0.61": "-g"}, BARE: {}}, within=10)
    assert ask(PAGE) == {"spare1"}
    shell("web1", "systemctl start nginx")
    shell("web2", "systemctl start nginx")
    eventually("all are back", lambda: states("page") == {"web1": "up", "web2": "up"}, within=20)
    verify(LAB)
