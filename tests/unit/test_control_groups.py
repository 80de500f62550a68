"""Which control groups a command run inside a container joins."""

from __future__ import annotations

from pathlib import Path

from vlab.guests.namespaces import control_groups


def test_only_hierarchies_that_the_host_has_mounted(tmp_path: Path) -> None:
    for group in ("memory/machine/box", "systemd/machine/box/init.scope"):
        (tmp_path / group).mkdir(parents=True)
        (tmp_path / group / "cgroup.procs").touch()
    membership = "4:memory:/machine/box\n3:cpuset:/machine/box\n1:name=systemd:/machine/box/init.scope\n0::/\n"
    assert control_groups(membership, tmp_path) == [
        str(tmp_path / "memory/machine/box/cgroup.procs"),
        str(tmp_path / "systemd/machine/box/init.scope/cgroup.procs"),
    ]


def test_the_unified_hierarchy_is_the_root_itself(tmp_path: Path) -> None:
    (tmp_path / "machine.slice/box").mkdir(parents=True)
    (tmp_path / "machine.slice/box/cgroup.procs").touch()
    assert control_groups("0::/machine.slice/box\n", tmp_path) == [str(tmp_path / "machine.slice/box/cgroup.procs")]
