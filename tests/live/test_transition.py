"""Transitions in a real network namespace: going from one settings to another leaves what the other alone would have made."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import permutations
from typing import Any

import pytest

from vlab.guests import transition
from vlab.guests.settings import Address, File, Link, Route, Settings, Sysctl, Unit
from vlab.run import run

# A machine of its own as far as the scripts reach: two Ethernet interfaces in the wrong order, /etc that goes away.
MACHINE = """
set -eu
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir /run/t /run/t/upper /run/t/work /run/t/bin
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/t/upper,workdir=/run/t/work /etc
ip link set lo up
ip link add eth0 address 52:54:00:00:00:02 type veth peer name far0
ip link add eth1 address 52:54:00:00:00:01 type veth peer name far1
ip link set far0 up
ip link set far1 up
"""
SEEN = """
ip -j address
echo ======
ip -j route
echo ======
grep -H . /proc/sys/net/ipv4/conf/*/arp_ignore /proc/sys/net/ipv4/conf/*/arp_announce /proc/sys/net/ipv4/ip_forward \\
  /proc/sys/net/ipv4/conf/*/rp_filter
echo ======
cat /etc/vlab/settings.json /etc/vlab/apply.sh /etc/hostname /etc/machine-id
hostname
find /etc/t -type f | sort | xargs -r tail -n +1
"""

ALONE = ["unshare", "--net", "--mount", "--uts", "--", "sh", "-s"]

FRONT = Link("eth0", "52:54:00:00:00:01", 1500)
BACK = Link("eth1", "52:54:00:00:00:02", 1600)
OWN = (Address("eth0", IPv4Interface("10.20.0.11/24")), Address("eth1", IPv4Interface("10.30.0.11/24")))
VIP = Address("lo", IPv4Interface("10.20.0.100/32"))
ANYWHERE = IPv4Network("0.0.0.0/0")


def sysctl(key: str, value: str, default: str = "0") -> Sysctl:
    return Sysctl(f"net/ipv4/{key}", value, default)


BARE = Settings("web1", "1" * 32, (FRONT, BACK), addresses=OWN)
NAT = replace(BARE, routes=(Route(ANYWHERE, IPv4Address("10.30.0.1"), "eth1"),), files=(File("/etc/t/nat", "n"),))
DR = replace(
    BARE,
    sysctls=(sysctl("conf/all/arp_ignore", "1"), sysctl("conf/eth0/arp_announce", "2"), sysctl("conf/eth1/rp_filter", "2")),
    addresses=(*OWN, VIP),
    routes=(Route(ANYWHERE, IPv4Address("10.20.0.1"), "eth0", advmss=1440), Route(IPv4Network("10.99.0.0/16"), IPv4Address("0.0.0.0"), "eth1")),
    files=(File("/etc/t/deep/dr", "it's $HOME\n", 0o600),),
)  # fmt: skip
MOVED = replace(
    DR,
    links=(FRONT, replace(BACK, mtu=1400)),
    addresses=(Address("eth0", IPv4Interface("10.20.0.12/24")), OWN[0], OWN[1], Address("lo", IPv4Interface("10.20.0.101/32"))),
    sysctls=(sysctl("ip_forward", "1"),),
)  # fmt: skip
SWAPPED = replace(DR, hostname="web2", links=(replace(FRONT, mac=BACK.mac), replace(BACK, mac=FRONT.mac)))
ALL = {"bare": BARE, "nat": NAT, "dr": DR, "moved": MOVED, "swapped": SWAPPED}


@dataclass(frozen=True)
class Machine:
    """What is there after scripts have run: two of ``ip``'s tables, sysctls, and files."""

    addresses: Any
    routes: Any
    sysctls: str
    files: str


def machine(*scripts: str) -> Machine:
    """Run scripts, one after another, on a fresh machine."""
    steps = "".join(f"sh <<'STEP{i}'\n{script}\nSTEP{i}\n" for i, script in enumerate(scripts))
    addresses, routes, sysctls, files = run(ALONE, input=f"{MACHINE}{steps}{SEEN}".encode()).text.split("======\n")
    return Machine(_settled(json.loads(addresses)), _settled(json.loads(routes)), sysctls, files)


def _settled(value: Any) -> Any:
    """Without what differs from run to run: indexes, link-local addresses, times, and the far ends."""
    if isinstance(value, list):
        return [
            _settled(v)
            for v in value
            if not (isinstance(v, dict) and ("far" in v.get("ifname", "") or v.get("family") == "inet6"))
        ]
    if isinstance(value, dict):
        volatile = ("ifindex", "link", "link_index", "valid_life_time", "preferred_life_time", "operstate", "txqlen")
        return {k: _settled(v) for k, v in sorted(value.items()) if k not in volatile}
    return value


@pytest.fixture(scope="module")
def fresh() -> dict[str, Machine]:
    return {name: machine(transition.script(None, wanted)) for name, wanted in ALL.items()}


def test_names_follow_macs(fresh: dict[str, Machine]) -> None:
    dr = fresh["dr"]
    assert {d["ifname"]: d["address"] for d in dr.addresses if d["ifname"] != "lo"} == {
        "eth0": FRONT.mac,
        "eth1": BACK.mac,
    }
    assert next(r for r in dr.routes if r["dst"] == "default")["metrics"] == [{"advmss": 1440}]
    assert "/proc/sys/net/ipv4/conf/all/arp_ignore:1" in dr.sysctls
    assert "it's $HOME" in dr.files


@pytest.mark.parametrize(("one", "two"), list(permutations(ALL, 2)))
def test_going_from_one_to_the_other_is_like_starting_there(one: str, two: str, fresh: dict[str, Machine]) -> None:
    found = machine(transition.script(None, ALL[one]), transition.script(ALL[one], ALL[two]))
    assert found == fresh[two]


@pytest.mark.parametrize("name", ALL)
def test_a_script_may_run_again(name: str, fresh: dict[str, Machine]) -> None:
    first, change = transition.script(None, ALL[name]), transition.script(ALL[name], DR)
    assert machine(first, first) == fresh[name]
    assert machine(first, change, change) == fresh["dr"]


def test_an_interrupted_script_is_finished_by_the_next_run(fresh: dict[str, Machine]) -> None:
    change = transition.script(DR, MOVED)
    broken = change.replace("ip -batch -", "exit 0; ip -batch -")
    assert machine(transition.script(None, DR), broken, change) == fresh["moved"]


def test_one_cut_off_in_the_middle_of_what_goes_and_comes_is_finished_by_the_next_run(
    fresh: dict[str, Machine],
) -> None:
    first, change = transition.script(None, DR), transition.script(DR, NAT)
    cut = change.replace("link set dev eth0 mtu", "address add nonsense\nlink set dev eth0 mtu", 1)
    assert cut != change
    half = f"sh <<'CUT' && exit 1\n{cut.partition('[ -d ')[0]}}}\nvlab_settle </dev/null\nCUT\n:"
    assert machine(first, half, change) == fresh["nat"]


def test_what_is_gone_already_is_no_error_and_what_cannot_be_made_is() -> None:
    change = transition.script(DR, NAT)
    gone = "ip address del 10.20.0.100/32 dev lo; ip route del default"
    for script, code in ((change, 0), (change.replace("replace 10.20.0.11/24", "replace 10.20.0.11/99"), 1)):
        text = f"{MACHINE}\nsh <<'ONE' && {gone}\n{transition.script(None, DR)}\nONE\n{script}"
        done = run(ALONE, input=text.encode(), check=False)
        assert (done.code, "10.20.0.11/99" in done.error_text) == (code, bool(code)), done.error_text


def test_the_boot_script_makes_the_network_again(fresh: dict[str, Machine]) -> None:
    again = machine("mkdir /etc/vlab; touch /etc/vlab/settings.json /etc/vlab/apply.sh", transition.boot_script(DR))
    assert replace(again, files="") == replace(fresh["dr"], files="")


def test_a_failing_unit_fails_the_script() -> None:
    settings = replace(BARE, units=(Unit("no-such-unit.service"),))
    text = transition.script(None, settings)
    result = run(
        ["unshare", "--net", "--mount", "--uts", "--", "sh", "-s"], input=f"{MACHINE}\n{text}".encode(), check=False
    )
    assert result.code


def test_a_boot_script_that_fails_says_so_and_the_whole_script_makes_it_good(fresh: dict[str, Machine]) -> None:
    impossible = replace(DR, sysctls=(*DR.sysctls, sysctl("conf/eth7/rp_filter", "0")))
    boot = f"sh <<'BOOT' || cp {transition.SETTLED_FILE} /etc/said\n{transition.boot_script(impossible)}\nBOOT"
    half = "mkdir -p /etc/vlab; touch /etc/vlab/settings.json /etc/vlab/apply.sh"
    look = '[ "$(cat /etc/said)" = failed ] && rm /etc/said && [ ! -e /etc/t/deep/dr ]'
    assert machine(half, boot, look, transition.script(None, DR)) == fresh["dr"]
