"""Does KVM really work here? ``/dev/kvm`` may open and a guest still hang at its first instruction, so the only safe answer
is to boot the lab's kernel under KVM and wait for its user space.

Asked by the engine once before the first domain that wants KVM; the answer is kept in the state folder for as long as host boot,
host kernel, QEMU and the lab's kernel are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from vlab.run import Watched, run_until

DEVICE = Path("/dev/kvm")
QEMU = "qemu-system-x86_64"
BOOT_SECONDS = 8.0
MARKER = b"Run /init as init process"
"""The kernel's last words before user space: decompression, memory, timers and the other devices have worked."""

Name = Literal["kvm", "tcg"]
NAMES: dict[str, Name] = {"kvm": "kvm", "tcg": "tcg"}


@dataclass(frozen=True, slots=True)
class Accel:
    """``name`` is what guests that want KVM get; ``why`` is one sentence for reports."""

    name: Name
    why: str


def without_booting(cache: Path) -> Accel | None:
    """The answer as far as it is known without a boot, None when only a boot can tell. ``cache`` is the state folder."""
    refused = _device_refuses(DEVICE)
    if refused:
        return Accel("tcg", refused)
    return recall(_file(cache), _host_key())


def accelerator(kernel: Path | None, initrd: Path | None, cache: Path) -> Accel:
    """The answer, by booting ``kernel`` with ``initrd`` under KVM for at most ``BOOT_SECONDS`` unless it is known already."""
    refused = _device_refuses(DEVICE)
    if refused or kernel is None or initrd is None:
        return Accel("tcg", refused or "there is no kernel to try KVM with")
    key = {**_host_key(), "kernel": _digest(kernel)}
    known = recall(_file(cache), key)
    if known is not None:
        return known
    answer = judge(run_until(command(kernel, initrd), MARKER, BOOT_SECONDS))
    remember(_file(cache), key, answer)
    return answer


def command(kernel: Path, initrd: Path) -> list[str]:
    """The QEMU command line of the trial boot: no disk, no network, its console on standard output."""
    return [
        QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
        "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "512",
        "-kernel", str(kernel), "-initrd", str(initrd),
        "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1 rdinit=/init",
    ]  # fmt: skip


def judge(seen: Watched) -> Accel:
    """From what the trial boot showed to the accelerator."""
    if seen.found:
        return Accel("kvm", "KVM works: the lab's kernel boots under it")
    last = _last_line(seen.output)
    if seen.ended:
        return Accel("tcg", f"KVM does not work: QEMU ended {f'with «{last}»' if last else 'without a word'}")
    after = f"after «{last}»" if last else "before its first word"
    return Accel("tcg", f"/dev/kvm opens but KVM does not work: a guest hangs {after} for {BOOT_SECONDS:.0f} s")


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return textwrap.shorten(lines[-1].rpartition("/")[2], 100, placeholder=" …") if lines else ""


def _device_refuses(device: Path) -> str:
    """Why ``device`` cannot even be opened; empty when it can."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"{device} is not there: no virtualisation in CPU or firmware, or its module is not loaded"
    except OSError as error:
        return f"{device} cannot be opened: {error.strerror}"
    return ""


def _host_key() -> dict[str, str]:
    """What may change the answer: this boot of the host, its kernel, its QEMU."""
    qemu = shutil.which(QEMU)
    build = Path(qemu).stat() if qemu else None
    return {
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "host": platform.release(),
        "qemu": f"{build.st_size}-{build.st_mtime_ns}" if build else "",
    }


def _digest(kernel: Path) -> str:
    with kernel.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(cache: Path) -> Path:
    return cache / "accelerator.json"


def recall(file: Path, key: Mapping[str, str]) -> Accel | None:
    """The kept answer when everything in ``key`` is as it was then."""
    try:
        kept = json.loads(file.read_text())
        if any(kept["key"].get(name) != value for name, value in key.items()):
            return None
        return Accel(NAMES[kept["name"]], kept["why"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # none kept, or damaged: a boot makes it anew


def remember(file: Path, key: Mapping[str, str], answer: Accel) -> None:
    """Keep an answer, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"key": dict(key), **asdict(answer)}, indent=1) + "\n")
    fresh.replace(file)
