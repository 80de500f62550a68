"""Guests are what the file says: own identity, real limits, reachable without a network, and two labs with the same addresses."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.live.harness import TOPOLOGIES, running, status, traces, verify, vlab

pytestmark = pytest.mark.live

LABS = ("t-left", "t-right")
FILE = TOPOLOGIES / "dr.yaml"


@pytest.fixture(scope="module")
def labs() -> Iterator[tuple[str, str]]:
    """Two copies of dr.yaml, same addresses, at once."""
    with running(FILE, LABS[0], "--no-verify"), running(FILE, LABS[1], "--no-verify"):
        yield LABS
    assert traces(LABS[0]) + traces(LABS[1]) == []


def inside(lab: str, node: str, *command: str) -> str:
    return vlab("exec", f"{lab}/{node}", "--", *command).out.strip()


def nodes(lab: str) -> list[str]:
    return [node["name"] for node in status(lab)["nodes"]]


def test_two_copies_with_the_same_addresses_verify_at_once(labs: tuple[str, str]) -> None:
    left, right = (status(lab) for lab in labs)
    assert [n["addresses"] for n in left["nodes"]] == [n["addresses"] for n in right["nodes"]]
    with ThreadPoolExecutor(len(labs)) as pool:
        list(pool.map(verify, labs))


@pytest.mark.parametrize(
    "command",
    [
        ("cat", "/etc/machine-id"),
        ("cat", "/sys/class/net/eth0/address"),
        ("ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key"),
    ],
    ids=["machine-id", "mac", "host-key"],
)
def test_every_clone_has_its_own(command: tuple[str, ...], labs: tuple[str, str]) -> None:
    found = [inside(lab, node, *command).split()[:2] for lab in labs for node in nodes(lab)]
    assert len(found) == len({tuple(f) for f in found})


def test_guests_know_their_own_and_each_others_names(labs: tuple[str, str]) -> None:
    for node in nodes(labs[0]):
        assert inside(labs[0], node, "hostname") == node
    known = inside(labs[0], "client1", "getent", "hosts", *nodes(labs[0]))
    assert {line.split()[1] for line in known.splitlines()} == set(nodes(labs[0]))


def test_put_get_and_exit_codes_need_no_network(labs: tuple[str, str], tmp_path: Path) -> None:
    payload = bytes(range(256)) * 4096
    (tmp_path / "up").write_bytes(payload)
    for node in ("lvs1", "client1"):
        vlab("put", f"{labs[0]}/{node}", str(tmp_path / "up"), "/root/payload")
        vlab("get", f"{labs[0]}/{node}", "/root/payload", str(tmp_path / node))
        assert (tmp_path / node).read_bytes() == payload
        assert vlab("exec", f"{labs[0]}/{node}", "--", "sh", "-c", "exit 7", check=False).code == 7


def test_exec_on_a_group_labels_each_line(labs: tuple[str, str]) -> None:
    group = [n["name"] for n in status(labs[0])["nodes"] if n["group"] == "web"]
    ran = vlab("exec", "--lab", labs[0], "--group", "web", "--", "hostname")
    assert ran.out.splitlines() == [f"{name}: {name}" for name in sorted(group)]


@pytest.mark.usefixtures("labs")
def test_a_node_in_two_labs_must_be_named_with_its_lab() -> None:
    ran = vlab("exec", "client1", "--", "true", check=False)
    assert ran.code == 2
    assert "t-left/client1" in ran.err


def test_ssh_with_the_host_key_checked(labs: tuple[str, str]) -> None:
    for node in ("lvs1", "client1"):
        assert vlab("ssh", f"{labs[1]}/{node}", "--", "hostname").out.strip() == node


def test_logs_show_the_guests_journal(labs: tuple[str, str]) -> None:
    assert "systemd" in vlab("logs", f"{labs[0]}/lvs1", "-n", "500").out


LIMITED = """
vlab: 1
name: limits
networks: {net: {subnet: 10.9.0.0/24}}
groups:
  box: {count: 2, virt: container, image: base, networks: [net], memory: 96 MiB, cpus: 1, cpu_quota: 0.5, cpu_shares: 512,
        nodes: {box2: {memory: 128 MiB}}}
  vm: {virt: para, image: base, networks: [net], memory: 192 MiB, cpus: 2}
"""


def test_memory_and_cpu_limits_really_apply(tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(LIMITED)
    with running(file, "t-limits"):
        total = int(inside("t-limits", "vm1", "awk", "/MemTotal/ {print $2}", "/proc/meminfo"))
        assert 120 * 1024 < total < 192 * 1024
        assert inside("t-limits", "vm1", "nproc") == "2"
        hog = ("timeout", "20", "sh", "-c", "head -c 300m /dev/zero | tail | wc -c")
        assert vlab("exec", "t-limits/box1", "--", *hog, check=False).out.strip() != str(300 << 20), (
            "300 MiB fitted into 96 MiB"
        )
        assert _cpu_share("t-limits/box1") < 0.65
    assert traces("t-limits") == []


def _cpu_share(node: str) -> float:
    """CPU seconds that a busy loop got, by wall second."""
    script = "s=$(date +%s%N); timeout 4 sh -c 'while :; do :; done'; e=$(date +%s%N); times | tail -1; echo $((e-s))"
    lines = vlab("exec", node, "--", "bash", "-c", script).out.split()
    used = sum(int(t.split("m")[0]) * 60 + float(t.split("m")[1].rstrip("s")) for t in lines[:2])
    return used / (int(lines[2]) / 1e9)
