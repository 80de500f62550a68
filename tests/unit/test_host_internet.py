"""What internet access decides: subnet, command line, rules, and which process is whose."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from vlab.errors import HostError
from vlab.host import internet, routing
from vlab.topology.lab import Lab, Network


def network(name: str, subnet: str, *, online: bool = True) -> Network:
    net = IPv4Network(subnet)
    return Network(name, net, 1500, internet=online, gateway=net[-2], bridge=f"b{name}")


def test_the_uplink_avoids_the_labs_subnets() -> None:
    assert internet.uplink([network("a", "10.20.0.0/24")]) == IPv4Network("10.0.2.0/24")
    assert internet.uplink([network("a", "10.0.0.0/8")]) == IPv4Network("192.168.0.0/24")
    assert internet.uplink([network("a", "10.0.0.0/8"), network("b", "192.168.0.0/23")]) == IPv4Network(
        "192.168.2.0/24"
    )
    with pytest.raises(HostError):
        internet.uplink([network("a", "10.0.0.0/8"), network("b", "192.168.0.0/16")])


def test_guests_resolve_at_the_uplink() -> None:
    lab = Lab("shop", "shop", (network("a", "10.20.0.0/24"),), (), (), ())
    assert internet.resolver(lab) == IPv4Address("10.0.2.3")


def test_a_process_is_known_by_its_command_line() -> None:
    argv = internet.command("vlab-shop", 1500, IPv4Network("10.0.2.0/24"))
    assert "--disable-host-loopback" in argv
    assert internet.namespace_of(argv) == "vlab-shop"
    assert internet.namespace_of(["/usr/bin/slirp4netns", *argv[1:]]) == "vlab-shop"
    for foreign in ([], ["vim", *argv[1:]], [*argv[:-1], "tap0"], [*argv[:-2], "/run/netns/other", argv[-1]]):
        assert internet.namespace_of(foreign) is None


def test_only_networks_that_ask_reach_the_uplink() -> None:
    text = routing.rules([network("front", "10.20.0.0/24"), network("back", "10.30.0.0/24", online=False)])
    assert 'iifname { "bfront" } oifname "vlabnet0" accept' in text
    assert 'iifname "bback" oifname "bback" accept' in text
    assert "policy drop" in text
    assert text.count("bback") == 2
