"""``bootstrap`` starts libvirt where no systemd does it: in a world of its own (mounts and processes), so that this host's
daemons notice nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
WORLD = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--"]
EMPTY = """
for folder in /run /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do mount -t tmpfs none "$folder"; done
install -d -o libvirt-qemu -g libvirt-qemu /var/lib/libvirt/qemu
count() { ps -e -o stat=,comm= | grep -v ^Z | grep -c " $1$"; }
answers() { virsh -c qemu:///system version >/dev/null && virsh -c lxc:///system version >/dev/null; }
"""
START_TWICE_AT_ONCE = """
./bootstrap --host-part & first=$!
./bootstrap --host-part && wait $first
answers && echo "$(count virtlogd) virtlogd, $(count libvirtd) libvirtd"
"""
DIE_AND_COME_BACK = """
./bootstrap --host-part && kill -9 "$(cat /run/libvirtd.pid)" "$(cat /run/virtlogd.pid)"
./bootstrap --host-part && answers && echo "$(count virtlogd) virtlogd, $(count libvirtd) libvirtd"
"""
CGROUPS = """
./bootstrap --host-part && grep -c "cgroup2 /sys/fs/cgroup/unified" "/proc/$(cat /run/libvirtd.pid)/mounts"
"""


@pytest.mark.parametrize("story", [START_TWICE_AT_ONCE, DIE_AND_COME_BACK], ids=["started twice at once", "killed"])
def test_one_daemon_of_each_answers(story: str) -> None:
    assert told(story) == "1 virtlogd, 1 libvirtd\n"


def test_libvirtd_sees_one_cgroup_version() -> None:
    assert told(CGROUPS) == "0\n"


def told(story: str) -> str:
    """What a shell script in the empty world prints. Its processes end with it."""
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd starts libvirt here")
    done = subprocess.run(
        [*WORLD, "sh", "-c", EMPTY + story], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    return done.stdout or done.stderr
