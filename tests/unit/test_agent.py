"""The agent channel against a small agent that keeps the real one's protocol and runs commands on this host."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from vlab.errors import GuestError, HypervisorError, WaitError
from vlab.guests.agent import CHUNK, AgentChannel, AgentRefused
from vlab.run import run

LIBVIRT_LIMIT = 4 << 20


class LocalAgent:
    """``guest-exec`` and ``guest-file-*`` on the test's own machine; a command's end shows ``delay`` seconds late."""

    def __init__(self, *, delay: float = 0.0, silent_for: int = 0) -> None:
        self.delay = delay
        self.silent_for = silent_for
        self.asked: list[str] = []
        self._ended: dict[int, tuple[float, dict[str, Any]]] = {}
        self._files: dict[int, Any] = {}

    def __call__(self, command: Mapping[str, object], timeout: float) -> Any:
        assert timeout >= 1
        text = json.dumps(command)
        assert len(text) < LIBVIRT_LIMIT, "libvirt carries no longer message"
        self.asked.append(str(command["execute"]))
        if self.silent_for:
            self.silent_for -= 1
            raise GuestError("web1: its guest agent does not answer")
        asked = json.loads(text)
        return getattr(self, asked["execute"].replace("-", "_"))(**asked.get("arguments", {}))

    def guest_ping(self) -> dict[str, Any]:
        return {}

    def guest_exec(self, path: str, arg: list[str], env: list[str], **options: Any) -> dict[str, int]:
        if path == "/nowhere":
            raise AgentRefused("refused: Failed to execute child process “/nowhere” (No such file or directory)")
        assert options["capture-output"]
        source = base64.b64decode(options.get("input-data", ""))
        done = run(["env", "-i", *env, path, *arg], input=source, check=False)
        pid = len(self._ended) + 1
        signalled = {"signal": -done.code} if done.code < 0 else {"exitcode": done.code}
        streams = {"out-data": _b64(done.stdout), "err-data": _b64(done.stderr)}
        self._ended[pid] = (time.monotonic() + self.delay, {"exited": True, **signalled, **streams})
        return {"pid": pid}

    def guest_exec_status(self, pid: int) -> dict[str, Any]:
        at, status = self._ended[pid]
        return status if time.monotonic() >= at else {"exited": False}

    def guest_file_open(self, path: str, mode: str) -> int:
        if not Path(path).is_file():
            raise AgentRefused(f"refused: failed to open file '{path}' (mode: '{mode}'): No such file or directory")
        self._files[1] = BytesIO(Path(path).read_bytes())
        return 1

    def guest_file_read(self, handle: int, count: int) -> dict[str, Any]:
        data = self._files[handle].read(count)
        return {"count": len(data), "buf-b64": _b64(data), "eof": len(data) < count}

    def guest_file_close(self, handle: int) -> dict[str, Any]:
        self._files.pop(handle).close()
        return {}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def channel(agent: LocalAgent) -> AgentChannel:
    return AgentChannel("web1", agent)


def test_run_gives_exit_code_and_both_streams() -> None:
    result = channel(LocalAgent()).run(["sh", "-c", "cat; echo no >&2; exit 3"], input=b"\0bin")
    assert (result.code, result.stdout, result.stderr) == (3, b"\0bin", b"no\n")


def test_a_quick_command_takes_two_round_trips() -> None:
    agent = LocalAgent()
    channel(agent).run(["true"])
    assert agent.asked == ["guest-exec", "guest-exec-status"]


def test_a_small_file_takes_three_round_trips(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x")
    agent = LocalAgent()
    assert channel(agent).get(str(tmp_path / "small")) == b"x"
    assert agent.asked == ["guest-file-open", "guest-file-read", "guest-file-close"]


def test_a_slow_command_is_not_asked_about_all_the_time() -> None:
    agent = LocalAgent(delay=1.0)
    assert channel(agent).run(["true"]).code == 0
    assert len(agent.asked) < 20


def test_a_missing_program_is_exit_code_127_and_a_signal_128_and_more() -> None:
    assert channel(LocalAgent()).run(["/nowhere"]).code == 127
    assert channel(LocalAgent()).run(["sh", "-c", "kill -9 $$"]).code == 137


def test_a_command_over_its_time_is_killed() -> None:
    agent = LocalAgent(delay=9.0)
    with pytest.raises(WaitError, match="web1: the end of «sleep 0»"):
        channel(agent).run(["sleep", "0"], timeout=0.2)
    assert agent.asked.count("guest-exec") == 2, "the second is the kill"


@pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK + 7])
def test_files_of_any_size_come_and_go(tmp_path: Path, size: int) -> None:
    path, content = tmp_path / "new" / "-a file's name", bytes(range(256)) * (size // 256 + 1)
    channel(LocalAgent()).put(str(path), content[:size], mode=0o640)
    assert path.read_bytes() == content[:size]
    assert path.stat().st_mode & 0o777 == 0o640
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    assert channel(LocalAgent()).get(str(path)) == content[:size]


def test_a_large_input_reaches_the_command_whole() -> None:
    result = channel(LocalAgent()).run(["wc", "-c"], input=b"x" * (5 << 20))
    assert int(result.text) == 5 << 20


def test_errors_name_the_guest_and_the_file(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="web1: cannot read /no/such"):
        channel(LocalAgent()).get("/no/such")
    with pytest.raises(GuestError, match="web1: cannot write"):
        channel(LocalAgent()).put(f"{tmp_path}/file/", b"")


def test_a_key_that_can_only_be_written_is_fed_too() -> None:
    asked: list[str] = []

    def agent(command: Mapping[str, object], timeout: float) -> Any:
        assert timeout >= 1
        arguments = command.get("arguments")
        assert isinstance(arguments, dict)
        asked.append(f"{command['execute']} {arguments.get('mode', '')}".strip())
        if arguments.get("mode") == "r+":
            raise AgentRefused(f"refused: failed to open file '{arguments['path']}' (mode: 'r+'): Permission denied")
        return {"count": 2} if command["execute"] == "guest-file-write" else 1

    AgentChannel("lvs1", agent).feed("/proc/sys/net/ipv4/route/flush", b"1\n")
    assert asked == ["guest-file-open r+", "guest-file-open w", "guest-file-write", "guest-file-close"]


def test_wait_lasts_until_the_agent_answers() -> None:
    agent = LocalAgent(silent_for=3)
    channel(agent).wait(10)
    assert agent.asked == ["guest-ping"] * 4
    with pytest.raises(WaitError, match="guest agent"):
        channel(LocalAgent(silent_for=999)).wait(0.3)


def test_wait_ends_at_once_when_the_guest_is_gone() -> None:
    def gone(command: Mapping[str, object], timeout: float) -> Any:
        raise HypervisorError(f"web1 does not run any more: {command}, {timeout}")

    with pytest.raises(HypervisorError, match="does not run"):
        AgentChannel("web1", gone).wait(60)
