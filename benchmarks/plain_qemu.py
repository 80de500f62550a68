"""The floor of a cold start: VMs started by hand with plain QEMU commands until their agents answer.

No libvirt and nothing of vlab but the built images: one overlay and one ``qemu-system-x86_64`` a guest, the agent asked over its
own unix socket. The guests have no NICs.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from benchmarks.crowd import answer
from vlab.images.artifact import Artifact

_ACCELERATED = {
    "tcg": ["-accel", "tcg,tb-size=64", "-cpu", "qemu64"],
    "kvm": ["-accel", "kvm", "-cpu", "host"],
}


@dataclass
class PlainQemu:
    """One guest. ``memory`` in MiB; ``folder`` is for its disk and sockets."""

    name: str
    artifact: Artifact
    memory: int
    cpus: int
    accel: str
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self, stop: Event) -> None:
        self.folder.mkdir(parents=True)
        backing = ["-b", str(self.artifact.disk), "-F", "qcow2"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(self._disk)], check=True)
        # A group of its own: Ctrl-C on the terminal is ours to handle. It dies with this thread, so also with a benchmark that is killed.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *argv(self)]
        self.process = subprocess.Popen(command, process_group=0, stderr=subprocess.PIPE)
        answer(self.name, self._answers, stop, 0.1)

    def end(self) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None

    @property
    def _disk(self) -> Path:
        return self.folder / "disk.qcow2"

    @property
    def agent(self) -> Path:
        return self.folder / "agent"

    def _answers(self) -> bool:
        assert self.process, "it is asked after its start"
        if (code := self.process.poll()) is not None:
            words = self.process.communicate()[1].decode(errors="replace").strip()
            raise RuntimeError(f"{self.name}: QEMU ended with {code}: {words}")
        return _pinged(self.agent)


def argv(vm: PlainQemu) -> list[str]:
    return [
        "qemu-system-x86_64", *_ACCELERATED[vm.accel],
        "-M", "q35,usb=off,vmport=off", "-m", str(vm.memory), "-smp", str(vm.cpus), "-nodefaults", "-display", "none",
        "-kernel", str(vm.artifact.kernel), "-initrd", str(vm.artifact.initrd), "-append", vm.artifact.cmdline,
        "-drive", f"if=virtio,format=qcow2,cache=unsafe,file={vm.folder / 'disk.qcow2'}",
        "-serial", f"file:{vm.folder / 'console'}",
        "-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={vm.agent},server=on,wait=off",
        "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
    ]  # fmt: skip


def _pinged(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as agent, contextlib.suppress(OSError, ValueError, IndexError):
        agent.settimeout(0.5)
        agent.connect(str(path))
        agent.sendall(b'{"execute": "guest-ping"}\n')
        return "return" in json.loads(agent.recv(4096).splitlines()[0])
    return False
