"""The three forms an image is built into, as data: which kernel, which command line, with a boot loader or without. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from vlab.images.artifact import Form
from vlab.images.kernel import CLOUD, GENERIC, Flavour

# For an emulated CPU: noreplace-smp saves the 0.3 s in which the kernel patches itself, tsc=reliable and no_timer_check skip
# calibration loops, mitigations cost and protect nothing here. random.trust_cpu lets the random generator start at once.
# panic=-1 resets the guest instead of leaving it hanging.
_COMMON = (
    "rootfstype=ext4 rw console=ttyS0 net.ifnames=0 quiet loglevel=3 systemd.show_status=0 systemd.firstboot=off "
    "mitigations=off no_timer_check tsc=reliable random.trust_cpu=on cryptomgr.notests rcupdate.rcu_expedited=1 "
    "memhp_default_state=online audit=0 selinux=0 apparmor=0 panic=-1 noreplace-smp"
)


@dataclass(frozen=True, slots=True)
class FormSpec:
    """``flavour`` is None for containers, which boot no kernel."""

    name: Form
    flavour: Flavour | None = None
    cmdline: str = ""
    bootloader: bool = False


FORMS: dict[Form, FormSpec] = {
    "rootfs": FormSpec("rootfs"),
    "direct": FormSpec("direct", CLOUD, f"root=/dev/vda {_COMMON}"),
    "disk": FormSpec("disk", GENERIC, f"root=/dev/sda1 {_COMMON}", bootloader=True),
}
