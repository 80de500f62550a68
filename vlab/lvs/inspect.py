"""What a guest's inside really looks like, read in one round trip, and how it differs from its ``Settings``. Pure: who calls runs the command.

Comparison is by effect: for the sysctls of which the kernel takes the larger of «all» and the interface, that maximum counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from vlab.guests.settings import Route, Settings, Sysctl, Tunnel
from vlab.lvs.modes import ON_LINK

MAXIMUM = frozenset({"arp_ignore", "arp_announce", "rp_filter"})
"""Of these the larger of «all» and the interface is in force (Documentation/networking/ip-sysctl.rst)."""

_CONF = "net/ipv4/conf/"
_CUT = "=== vlab ==="

# grep reads all sysctls in one process. The shell's own read cannot: dash reads byte by byte, and of a number under
# /proc/sys only the first read returns anything.
_SCRIPT = f"""\
units=$1; shift
ip -j -d address show; echo "{_CUT}"
ip -j route show table main; echo "{_CUT}"
cd /proc/sys && grep -s -H '' "$@"; echo "{_CUT}"
for unit in $units; do echo "$unit:$(systemctl is-active "$unit")"; done
exit 0
"""


@dataclass(frozen=True, slots=True)
class Inside:
    """What was read. ``routes`` and ``addresses`` are as in ``Settings``, without reasons; ``tunnels`` are by device."""

    addresses: frozenset[tuple[str, IPv4Interface]]
    mtus: Mapping[str, int]
    tunnels: Mapping[str, tuple[str, str]]
    routes: frozenset[tuple[IPv4Network, IPv4Address, str, int | None]]
    sysctls: Mapping[str, str]
    units: Mapping[str, str]


def command(settings: Settings) -> list[str]:
    """The argv that reads everything ``settings`` speaks of."""
    keys = (item.key for item in settings.sysctls)
    return ["sh", "-c", _SCRIPT, "sh", " ".join(unit.name for unit in settings.units), *keys]


def parse(output: str) -> Inside:
    """Raises ``ValueError`` when ``output`` is not what ``command`` prints."""
    links_text, routes_text, sysctls_text, units_text = output.split(f"{_CUT}\n")
    links = json.loads(links_text)
    return Inside(
        addresses=frozenset(_addresses(links)),
        mtus={link["ifname"]: link["mtu"] for link in links},
        tunnels={link["ifname"]: _tunnel(link) for link in links if _kind(link)},
        routes=frozenset(_route(route) for route in json.loads(routes_text or "[]") if "dev" in route),
        sysctls=_pairs(sysctls_text),
        units=_pairs(units_text),
    )


def differences(wanted: Settings, found: Inside) -> list[str]:
    """One sentence for each thing that is not as ``wanted`` says; files are not compared."""
    return [*_tunnels(wanted, found), *_all_sysctls(wanted, found), *_missing_addresses(wanted, found),
            *_missing_routes(wanted, found), *_stopped_units(wanted, found), *_wrong_mtus(wanted, found)]  # fmt: skip


def _tunnels(wanted: Settings, found: Inside) -> Iterator[str]:
    for tunnel in wanted.tunnels:
        if found.tunnels.get(tunnel.name) != _as_found(tunnel):
            yield f"no tunnel {tunnel.name} ({tunnel.kind}) on {tunnel.local}: {tunnel.why}"


def _as_found(tunnel: Tunnel) -> tuple[str, str]:
    return tunnel.kind, str(tunnel.local)


def _all_sysctls(wanted: Settings, found: Inside) -> Iterator[str]:
    values = {item.key: item.value for item in wanted.sysctls}
    for item in wanted.sysctls:
        want, have = _effective(values, item.key), _effective(found.sysctls, item.key)
        if want != have:
            yield f"{_readable(item)} is {'missing' if have is None else have}, not {want}: {item.why}"


def _effective(values: Mapping[str, str], key: str) -> str | None:
    own = values.get(key)
    shared = values.get(f"{_CONF}all/{key.rpartition('/')[2]}")
    if own is None or shared is None or not key.startswith(_CONF) or key.rpartition("/")[2] not in MAXIMUM:
        return own
    return own if "/default/" in key else str(max(int(own), int(shared)))


def _readable(item: Sysctl) -> str:
    return item.key.replace("/", ".")


def _missing_addresses(wanted: Settings, found: Inside) -> Iterator[str]:
    for item in wanted.addresses:
        if (item.device, item.address) not in found.addresses:
            yield f"{item.device} lacks address {item.address}: {item.why}"


def _missing_routes(wanted: Settings, found: Inside) -> Iterator[str]:
    for item in wanted.routes:
        if (item.destination, item.via, item.device, item.advmss) not in found.routes:
            yield f"no {_route_text(item)}: {item.why}"


def _route_text(route: Route) -> str:
    destination = "default route" if route.destination.prefixlen == 0 else f"route to {route.destination}"
    via = "" if route.via == ON_LINK else f" via {route.via}"
    return f"{destination}{via} on {route.device}" + (f" with advmss {route.advmss}" if route.advmss else "")


def _stopped_units(wanted: Settings, found: Inside) -> Iterator[str]:
    for unit in wanted.units:
        if found.units.get(unit.name) != "active":
            yield f"unit {unit.name} is {found.units.get(unit.name, 'unknown')}, not active: {unit.why}"


def _wrong_mtus(wanted: Settings, found: Inside) -> Iterator[str]:
    for link in wanted.links:
        if found.mtus.get(link.name) != link.mtu:
            yield f"{link.name} has MTU {found.mtus.get(link.name, 'unknown')}, not {link.mtu}"


def _addresses(links: list[dict[str, Any]]) -> Iterator[tuple[str, IPv4Interface]]:
    for link in links:
        for item in link.get("addr_info", []):
            if item.get("family") == "inet":
                yield link["ifname"], IPv4Interface(f"{item['local']}/{item['prefixlen']}")


def _kind(link: dict[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def _tunnel(link: dict[str, Any]) -> tuple[str, str]:
    return _kind(link), str(link["linkinfo"].get("info_data", {}).get("local", ""))


def _route(route: dict[str, Any]) -> tuple[IPv4Network, IPv4Address, str, int | None]:
    destination = "0.0.0.0/0" if route["dst"] == "default" else route["dst"]
    advmss = next((metric["advmss"] for metric in route.get("metrics", []) if "advmss" in metric), None)
    return IPv4Network(destination), IPv4Address(route.get("gateway", ON_LINK)), route["dev"], advmss


def _pairs(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (line.rpartition(":") for line in text.splitlines())}
