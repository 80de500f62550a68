"""Source NAT for services with ``snat: true`` (full NAT): the director's nft rules. Pure.

ip_vs rewrites a request's destination only. With ``net.ipv4.vs.conntrack`` on it tells connection tracking what it did, so that nft can
rewrite the source behind it, and undoes that before ip_vs sees the reply. That switch is IPv6's too (ip_vs_update_conntrack in
net/netfilter/ipvs/ip_vs_nfct.c), though it is called net.ipv4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlab.guests.settings import File, Unit
from vlab.lvs.index import Role
from vlab.topology.family import is_six

PATH = "/etc/vlab/snat.nft"
TABLE = "vlab-snat"
UNIT = Unit("vlab-snat.service", (PATH,), "rewrites the source of requests, so that replies come back to the director")
"""In the director's image: it loads the file at boot and when it changes, and removes the table when it is stopped."""


def files(roles: Sequence[Role]) -> tuple[File, ...]:
    """The rules of a director with these parts; none where no service asks for it."""
    asking = [role for role in roles if role.service.snat]
    return (File(PATH, render(asking), why="nat with snat: real servers answer the director itself"),) if asking else ()


def units(roles: Sequence[Role]) -> tuple[Unit, ...]:
    return (UNIT,) if any(role.service.snat for role in roles) else ()


def render(roles: Sequence[Role]) -> str:
    """A file for ``nft -f``. It makes the table anew in one transaction, so that nothing piles up."""
    return "\n".join(
        [
            "# Written by vlab. Loading it again replaces the table.",
            f"table inet {TABLE}",
            f"delete table inet {TABLE}",
            f"table inet {TABLE} {{",
            "    chain replies {",
            "        type nat hook postrouting priority srcnat; policy accept;",
            *_rules(roles),
            "    }",
            "}",
            "",
        ]
    )


def _rules(roles: Sequence[Role]) -> Iterator[str]:
    for role in roles:
        service = role.service
        servers = ", ".join(str(server.address) for server in service.servers)
        ports = ", ".join(str(ports) for ports in service.port_ranges)
        # What was sent to the VIP's port, so that health checks and other services of the same real servers stay as they are.
        ip = "ip6" if is_six(service.vip) else "ip"
        asked = f"ct original {ip} daddr {service.vip} ct original proto-dst {{ {ports} }}"
        own = role.director.address_like(service.vip, service.inner_network)
        yield f'        meta l4proto {service.protocol} {asked} {ip} daddr {{ {servers} }} snat {ip} to {own} comment "{service.name}"'
