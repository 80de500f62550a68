"""What a lab's own namespace passes on: packets between its ``routed`` networks, and between ``internet`` networks and the uplink.

A sysctl and an nft table a family, all inside the lab's namespace: the host's own forwarding and firewall stay as they are. All that
is not asked for is dropped, so a network that is not ``routed`` stays behind the lab's directors. Nothing is kept track of: the
tables and the sysctls are the record. IPv6's are touched only where a routed network has IPv6, or had: the host's kernel may have none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vlab import run
from vlab.host import sysctls
from vlab.host.namespace import FOLDER, inside, namespaces
from vlab.topology.lab import Network, namespace

TABLE = "vlab"
UPLINK = "vlabnet0"
"""slirp4netns' device."""

ROUTED = "routed"
"""The comment by which the rule between routed networks is known again."""


def apply(lab_name: str, networks: Sequence[Network]) -> None:
    """Let the lab's namespace pass on what these networks ask for, and nothing else; nothing at all where none asks."""
    wanted = any(network.internet or network.routed for network in networks)
    if wanted:
        nft(lab_name, rules(networks))
    # All of IPv4's again: turning ip_forward off makes the kernel accept redirects (net/ipv4/devinet.c, inet_forward_change). None of
    # IPv6's: writing all/disable_ipv6 takes every bridge's addresses (net/ipv6/addrconf.c, addrconf_disable_change).
    quiet = {key: value for key, value in sysctls.QUIET.items() if not key.startswith("ipv6/")}
    settings = {**quiet, sysctls.FORWARDING: "1" if wanted else "0"}
    inside(namespace(lab_name), lambda: sysctls.write(settings))
    if not wanted:
        nft(lab_name, removal())
    _apply6(lab_name, networks)


def _apply6(lab_name: str, networks: Sequence[Network]) -> None:
    wanted, had = any(map(_routed6, networks)), inside(namespace(lab_name), lambda: _forwards(sysctls.FORWARDING6))
    if wanted:
        nft(lab_name, rules6(networks))
    if wanted or had:
        # Of «all» alone: written there it is every bridge's.
        inside(namespace(lab_name), lambda: sysctls.write({sysctls.FORWARDING6: "1" if wanted else "0"}))
    if had and not wanted:
        nft(lab_name, removal("ip6"))


def routed(lab_name: str) -> frozenset[str]:
    """The bridges between which the lab's namespace forwards IPv4 now."""
    return _between(lab_name, "ip", sysctls.FORWARDING)


def routed6(lab_name: str) -> frozenset[str]:
    """Likewise of IPv6."""
    return _between(lab_name, "ip6", sysctls.FORWARDING6)


def _between(lab_name: str, family: str, switch: str) -> frozenset[str]:
    if namespace(lab_name) not in namespaces() or not inside(namespace(lab_name), lambda: _forwards(switch)):
        return frozenset()
    return bridges_routed(nft(lab_name, f"list table {family} {TABLE}", check=False))


def nft(lab_name: str, script: str, *, check: bool = True) -> str:
    """What ``nft`` says to a script, run inside the lab's namespace. Raises ``HostError`` where it fails, unless ``check`` is off."""
    argv = ["nsenter", f"--net={FOLDER / namespace(lab_name)}", "--", "nft", "-f", "-"]
    return run.run(argv, input=script.encode(), timeout=10, check=check).text


def _forwards(switch: str) -> bool:
    return sysctls.read([switch]).get(switch) == "1"


# decisions: pure


def rules(networks: Sequence[Network]) -> str:
    """An nft script that replaces vlab's table. Above all nothing passes from one network of the lab to another that is not
    routed: that is the directors' work."""
    online, between = (_set(networks, key) for key in ("internet", ROUTED))
    return "\n".join([
        removal(),
        f"table ip {TABLE} {{",
        "  chain forward {",
        "    type filter hook forward priority filter; policy drop;",
        # Where br_netfilter is on, frames that stay on their bridge pass here too.
        *(f'    iifname "{network.bridge}" oifname "{network.bridge}" accept' for network in networks),
        *([f'    iifname {between} oifname {between} accept comment "{ROUTED}"'] if between else []),
        *([f'    iifname {online} oifname "{UPLINK}" accept',
           f'    iifname "{UPLINK}" oifname {online} ct state established,related accept'] if online else []),
        "  }",
        *(["  chain postrouting {",
           "    type nat hook postrouting priority srcnat;",
           f'    oifname "{UPLINK}" masquerade',
           "  }"] if online else []),
        "}",
        "",
    ])  # fmt: skip


def rules6(networks: Sequence[Network]) -> str:
    """As ``rules``, for IPv6: between those routed networks that have it."""
    between = _names([network for network in networks if _routed6(network)])
    return "\n".join([
        removal("ip6"),
        f"table ip6 {TABLE} {{",
        "  chain forward {",
        "    type filter hook forward priority filter; policy drop;",
        *(f'    iifname "{network.bridge}" oifname "{network.bridge}" accept' for network in networks),
        f'    iifname {between} oifname {between} accept comment "{ROUTED}"',
        "  }",
        "}",
        "",
    ])  # fmt: skip


def _routed6(network: Network) -> bool:
    return network.routed and network.subnet6 is not None


def removal(family: str = "ip") -> str:
    """An nft script that removes vlab's table, there or not."""
    return f"add table {family} {TABLE}\ndelete table {family} {TABLE}"


def bridges_routed(listed: str) -> frozenset[str]:
    """The bridges of the listed rule between routed networks, whether nft shows them as a set or, when there is one, alone."""
    lines = [line for line in listed.splitlines() if f'comment "{ROUTED}"' in line]
    return frozenset(name for line in lines for name in re.findall(r'"([^"]+)"', line.split("oifname")[0]))


def _set(networks: Sequence[Network], key: str) -> str:
    """nft's set of the bridges of the networks whose ``key`` is on, empty for none."""
    asking = [network for network in networks if getattr(network, key)]
    return _names(asking) if asking else ""


def _names(networks: Sequence[Network]) -> str:
    names = ", ".join(f'"{network.bridge}"' for network in networks)
    return f"{{ {names} }}"
