"""Addresses, MACs and names: decided by the file alone, and they stay when the file grows."""

from __future__ import annotations

import re
import time
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.errors import UsageError
from vlab.topology import identity
from vlab.topology.addressing import complete
from vlab.topology.blocks import Seat, assign, block_size
from vlab.topology.lab import Lab
from vlab.topology.parse import Source, parse


def made(
    counts: dict[str, int],
    *,
    subnet: str = "10.30.0.0/24",
    extra: str = "",
    vips: tuple[str, ...] = (),
    name: str | None = None,
) -> Lab:
    """A lab of groups on one network, with a director when there are VIPs. ``extra`` goes into the first group."""
    groups = [
        f"  {group}: {{count: {count}, virt: container, image: web, networks: [back]" for group, count in counts.items()
    ]
    groups[0] += f", {extra}" if extra else ""
    services = [
        f"      s{n}: {{vip: {vip}, port: 80, mode: dr, real_servers: {next(iter(counts))}}}"
        for n, vip in enumerate(vips)
    ]
    directors = ["directors:", "  lvs:", "    networks: [back]", "    services:", *services] if vips else []
    lines = [
        "vlab: 1",
        "name: shop",
        "networks:",
        f"  back: {{subnet: {subnet}}}",
        "groups:",
        *(f"{g}}}" for g in groups),
        *directors,
    ]
    return complete(parse(Source("shop.yaml", "\n".join(lines))), name)


def addresses(lab: Lab) -> dict[str, str]:
    return {node.name: str(node.address("back")) for node in lab.nodes}


def test_the_scheme_in_a_small_network() -> None:
    found = addresses(made({"web": 3, "db": 2}, vips=("10.30.0.100",)))
    assert found == {
        "web1": "10.30.0.31",
        "web2": "10.30.0.32",
        "web3": "10.30.0.33",
        "db1": "10.30.0.61",
        "db2": "10.30.0.62",
        "lvs1": "10.30.0.1",
    }


def test_a_node_has_the_same_host_part_on_every_network() -> None:
    text = (
        "vlab: 1\nname: two\nnetworks: {a: {subnet: 10.1.0.0/24}, b: {subnet: 10.2.0.0/24}}\n"
        "groups:\n  x: {image: web, networks: [a]}\n  y: {image: web, networks: [b, a]}\n"
    )
    node = complete(parse(Source("two.yaml", text))).node("y1")
    assert [str(nic.address) for nic in node.nics] == ["10.2.0.61/24", "10.1.0.61/24"]
    assert [nic.altname for nic in node.nics] == ["y1.b", "y1.a"]


GROUPS = ["web", "db", "cache", "client", "probe"]


@given(st.lists(st.integers(1, 25), min_size=1, max_size=5), st.data())
def test_growing_a_group_moves_nobody(counts: list[int], data: st.DataObject) -> None:
    before = dict(zip(GROUPS, counts, strict=False))
    grown = data.draw(st.sampled_from(list(before)))
    after = {group: count + (group == grown) for group, count in before.items()}
    old, new = made(before), made(after)
    assert set(old.nodes) < set(new.nodes)


def test_a_group_more_at_the_end_moves_nobody() -> None:
    old, new = made({"web": 3, "db": 3}), made({"web": 3, "db": 3, "cache": 20})
    assert set(old.nodes) < set(new.nodes)


def test_a_vip_moves_only_the_node_that_has_its_address() -> None:
    old = made({"web": 5, "db": 5}, vips=("10.30.0.200",))
    new = made({"web": 5, "db": 5}, vips=("10.30.0.200", "10.30.0.33"))
    moved = {node.name for node in old.nodes} - {node.name for node in set(old.nodes) & set(new.nodes)}
    assert moved == {"web3"}


def test_pins_count_up_and_a_nodes_own_pin_wins() -> None:
    extra = "addresses: {back: 10.30.0.5}, nodes: {web2: {addresses: {back: 10.30.0.99}, macs: {back: 52-54-00-AA-bb-01}, cpus: 4}}"
    lab = made({"web": 3, "db": 1}, extra=extra)
    assert addresses(lab) == {"web1": "10.30.0.5", "web2": "10.30.0.99", "web3": "10.30.0.7", "db1": "10.30.0.61"}
    assert lab.node("web2").nic("back").mac == "52:54:00:aa:bb:01"
    assert [node.cpus for node in lab.nodes] == [1, 4, 1, 1]


def test_a_full_network_uses_every_address() -> None:
    found = addresses(made({"web": 100, "db": 152}, vips=()))
    assert len(set(found.values())) == 252
    assert not {"10.30.0.0", "10.30.0.254", "10.30.0.255"} & set(found.values())


@pytest.mark.parametrize("prefix", range(8, 31))
@pytest.mark.parametrize("blocks", [1, 2, 8, 9, 30])
def test_blocks_fit_when_anything_does(prefix: int, blocks: int) -> None:
    addresses = 2 ** (32 - prefix)
    assert block_size(addresses, blocks) * blocks <= addresses or block_size(addresses, blocks) == 1


@given(
    st.integers(22, 30),
    st.lists(st.integers(1, 60), min_size=1, max_size=12),
    st.sets(st.integers(1, 1000), max_size=20),
)
def test_assign_gives_each_a_free_host_address(prefix: int, counts: list[int], offsets: set[int]) -> None:
    subnet = IPv4Network(f"10.0.0.0/{prefix}")
    seats = [Seat(f"n{block}-{index}", block, index) for block, count in enumerate(counts) for index in range(count)]
    last = subnet.num_addresses - 2
    taken = {int(subnet.network_address) + offset for offset in offsets if offset <= last}
    if len(seats) + len(taken) > last:
        with pytest.raises(ValueError, match="no room"):
            assign(subnet, len(counts), taken, seats)
        return
    found = assign(subnet, len(counts), taken, seats)
    assert len(set(found.values())) == len(seats)
    assert not set(found.values()) & taken
    assert all(0 < a - int(subnet.network_address) <= last for a in found.values())


def test_same_file_same_lab_and_another_name_other_identities() -> None:
    first, again, copy = made({"web": 3}), made({"web": 3}), made({"web": 3}, name="s01")
    assert first == again
    assert (copy.name, copy.topology, copy.namespace) == ("s01", "shop", "vlab-s01")
    assert addresses(first) == addresses(copy)
    assert not identities(first) & identities(copy)


def identities(lab: Lab) -> set[str]:
    """Every name by which machines know the lab's parts."""
    nodes = {word for node in lab.nodes for word in (node.uuid, node.machine_id)}
    nics = {word for node in lab.nodes for nic in node.nics for word in (nic.mac, nic.device)}
    return nodes | nics | {network.bridge for network in lab.networks}


@pytest.mark.parametrize("name", ["", "S01", "a" * 33, "-a", "a/b", "a.b", "é"])
def test_a_bad_name_for_a_copy_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="lab name"):
        made({"web": 1}, name=name)


def test_machine_names_have_the_form_the_kernel_and_systemd_want() -> None:
    lab = made({"web": 200}, vips=("10.30.0.250",))
    nics = [nic for node in lab.nodes for nic in node.nics]
    devices = [nic.device for nic in nics] + [network.bridge for network in lab.networks]
    assert all(re.fullmatch(r"[vb][0-9a-f]{10}", device) for device in devices)
    assert len(set(devices)) == len(devices)
    assert all(re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", nic.mac) for nic in nics)
    assert all(re.fullmatch(r"[0-9a-f]{32}", node.machine_id) for node in lab.nodes)


def test_meeting_hashes_are_hashed_again() -> None:
    first = identity.mac(set(), "lab", "web1", "back")
    taken = {first}
    second = identity.mac(taken, "lab", "web1", "back")
    assert second != first
    assert taken == {first, second}


@pytest.mark.parametrize(("count", "seconds"), [(1000, 0.5), (10_000, 3.0)])
def test_large_labs_complete_in_time(count: int, seconds: float) -> None:
    start = time.process_time()
    lab = made({"web": count, "db": 10}, subnet="10.0.0.0/16", vips=("10.0.200.1",))
    assert time.process_time() - start < seconds
    macs = [nic.mac for node in lab.nodes for nic in node.nics]
    assert len(set(macs)) == len(macs) == count + 11
    assert len(set(addresses(lab).values())) == count + 11
