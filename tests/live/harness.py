"""Run the real ``vlab`` and look at the real host. Tests judge only what a user could see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOPOLOGIES = ROOT / "topologies"
STATE = Path(os.environ.get("VLAB_STATE", "/var/lib/vlab"))
PROGRAM = [sys.executable, "-c", "from vlab.cli.main import main; main()"]
UP_TIMEOUT = 900


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str
    seconds: float

    def json(self) -> Any:
        return json.loads(self.out)


def vlab(*words: str, timeout: float = UP_TIMEOUT, check: bool = True, stdin: str = "") -> Ran:
    """Run vlab to its end; with ``check`` a non-zero exit fails the test with everything vlab said."""
    began = time.monotonic()
    done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=timeout, input=stdin, check=False)
    ran = Ran(done.returncode, done.stdout, done.stderr, time.monotonic() - began)
    if check and ran.code:
        raise AssertionError(f"vlab {' '.join(words)} exited {ran.code}\n{ran.err}\n{ran.out}")
    return ran


def start(*words: str, log: Path) -> subprocess.Popen[bytes]:
    """Start vlab in a session of its own, so that it can be killed alone."""
    with log.open("wb") as sink:
        return subprocess.Popen(
            [*PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )


def killed(*words: str, after: float, log: Path) -> bool:
    """Kill a vlab ``after`` so many seconds; whether it was still at work."""
    run = start(*words, log=log)
    try:
        run.wait(after)
    except subprocess.TimeoutExpired:
        run.kill()
        run.wait()
        return True
    return False


def host(*argv: str) -> str:
    """What a host command prints; a command that fails prints nothing that matters here."""
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60).stdout


@contextmanager
def running(file: Path | str, lab: str, *options: str) -> Iterator[Ran]:
    """A lab for the length of a block; gone afterwards whatever happened."""
    try:
        yield vlab("up", str(file), "--as", lab, *options)
    finally:
        vlab("down", lab, check=False)


def verify(lab: str) -> None:
    """Every check of ``verify`` holds; a failure shows them all."""
    ran = vlab("verify", lab, "-o", "json", check=False)
    failed = [c for c in ran.json()["checks"] if not c["ok"]] if ran.out else [ran.err]
    assert ran.code == 0, json.dumps(failed, indent=1)
    assert len(ran.json()["checks"]) >= 3


def status(lab: str) -> Any:
    return vlab("status", lab, "-o", "json", check=False).json()


def lives(lab: str, *, without: str = "") -> dict[str, str]:
    """Node → libvirt's id of its domain, which another start never has again. (A restored guest's own signs of life are its golden's.)"""
    drivers = ("qemu:///system", "lxc:///system")
    nodes = [node["name"] for node in status(lab)["nodes"] if node["name"] != without]
    found = {
        n: "".join(host("virsh", "-q", "-c", uri, "domid", f"vlab-{lab}.{n}").strip() for uri in drivers) for n in nodes
    }
    assert all(life.isdigit() for life in found.values()), found
    return found


def real_servers(lab: str, service: str) -> dict[str, dict[str, Any]]:
    """Node → its row of ``status``."""
    found = next(s for s in status(lab)["services"] if s["name"] == service)
    return {server["node"]: server for server in found["real_servers"]}


def eventually(what: str, probe: Callable[[], bool], within: float, every: float = 0.3) -> float:
    """Seconds until ``probe`` holds, asked each ``every`` seconds; fails the test after ``within``."""
    began = time.monotonic()
    while time.monotonic() - began < within:
        if probe():
            return time.monotonic() - began
        time.sleep(every)
    raise AssertionError(f"not within {within} s: {what}")


def traces(lab: str) -> list[str]:
    """Everything on this host that still speaks of the lab."""
    seen = {
        "qemu domain": host("virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name"),
        "lxc domain": host("virsh", "-q", "-c", "lxc:///system", "list", "--all", "--name"),
        "namespace": host("ip", "netns", "list"),
        "mount": _mounts(),
        "process": host("ps", "-eo", "args"),
        "folder": "\n".join(str(path) for path in STATE.glob("labs/*")),
    }
    marks = (f"vlab-{lab}.", f"vlab-{lab} ", f"vlab-{lab}\n", f"/labs/{lab}/", f"/labs/{lab}\n")
    found = [
        f"{kind}: {line}"
        for kind, text in seen.items()
        for line in text.splitlines()
        if any(m in f"{line}\n" for m in marks)
    ]
    return found + root_links()


def root_links() -> list[str]:
    """Devices of ours in the host's own namespace, by mark or by name."""
    links = json.loads(host("ip", "-j", "link") or "[]")
    return [f"link: {link['ifname']}" for link in links if str(link.get("ifalias", "")).startswith("vlab:")]


def _mounts() -> str:
    """Mounts as we and as libvirtd see them."""
    pid = Path("/run/libvirtd.pid")
    tables = ["/proc/self/mountinfo", *([f"/proc/{pid.read_text().strip()}/mountinfo"] if pid.is_file() else [])]
    return "\n".join(Path(table).read_text() for table in tables if Path(table).exists())


def edited(source: Path, target: Path, *changes: tuple[str, str]) -> Path:
    """A copy of a topology with some text replaced; each change must hit."""
    text = source.read_text()
    for old, new in changes:
        assert old in text, f"{source.name} has no {old!r}"
        text = text.replace(old, new)
    target.write_text(text)
    return target
