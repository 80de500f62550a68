"""What ``inspect`` reads in a real network namespace after the guests' own network script: nothing is booted, but it needs root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.unit import lvs_labs
from vlab.guests import network_script
from vlab.guests.settings import Settings
from vlab.guests.transition import NOTHING
from vlab.lvs import inspect
from vlab.lvs.settings import for_node
from vlab.run import run
from vlab.topology.lab import Lab

SETUP = """\
set -e
mount -t sysfs none /sys
ip link set lo up
count=0
for mac in $1; do
  ip link add "pre$count" address "$mac" type veth peer name "far$count"
  ip link set "far$count" up
  count=$((count + 1))
done
shift
"""


def inspected(wanted: Settings, *, before: str = "") -> inspect.Inside:
    """What ``inspect`` reads in a new network namespace after the guests' own network script has settled ``wanted`` there."""
    script = f'{SETUP}{network_script.setup(NOTHING, wanted)}{before}\nexec "$@"\n'
    macs = " ".join(link.mac for link in wanted.links)
    argv = ["unshare", "--net", "--mount", "sh", "-c", script, "sh", macs, *inspect.command(wanted)]
    done = run(argv, check=False)
    assert done.code == 0, done.error_text
    return inspect.parse(wanted, done.text)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lvs_labs.web_db, "web1"), (lvs_labs.web_db, "db1"), (lvs_labs.mixed, "web1"),
        (lvs_labs.dual_stack, "app1"), (lvs_labs.dual_stack, "edge1"), (lvs_labs.ipv6_keys, "app1"),
    ],
)  # fmt: skip
def test_settled_settings_show_no_difference_in_a_real_namespace(make: Callable[[], Lab], name: str) -> None:
    lab = make()
    wanted = for_node(lab, lab.node(name))
    assert inspect.differences(wanted, inspected(wanted)) == []


def test_smaller_segments_settle_beside_the_kernels_own_route() -> None:
    lab = lvs_labs.tunnel()
    wanted = for_node(lab, lab.node("web1"))
    reduced = replace(wanted, tunnels=(), sysctls=())  # this kernel may have no ipip
    assert inspect.differences(reduced, inspected(reduced)) == []


def test_each_thing_that_is_undone_in_a_real_namespace_is_named() -> None:
    lab = lvs_labs.mixed()
    wanted = for_node(lab, lab.node("web1"))
    undo = """
ip route del default
ip address del 10.30.0.200/32 dev lo
ip link set eth0 mtu 1400
echo 0 >/proc/sys/net/ipv4/conf/all/arp_announce
echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter
"""
    wrong = inspect.differences(wanted, inspected(wanted, before=undo))
    assert [text.partition(":")[0] for text in wrong] == [
        "net.ipv4.conf.all.rp_filter is 1, not 0",
        "net.ipv4.conf.all.arp_announce is 0, not 2",
        "net.ipv4.conf.eth0.rp_filter is 1, not 0",
        "lo lacks address 10.30.0.200/32",
        "no default route via 10.30.0.2 on eth0",
        "eth0 has MTU 1400, not 1500",
    ]
