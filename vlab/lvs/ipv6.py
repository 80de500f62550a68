"""The IPv6 settings of a node that has an IPv6 address, whatever it serves. Pure.

A node without one gets none of them: its kernel does as it always does, and its settings take no longer. Two of IPv4's worries are
no worries here. There is no reverse path filter, and a VIP on ``lo`` needs no counterpart of arp_ignore and arp_announce:
neighbour discovery answers, and asks, with the addresses of one interface only (net/ipv6/ndisc.c: ndisc_recv_ns, ndisc_solicit;
seen with Linux 6.1 and 6.18, also with proxy_ndp and forwarding on).
"""

from __future__ import annotations

from functools import lru_cache

from vlab.guests.settings import Sysctl

_FORWARDING = Sysctl("net/ipv6/conf/all/forwarding", "0", "0", "only a director passes IPv6 packets on")

# (key under net/ipv6/conf/<interface>, our value, the kernel's default, that of «all», why)
_INTERFACE = (
    ("disable_ipv6", "0", "0", "0", "the network has an IPv6 subnet, whatever the host does with its own interfaces"),
    ("accept_dad", "0", "1", "0", "vlab gives each address once: no second of waiting for duplicates"),
    ("accept_ra", "0", "1", "1", "vlab gives addresses and routes; a router's advertisement would add others"),
    ("accept_redirects", "0", "1", "1", "an ICMPv6 redirect would lead packets round the director"),
    ("router_solicitations", "0", "-1", "-1", "the lab has no routers to be asked for"),
)


@lru_cache
def sysctls(devices: tuple[str, ...]) -> tuple[Sysctl, ...]:
    """Those of a node whose interfaces ``devices`` have IPv6 addresses. Kept: thousands of nodes have the same devices."""
    if not devices:
        return ()
    # forwarding comes first: writing it changes the interfaces' own.
    return (
        _FORWARDING,
        *(
            Sysctl(f"net/ipv6/conf/{name}/{key}", value, of_all if name == "all" else default, why)
            for name in ("all", "default", *devices)
            for key, value, default, of_all, why in _INTERFACE
        ),
    )
