"""Probes decide from data: files in a temporary tree, texts, modes. Nothing here needs the host to be in any state."""

from __future__ import annotations

import gzip
import os
import stat
import time
from pathlib import Path

import pytest

from vlab.errors import HostError
from vlab.host import accel, kernel, memory, probes
from vlab.host.access import User, closed_parent, configured, first_closed
from vlab.run import Watched, run_until

GIB = memory.GIB


# ---- kernel ----------------------------------------------------------------------------------------------------------


def a_kernel(root: Path, *, loads_modules: bool = True) -> kernel.Kernel:
    modules = root / "lib/modules/6.1"
    modules.mkdir(parents=True)
    (modules / "modules.builtin").write_text("kernel/net/bridge/bridge.ko\nkernel/net/ipv4/ip-gre.ko\n")
    (modules / "modules.dep").write_text(
        "kernel/net/ipv4/ipip.ko.xz: kernel/net/ipv4/tunnel4.ko.xz\nkernel/drivers/net/veth.ko:\n"
    )
    (root / "sys/module/tun").mkdir(parents=True)
    (root / "boot").mkdir()
    (root / "boot/config-6.1").write_text("CONFIG_OVERLAY_FS=y\nCONFIG_NET_SCH_NETEM=m\n# CONFIG_DUMMY is not set\n")
    return kernel.read(root, "6.1", loads_modules=loads_modules)


def test_a_feature_may_be_loaded_built_in_loadable_or_configured(tmp_path: Path) -> None:
    found = a_kernel(tmp_path)
    assert [name for name in ("tun", "bridge", "ip_gre", "ipip", "veth", "overlay") if not found.has(name)] == []


def test_a_module_that_is_configured_but_not_on_the_disk_is_missing(tmp_path: Path) -> None:
    found = a_kernel(tmp_path)
    assert not found.has("sch_netem")
    assert not found.has("dummy")


def test_nothing_is_loadable_without_modprobe(tmp_path: Path) -> None:
    found = a_kernel(tmp_path, loads_modules=False)
    assert not found.has("ipip")
    assert found.has("bridge")


def test_the_running_kernels_own_configuration_comes_first(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/config.gz").write_bytes(gzip.compress(b"CONFIG_NET_IPIP=y\n"))
    assert kernel.read(tmp_path, "6.1", loads_modules=False).has("ipip")


def test_a_host_that_shows_nothing_has_nothing(tmp_path: Path) -> None:
    assert not kernel.read(tmp_path, "6.1", loads_modules=True).has("bridge")


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_guests_that_fit_are_not_refused() -> None:
    assert memory.shortage([GIB, GIB], 3 * GIB) == []
    assert memory.shortage([], 0) == []


def test_guests_that_do_not_fit_are_refused_with_their_sum() -> None:
    assert memory.shortage([GIB, GIB // 2], GIB) == [
        "2 guests need 1.5 GiB of memory together, and the host has 1.0 GiB available, of which it keeps 256 MiB"
    ]
    assert memory.shortage([2 * GIB], GIB)[0].startswith("one guest needs 2.0 GiB of memory, and")


def test_the_host_tells_its_available_memory() -> None:
    assert memory.parse("MemTotal:  100 kB\nMemAvailable:    64 kB\n", "MemAvailable") == 65536
    assert memory.available() > 0


# ---- KVM -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "name", "why"),
    [
        (Watched(found=True, ended=False, output=accel.MARKER), "kvm", "boots under it"),
        (Watched(found=False, ended=False, output=b"x\nProbing EDD\n\n"), "tcg", "hangs after «Probing EDD» for 8 s"),
        (Watched(found=False, ended=False, output=b""), "tcg", "hangs before its first word"),
        (Watched(found=False, ended=True, output=b"qemu: no MSR\n"), "tcg", "QEMU ended with «qemu: no MSR»"),
        (Watched(found=False, ended=True, output=b""), "tcg", "QEMU ended without a word"),
    ],
)
def test_what_a_trial_boot_says(seen: Watched, name: str, why: str) -> None:
    answer = accel.judge(seen)
    assert answer.name == name
    assert why in answer.why


def test_an_answer_is_kept_until_what_it_rests_on_changes(tmp_path: Path) -> None:
    file, key = tmp_path / "state/accelerator.json", {"boot": "a", "host": "6.1", "qemu": "7", "kernel": "k"}
    answer = accel.Accel("kvm", "works")
    accel.remember(file, key, answer)
    assert accel.recall(file, key) == answer
    assert accel.recall(file, {"boot": "a", "host": "6.1"}) == answer
    assert accel.recall(file, {**key, "boot": "b"}) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"key": 1}', '{"key": {}, "name": "xen", "why": ""}'])
def test_a_damaged_answer_is_no_answer(tmp_path: Path, damage: str) -> None:
    (tmp_path / "a.json").write_text(damage)
    assert accel.recall(tmp_path / "a.json", {}) is None


@pytest.mark.parametrize(("mode", "trapped"), [(0o600, True), (0o640, True), (0o660, False), (0o666, False)])
def test_the_trap_of_a_device_that_only_root_may_open(tmp_path: Path, mode: int, trapped: bool) -> None:  # noqa: FBT001 - a table
    device = tmp_path / "kvm"
    device.touch()
    device.chmod(mode)
    found = device.stat()
    who = User("libvirt-qemu", found.st_uid + 1, frozenset({found.st_gid}))
    assert probes.stale_capabilities(found, who) is trapped


# ---- access ----------------------------------------------------------------------------------------------------------


def a_folder(mode: int, uid: int = 0, gid: int = 0) -> os.stat_result:
    return os.stat_result((stat.S_IFDIR | mode, 1, 1, 2, uid, gid, 4096, 0, 0, 0))


def test_the_topmost_closed_folder_is_named() -> None:
    qemu = User("libvirt-qemu", 64055, frozenset({107}))
    home, student, state = Path("/home"), Path("/home/student"), Path("/home/student/state")
    assert (
        first_closed(qemu, [(home, a_folder(0o755)), (student, a_folder(0o700)), (state, a_folder(0o700))]) == student
    )
    assert first_closed(qemu, [(home, a_folder(0o755)), (student, a_folder(0o711)), (state, a_folder(0o755))]) is None


def test_owner_group_and_others_are_looked_at_in_that_order() -> None:
    qemu = User("libvirt-qemu", 64055, frozenset({107}))
    assert not qemu.may(a_folder(0o077, uid=64055), stat.S_IXOTH)
    assert not qemu.may(a_folder(0o707, gid=107), stat.S_IXOTH)
    assert qemu.may(a_folder(0o010, gid=107), stat.S_IXOTH)


def test_a_way_that_ends_early_is_open_as_far_as_it_exists(tmp_path: Path) -> None:
    me = User("me", os.geteuid(), frozenset({os.getegid()}))
    assert closed_parent(me, tmp_path / "not/there") is None


def test_root_may_all() -> None:
    assert User("root", 0, frozenset()).may(Path("/").stat(), 0o7)


def test_the_user_of_qemu_conf() -> None:
    assert configured('# user = "qemu"\nuser = "+0"\n') == "0"
    assert configured('#user = "x"\n user="alice"\n') == "alice"
    assert configured("") == ""


def test_both_cgroup_versions_at_once() -> None:
    v1 = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"
    v2 = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    assert probes.both_cgroups(v1 + v2)
    assert not probes.both_cgroups(v1)
    assert not probes.both_cgroups("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")


# ---- all of them -----------------------------------------------------------------------------------------------------


def test_doctor_says_something_about_every_part_and_how_to_mend_it(tmp_path: Path) -> None:
    found = probes.doctor(tmp_path / "not/there")
    assert {"user", "kernel", "programs", "kvm", "kernel features", "memory", "disk"} <= {f.id for f in found}
    assert [f for f in found if f.level != "ok" and not f.fix] == []
    assert not (tmp_path / "not").exists()


# ---- watching a command ----------------------------------------------------------------------------------------------


def test_a_watched_command_is_killed_at_its_marker() -> None:
    began = time.monotonic()
    seen = run_until(["sh", "-c", "echo one; echo two >&2; exec sleep 60"], b"two", 30)
    assert seen.found
    assert not seen.ended
    assert time.monotonic() - began < 10


def test_a_watched_command_is_killed_at_its_deadline() -> None:
    seen = run_until(["sh", "-c", "echo one; exec sleep 60"], b"two", 0.5)
    assert seen == Watched(found=False, ended=False, output=b"one\n")


@pytest.mark.parametrize(
    "script", ["exec yes", "exec sleep 60 >&- 2>&-"], ids=["that never stops talking", "that closed its output"]
)
def test_a_watched_command_is_killed_in_any_case(script: str) -> None:
    began = time.monotonic()
    seen = run_until(["sh", "-c", script], b"never said", 0.5)
    assert not seen.found
    assert not seen.ended
    assert time.monotonic() - began < 5


def test_a_watched_command_may_end() -> None:
    assert run_until(["echo", "one"], b"two", 30) == Watched(found=False, ended=True, output=b"one\n")


def test_a_watched_command_that_is_not_there() -> None:
    with pytest.raises(HostError, match="no-such-program is not installed"):
        run_until(["no-such-program"], b"never said", 5)
