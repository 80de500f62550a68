"""How long a lab's network takes: namespace, bridges, and N ports adopted, observed and deleted.

    .venv/bin/python -m benchmarks.links [PORTS …]

Needs root. Ports are veth pairs made by ``ip -batch``, spread over bridges of at most 1,000.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network

from vlab.host import links
from vlab.topology.lab import Network, namespace

LAB = f"bench{os.getpid()}"
ON_ONE_BRIDGE = 1000


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    print(f"{what:<40}{(time.perf_counter() - began) * 1000:10.1f} ms")


def network(number: int) -> Network:
    subnet = IPv4Network(f"10.{number}.0.0/16")
    gateway = IPv4Address(f"10.{number}.255.254")
    return Network(f"net{number}", subnet, 1500, internet=False, gateway=gateway, bridge=f"b{number:010x}")


def measure(count: int) -> None:
    print(f"\n{count} ports")
    networks = [network(number) for number in range(-(-count // ON_ONE_BRIDGE))]
    ports = [
        links.Port(f"v{n:010x}", f"web{n}.net{n // ON_ONE_BRIDGE}", networks[n // ON_ONE_BRIDGE].bridge, 1500, LAB)
        for n in range(count)
    ]
    with timed("namespace"):
        links.create_namespace(namespace(LAB))
    try:
        with timed("bridges (the first imports pyroute2)"):
            for item in networks:
                links.ensure_bridge(namespace(LAB), LAB, item)
        batch = "".join(f"link add {port.device} type veth peer name p{port.device[1:]}\n" for port in ports)
        with timed("veth pairs made by ip -batch"):
            subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True)
        with timed("adopt_all"):
            links.adopt_all(namespace(LAB), ports)
        with timed("adopt_all again"):
            links.adopt_all(namespace(LAB), ports)
        with timed("observe"):
            assert len(links.observe(namespace(LAB)).ports) == count
        with timed("counters"):
            links.counters(namespace(LAB))
    finally:
        with timed("delete_namespace"):
            links.delete_namespace(namespace(LAB))
    with timed("until the kernel has freed the veths"):
        while "p0000000000" in [name for _, name in socket.if_nameindex()]:
            time.sleep(0.02)


if __name__ == "__main__":
    for word in sys.argv[1:] or ["100", "1000"]:
        measure(int(word))
