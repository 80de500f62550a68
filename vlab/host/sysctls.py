"""The kernel settings inside a lab's network namespace, every one written explicitly: a new namespace copies
``net.ipv4.conf`` from the host, so that what works on one host would fail on the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path("/proc/sys/net")
FORWARDING = "ipv4/ip_forward"
FORWARDING6 = "ipv6/conf/all/forwarding"

# The namespace has an address on every bridge. It must answer ARP for each on its own bridge only and never route, redirect
# or filter by path, or it would take part in the traffic that the lab is about. IPv6 off but on bridges of networks that have
# it: no router solicitations and no neighbour discovery of the host in captures (frames of guests cross a bridge whatever the
# host's own IPv6 does).
QUIET: Mapping[str, str] = {
    FORWARDING: "0",
    **{
        f"ipv4/conf/{scope}/{key}": value
        for scope in ("all", "default")
        for key, value in {
            "accept_redirects": "0",
            "accept_source_route": "0",
            "arp_announce": "2",
            "arp_filter": "0",
            "arp_ignore": "1",
            "log_martians": "0",
            "proxy_arp": "0",
            "rp_filter": "0",
            "send_redirects": "0",
        }.items()
    },
    **{
        f"ipv6/conf/{scope}/{key}": value
        for scope in ("all", "default")
        for key, value in {"accept_ra": "0", "disable_ipv6": "1"}.items()
    },
    # Where br_netfilter is loaded (Docker does), it filters bridged frames in new namespaces too.
    **{f"bridge/bridge-nf-call-{family}tables": "0" for family in ("arp", "ip", "ip6")},
}


def ipv6_off(device: str) -> dict[str, str]:
    """No IPv6 on a bridge; what IPv6 addresses it had are gone. Where it is switched on later it stays as quiet as it can be: no
    link-local address, hence no questions by itself, and no duplicate address detection."""
    folder = f"ipv6/conf/{device}"
    return {f"{folder}/disable_ipv6": "1", f"{folder}/addr_gen_mode": "1", f"{folder}/accept_dad": "0"}


def ipv6_on(device: str) -> dict[str, str]:
    return {f"ipv6/conf/{device}/accept_ra": "0", f"ipv6/conf/{device}/disable_ipv6": "0"}


def write(settings: Mapping[str, str]) -> None:
    """Write settings (path under /proc/sys/net → value) in the calling thread's network namespace.

    A setting that this kernel does not have (no IPv6, no br_netfilter) is left out.
    """
    for key, value in settings.items():
        target = ROOT / key
        if target.exists():
            target.write_text(value)


def read(keys: Iterable[str]) -> dict[str, str]:
    """Those of ``keys`` (path under /proc/sys/net) that this kernel has, in the calling thread's network namespace."""
    return {key: (ROOT / key).read_text().strip() for key in keys if (ROOT / key).exists()}
