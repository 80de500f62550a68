"""A lab that is only its network: for tests that need no guests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network

from vlab.host import links
from vlab.topology.lab import Network, namespace

BACK = Network(
    "back", IPv4Network("10.30.0.0/24"), 1400, internet=False, gateway=IPv4Address("10.30.0.254"), bridge="b0123456789"
)


@contextmanager
def network_lab() -> Iterator[str]:
    """The name of a lab with a namespace and the network «back», gone afterwards."""
    name = f"test{secrets.token_hex(3)}"
    try:
        links.create_namespace(namespace(name))
        links.ensure_bridge(namespace(name), name, BACK)
        yield name
    finally:
        links.delete_namespace(namespace(name))
