"""Firewall marks: the nft rules by which a director makes one service of several ports. Pure.

ip_vs looks for a service with a packet's mark before one with its port (ip_vs_service_find in net/netfilter/ipvs/ip_vs_ctl.c),
so it is enough to mark what comes in for the VIP; replies are known by their connection and need no mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlab.guests.settings import File, Unit
from vlab.topology.lab import Service

PATH = "/etc/vlab/marks.nft"
TABLE = "vlab-marks"
UNIT = Unit("vlab-marks.service", (PATH,), "marks requests, so that several ports are one service")
"""In the director's image: it loads the file at boot and when it changes, and removes the table when it is stopped."""


def files(services: Sequence[Service]) -> tuple[File, ...]:
    """The rules of a director's ``services``; none where no service has a mark."""
    marked = [service for service in services if service.fwmark is not None]
    return (File(PATH, render(marked), why="several ports are one service by firewall mark"),) if marked else ()


def units(services: Sequence[Service]) -> tuple[Unit, ...]:
    return (UNIT,) if any(service.fwmark is not None for service in services) else ()


def render(services: Sequence[Service]) -> str:
    """A file for ``nft -f``. It makes the table anew in one transaction: no packet meets a half-made one, and nothing piles up."""
    return "\n".join(
        [
            "# Written by vlab. Loading it again replaces the table.",
            f"table inet {TABLE}",
            f"delete table inet {TABLE}",
            f"table inet {TABLE} {{",
            "    chain requests {",
            "        type filter hook prerouting priority mangle; policy accept;",
            *_rules(services),
            "    }",
            "}",
            "",
        ]
    )


def _rules(services: Sequence[Service]) -> Iterator[str]:
    for service in services:
        family = "ip" if "." in str(service.vip) else "ip6"
        ports = ", ".join(str(ports) for ports in service.port_ranges)
        match = f"{family} daddr {service.vip} {service.protocol} dport {{ {ports} }}"
        yield f'        {match} meta mark set {service.fwmark} comment "{service.name}"'
