"""Labs of restored machines. Every shape here has a memory size of its own, so that nobody else's goldens are harmed."""

from pathlib import Path

import pytest

from tests.live.harness import STATE, eventually, host, vlab
from vlab.images.goldens import Golden, Goldens

pytestmark = pytest.mark.live
GOLDENS = Goldens(STATE / "goldens")
EIGHT = 8
NAMES = [f"box{number}" for number in range(1, EIGHT + 1)]
CLOCK = 2.0
"""Seconds that a guest's clock may differ from the host's; asking alone takes some tenths."""

MEMORY = {
    "eight": 128,
    "emulated": 264,
    "db": 272,
    "damage": 200,
    "cold": 208,
    "killed": 216,
    "ctrl-c": 224,
    "both": 232,
}
"""MiB by test."""

TOPOLOGY = """
vlab: 1
name: warm
networks: {{net: {{subnet: 10.9.0.0/24}}}}
groups:
  box: {{count: {count}, virt: {virt}, image: {image}, networks: [net], memory: {memory} MiB}}
  client: {{virt: container, image: client, networks: [net], memory: 192 MiB}}
directors:
  lvs:
    networks: [net]
    services:
      it: {{vip: 10.9.0.200, port: {port}, mode: dr, scheduler: rr, real_servers: box, check: tcp}}
"""
PORTS = {"web": 80, "db": 3306}


def topology(folder: Path, test: str, *, count: int = 1, virt: str = "para", image: str = "web") -> Path:
    file = folder / "warm.yaml"
    words = {"count": count, "virt": virt, "image": image, "memory": MEMORY[test], "port": PORTS[image]}
    file.write_text(TOPOLOGY.format(**words))
    return file


def golden(test: str) -> Golden | None:
    """The golden of a test's shape."""
    wanted = str(MEMORY[test] << 20)
    return next((found for found in GOLDENS.all() if found.facts["memory"] == wanted), None)


def forget(*tests: str) -> None:
    """Remove the goldens of these tests, of all without a word."""
    sizes = {str(MEMORY[test] << 20) for test in tests or MEMORY}
    for found in GOLDENS.all():
        if found.facts["memory"] in sizes:
            GOLDENS.remove(found.name)


def in_each(lab: str, script: str) -> dict[str, list[str]]:
    """What a shell script prints in each guest, by its name."""
    said: dict[str, list[str]] = {}
    for line in vlab("exec", "--lab", lab, "--group", "box", "--", "sh", "-c", script).out.splitlines():
        name, _, text = line.partition(": ")
        said.setdefault(name, []).append(text)
    return said


def inside(lab: str, *command: str) -> str:
    return vlab("exec", f"{lab}/box1", "--", *command).out.strip()


def domain(lab: str, node: str, what: str) -> str:
    return host("virsh", "-q", "-c", "qemu:///system", what, f"vlab-{lab}.{node}").strip()


def stand_ins(test: str) -> list[str]:
    """Domains from which a golden of a test's shape is being made."""
    names = host("virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name").split()
    memory = f"{MEMORY[test] << 10} KiB"
    return [n for n in names if n.startswith("vlab-_golden.") and memory in domain("_golden", n[13:], "dominfo")]


def rebooted(lab: str) -> float:
    """Reboot box1 from within; seconds until it answers in its new life."""
    life = inside(lab, "cat", "/proc/sys/kernel/random/boot_id")
    vlab("exec", f"{lab}/box1", "--", "systemctl", "--no-block", "reboot", check=False)

    def again() -> bool:
        ran = vlab("exec", f"{lab}/box1", "--", "cat", "/proc/sys/kernel/random/boot_id", check=False, timeout=120)
        return ran.code == 0 and ran.out.strip() not in ("", life)

    return eventually("box1 is back", again, 240)
