"""How long a lab's network takes: namespace, bridges, and N ports adopted, observed and deleted.

Ports are veth pairs made by ``ip -batch``, spread over bridges of at most 1,000.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network

from benchmarks.case import Case
from benchmarks.interrupts import held
from benchmarks.rows import Row
from vlab.host import links
from vlab.host.links import Port
from vlab.topology.lab import Network, namespace

LAB = f"bench{os.getpid()}"
ON_ONE_BRIDGE = 1000


class Links(Case):
    name = "links"
    title = "vlab's own work on links, in ports; `veths made` is `ip -batch`, which stands for libvirt."
    sizes = (10, 100, 1000)
    quick = (10, 100)

    def measure(self, size: int, rounds: int) -> Generator[Row, None, None]:
        links.create_namespace(namespace(LAB))
        links.delete_namespace(namespace(LAB))  # the first use imports pyroute2, which is not timed
        for number in range(1, rounds + 1):
            yield from self._round(size, number)

    def _round(self, size: int, number: int) -> Generator[Row, None, None]:
        networks, ports = _networks(size), _ports(size, _networks(size))
        deeds: list[tuple[str, Callable[[], object]]] = [
            ("namespace", lambda: links.create_namespace(namespace(LAB))),
            ("bridges", lambda: _bridges(networks)),
            ("veths made", lambda: _make(ports)),
            ("adopted", lambda: links.adopt_all(namespace(LAB), ports)),
            ("adopted again", lambda: links.adopt_all(namespace(LAB), ports)),
            ("observed", lambda: links.observe(namespace(LAB))),
            ("counters", lambda: links.counters(namespace(LAB))),
            ("deleted", lambda: links.delete_namespace(namespace(LAB))),
            ("freed by the kernel", _freed),
        ]
        try:
            for variant, deed in deeds:
                began = time.monotonic()
                deed()
                yield Row(self.name, variant, size, number, time.monotonic() - began)
        finally:
            with held():
                links.delete_namespace(namespace(LAB))
                _unmake()


def _bridges(networks: Sequence[Network]) -> None:
    for network in networks:
        links.ensure_bridge(namespace(LAB), LAB, network)


def _networks(ports: int) -> list[Network]:
    return [_network(number) for number in range(-(-ports // ON_ONE_BRIDGE))]


def _network(number: int) -> Network:
    subnet, gateway = IPv4Network(f"10.{number}.0.0/16"), IPv4Address(f"10.{number}.255.254")
    return Network(f"net{number}", subnet, 1500, internet=False, gateway=gateway, bridge=f"b{number:010x}")


def _ports(count: int, networks: Sequence[Network]) -> list[Port]:
    return [
        Port(_device(n), f"web{n}.net{n // ON_ONE_BRIDGE}", networks[n // ON_ONE_BRIDGE].bridge, 1500, LAB)
        for n in range(count)
    ]


def _device(number: int) -> str:
    return f"vbe{number:06x}"


def _peer(device: str) -> str:
    return f"p{device}"


def _make(ports: Sequence[Port]) -> None:
    _batch(f"link add {port.device} type veth peer name {_peer(port.device)}" for port in ports)


def _unmake() -> None:
    """What was made and not adopted, or not yet freed."""
    left = [name for _, name in socket.if_nameindex() if name.startswith(_peer("vbe"))]
    _batch((f"link delete {name}" for name in left), "-force")


def _batch(lines: Iterable[str], *options: str) -> None:
    text = "\n".join(lines)
    subprocess.run(["ip", *options, "-batch", "-"], input=text.encode(), check=not options, capture_output=True)


def _freed() -> None:
    while any(name.startswith(_peer("vbe")) for _, name in socket.if_nameindex()):
        time.sleep(0.005)
