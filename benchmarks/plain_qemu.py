"""The floor: the lab's VMs started by hand with plain QEMU commands, timed until their agents answer.

No libvirt and nothing of vlab but the built images: one overlay and one ``qemu-system-x86_64`` a guest, the agent asked over its
own unix socket.
"""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vlab.images.artifact import Artifact

DEADLINE = 300.0


@dataclass(frozen=True)
class Vm:
    """``memory`` in MiB."""

    name: str
    artifact: Artifact
    memory: int


def argv(vm: Vm, folder: Path) -> list[str]:
    disk, agent = folder / f"{vm.name}.qcow2", folder / f"{vm.name}.agent"
    return [
        "qemu-system-x86_64", "-accel", "tcg,tb-size=64",
        "-M", "q35,usb=off,vmport=off", "-cpu", "qemu64", "-m", str(vm.memory), "-smp", "1", "-nodefaults", "-display", "none",
        "-kernel", str(vm.artifact.kernel), "-initrd", str(vm.artifact.initrd), "-append", vm.artifact.cmdline,
        "-drive", f"if=virtio,format=qcow2,cache=unsafe,file={disk}",
        "-serial", f"file:{folder / vm.name}.console",
        "-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={agent},server=on,wait=off",
        "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
    ]  # fmt: skip


@contextmanager
def booted(vm: Vm, folder: Path) -> Iterator[None]:
    """The guest for the length of a block, from its agent's first answer on."""
    overlay = folder / f"{vm.name}.qcow2"
    backing = ["-b", str(vm.artifact.disk), "-F", "qcow2"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(overlay)], check=True)
    with subprocess.Popen(argv(vm, folder)) as process:
        try:
            _wait_for_agent(folder / f"{vm.name}.agent", process)
            yield
        finally:
            process.kill()


def _wait_for_agent(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(path):
            return
        time.sleep(0.1)
    raise TimeoutError(f"{path.stem} did not answer within {DEADLINE:.0f} s (exit code {process.poll()})")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(0.5)
        try:
            agent.connect(str(path))
            agent.sendall(b'{"execute": "guest-ping"}\n')
            return "return" in json.loads(agent.recv(4096).splitlines()[0])
        except (OSError, ValueError, IndexError):
            return False


def seconds(vms: list[Vm], at_once: int) -> float:
    """From the first command to the last agent's answer, at most ``at_once`` booting at a time; all stay up until the end."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vlab-floor-") as folder, ThreadPoolExecutor(at_once) as pool:
        keepers = [booted(vm, Path(folder)) for vm in vms]
        try:
            list(pool.map(lambda keeper: keeper.__enter__(), keepers))
            return time.monotonic() - began
        finally:
            for keeper in keepers:
                keeper.__exit__(None, None, None)
