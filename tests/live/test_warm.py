"""Machines restored from a golden snapshot: each is one of its own."""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import STATE, host, running, traces, verify, vlab
from tests.live.warm import (
    CLOCK,
    EIGHT,
    NAMES,
    domain,
    forget,
    golden,
    in_each,
    inside,
    rebooted,
    topology,
)

pytestmark = pytest.mark.live


@pytest.fixture(scope="module", autouse=True)
def _goldens_go() -> Iterator[None]:
    yield
    forget()


# eight of one golden


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """Eight guests of one golden; the value is the first that anybody draws from each one's random generator."""
    with running(topology(tmp_path_factory.mktemp("eight"), "eight", count=EIGHT), "t-warm") as ran:
        assert "ensure-golden/web-" in ran.err
        assert all(f"restore/{name}: done" in ran.err for name in NAMES)
        yield in_each("t-warm", "head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \\n'; echo")
    assert traces("t-warm") == []


def test_no_two_draw_the_same_random_bytes(eight: dict[str, list[str]]) -> None:
    drawn = [lines[0] for lines in eight.values()]
    assert sorted(eight) == NAMES
    assert {len(digits) for digits in drawn} == {64}
    assert len(set(drawn)) == EIGHT
    pieces = [digits[at : at + 16] for digits in drawn for at in range(0, 64, 16)]
    assert len(set(pieces)) == len(pieces), "parts of what two guests drew are the same"


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    "command",
    [
        "cat /sys/class/net/eth0/address",
        "cat /etc/machine-id",
        "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key | cut -d' ' -f2",
        "hostname",
        "cat /etc/hostname",
        "ip -4 -br address show dev eth0",
        "cat /proc/sys/kernel/random/uuid",
    ],
)
def test_each_has_its_own(command: str) -> None:
    said = in_each("t-warm", command)
    values = [lines[0] for lines in said.values()]
    assert sorted(said) == NAMES
    assert "" not in values
    assert len(set(values)) == EIGHT, values


@pytest.mark.usefixtures("eight")
def test_each_is_what_the_file_and_libvirt_say() -> None:
    names = in_each("t-warm", "hostname; cat /etc/hostname; cat /etc/machine-id; cat /sys/class/net/eth0/address")
    for name, said in names.items():
        uuid = domain("t-warm", name, "domuuid")
        mac = re.search(r"52:54:00:[0-9a-f:]{8}", domain("t-warm", name, "domiflist"))
        assert mac is not None
        assert said == [name, name, uuid.replace("-", ""), mac.group()]
    assert len({domain("t-warm", name, "domuuid") for name in NAMES}) == EIGHT
    verify("t-warm")


@pytest.mark.usefixtures("eight")
def test_each_clock_is_the_hosts() -> None:
    for name in NAMES:
        before = time.time()
        said = float(vlab("exec", f"t-warm/{name}", "--", "date", "+%s.%N").out)
        assert before - CLOCK < said < time.time() + CLOCK, f"{name} is off by {said - before:.1f} s"


@pytest.mark.usefixtures("eight")
def test_each_keeps_a_journal_under_its_own_name() -> None:
    mine, first = "journalctl -q -t vlab-test -o cat", "journalctl -q -t systemd-journald -o cat"
    for name, said in in_each("t-warm", f"logger -t vlab-test it is $(hostname); sleep 1; {mine}; {first}").items():
        assert said[:2] == [f"it is {name}", "Journal started"], "what it said, and what the golden's boot did"


@pytest.mark.usefixtures("eight")
def test_no_disk_block_is_shared_that_anybody_can_write() -> None:
    own = [domain("t-warm", name, "domblklist").split()[-1] for name in NAMES]
    chains = [json.loads(host("qemu-img", "info", "-U", "--backing-chain", "--output=json", disk)) for disk in own]
    shared = {layer["filename"] for chain in chains for layer in chain[1:]}
    made = golden("eight")
    assert made is not None
    assert len(set(own)) == EIGHT
    assert str(made.disk) in shared
    assert not shared & set(own)
    assert {oct(Path(layer).stat().st_mode & 0o777) for layer in {str(made.disk)}} == {"0o444"}
    writable = [file for name in NAMES for file in _open_for_writing("t-warm", name)]
    assert len(writable) >= EIGHT, "QEMU holds its own disk open"
    assert len(set(writable)) == len(writable), "two guests can write one file"
    assert not [path for path in writable if path in shared]


def _open_for_writing(lab: str, node: str) -> set[str]:
    """Regular files that a guest's QEMU can write."""
    process = Path("/proc") / Path(f"/run/libvirt/qemu/vlab-{lab}.{node}.pid").read_text().strip()
    found = set()
    for descriptor in (process / "fd").iterdir():
        flags = int(re.findall(r"flags:\s+([0-7]+)", (process / "fdinfo" / descriptor.name).read_text())[0], 8)
        target = descriptor.readlink()
        if flags & os.O_ACCMODE and target.is_file():
            found.add(str(target))
    return found


@pytest.mark.usefixtures("eight")
def test_a_restored_guest_that_reboots_is_still_itself() -> None:
    facts = "hostname; cat /etc/machine-id; cat /sys/class/net/eth0/address; ip -4 -br address show dev eth0"
    before = inside("t-warm", "sh", "-c", facts)
    rebooted("t-warm")
    assert inside("t-warm", "sh", "-c", facts) == before
    verify("t-warm")
    assert vlab("plan", str(STATE / "labs/t-warm/topology.yaml"), "--as", "t-warm").code == 0


# other kinds and images


def test_an_emulated_guest_has_its_own_mac_before_and_after_a_reboot(tmp_path: Path) -> None:
    with running(topology(tmp_path, "emulated", count=2, virt="emulated"), "t-wemu") as ran:
        assert "restore/box1" in ran.err
        macs = _macs("t-wemu")
        assert in_each("t-wemu", "cat /sys/class/net/eth0/address; hostname") == {
            name: [mac, name] for name, mac in macs.items()
        }
        verify("t-wemu")
        rebooted("t-wemu")
        assert inside("t-wemu", "cat", "/sys/class/net/eth0/address") == macs["box1"]
        verify("t-wemu")
    assert traces("t-wemu") == []


def _macs(lab: str) -> dict[str, str]:
    return {name: domain(lab, name, "domiflist").split()[-1] for name in ("box1", "box2")}


def test_a_server_that_reads_the_host_name_at_its_start_knows_its_own(tmp_path: Path) -> None:
    with running(topology(tmp_path, "db", count=2, image="db"), "t-wdb") as ran:
        assert "restore/box1" in ran.err
        ask = "mariadb -h127.0.0.1 -ulab -plab -NBe 'SELECT @@hostname'"
        assert in_each("t-wdb", ask) == {"box1": ["box1"], "box2": ["box2"]}
        verify("t-wdb")


def test_cold_boots_without_a_golden(tmp_path: Path) -> None:
    with running(topology(tmp_path, "cold"), "t-wcold", "--cold") as ran:
        assert "boot/box1" in ran.err
        assert "golden" not in ran.err
        assert golden("cold") is None
        verify("t-wcold")
