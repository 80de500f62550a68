"""What a guest's inside really looks like, read in one round trip, and how it differs from its ``Settings``. Pure: who calls runs the command.

Comparison is by effect: for the sysctls of which the kernel takes the larger of «all» and the interface, that maximum counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from vlab.guests.settings import Route, Settings, Sysctl, Tunnel
from vlab.lvs.modes import ON_LINK, ON_LINK6
from vlab.topology.family import Address, Interface, Subnet, is_six

MAXIMUM = frozenset({"arp_ignore", "arp_announce", "rp_filter"})
"""Of these the larger of «all» and the interface is in force (Documentation/networking/ip-sysctl.rst)."""

FoundRoute = tuple[Subnet, Address, str, int | None, int | None]
"""Destination, gateway, device, advmss, and the table where it is not the main one."""

_CONF = "net/ipv4/conf/"
_CUT = "=== vlab ==="

# As few processes as will do: each costs an emulated guest 50 ms and more.
# grep reads all sysctls in one. The shell's own read cannot: dash reads byte by byte, and of a number under /proc/sys only the
# first read returns anything.
# systemctl is the dearest, and stays: that a unit's control group has processes does not tell a service that runs from one that
# is still being started, or stopped. Only directors have units to be asked about.
_SCRIPT = f"""\
units=$1 routes6=$2; shift 2
ip -j -d -batch - <<END
address show
route show table main
END
[ -z "$routes6" ] || ip -6 -j -d route show table main
echo "{_CUT}"
cd /proc/sys && grep -s -H '' "$@"; echo "{_CUT}"
[ -z "$units" ] || systemctl is-active $units
"""


@dataclass(frozen=True, slots=True)
class Inside:
    """What was read. ``routes`` and ``addresses`` are as in ``Settings``, without reasons; ``tunnels`` are by device; ``rules`` are
    (source, table) and ``fou_ports`` (number, is it IPv6's)."""

    addresses: frozenset[tuple[str, Interface]]
    mtus: Mapping[str, int]
    tunnels: Mapping[str, tuple[str, str]]
    routes: frozenset[FoundRoute]
    sysctls: Mapping[str, str]
    units: Mapping[str, str]
    rules: frozenset[tuple[str, str]] = frozenset()
    fou_ports: frozenset[tuple[int, bool]] = frozenset()


def command(settings: Settings) -> list[str]:
    """The argv that reads everything ``settings`` speaks of."""
    keys = (item.key for item in settings.sysctls)
    routes6 = "yes" if any(is_six(route.destination) for route in settings.routes) else ""
    script = "\n".join([_SCRIPT, f'echo "{_CUT}"', *_more(settings), "exit 0"])
    return ["sh", "-c", script, "sh", " ".join(unit.name for unit in settings.units), routes6, *keys]


def _more(settings: Settings) -> Iterator[str]:
    """sh that reads what few guests have, a line of JSON each: rules, ports of fou, routes of each table that is not the main one."""
    asked = ["fou show"] if settings.fou_ports else []
    for six, *_ in _with_rules(settings):
        ip = "-6 -d " if six else ""
        asked += [f"{ip}rule show", *(f"{ip}route show table {table}" for table in _tables(settings, six=six))]
    return (f"ip -j {words} 2>/dev/null || echo '[]'" for words in asked)


def _with_rules(settings: Settings) -> list[tuple[bool, str, Address]]:
    """The families that have rules: whether it is IPv6, everywhere, and what stands for no gateway."""
    families = ((False, "0.0.0.0/0", ON_LINK), (True, "::/0", ON_LINK6))
    return [each for each in families if any(is_six(rule.source) is each[0] for rule in settings.rules)]


def _tables(settings: Settings, *, six: bool) -> list[int]:
    tables = {route.table for route in settings.routes if route.table is not None and is_six(route.destination) is six}
    return sorted(tables)


def parse(settings: Settings, output: str) -> Inside:
    """Raises ``ValueError`` when ``output`` is not what ``command(settings)`` prints."""
    network_text, sysctls_text, units_text, *rest = output.split(f"{_CUT}\n")
    links, routes4, *routes6 = (json.loads(line) for line in network_text.splitlines())
    more = iter([json.loads(line) for line in "".join(rest).splitlines() if line.strip()])
    fou_ports: Any = next(more, []) if settings.fou_ports else []
    rules: list[Any] = []
    routes = [*_routes(routes4, None, "0.0.0.0/0", ON_LINK)]
    routes += [route for found in routes6 for route in _routes(found, None, "::/0", ON_LINK6)]
    for six, anywhere, on_link in _with_rules(settings):
        rules += next(more, [])
        for table, found in zip(_tables(settings, six=six), more, strict=False):
            routes += _routes(found, table, anywhere, on_link)
    return Inside(
        addresses=frozenset(_addresses(links)),
        mtus={link["ifname"]: link["mtu"] for link in links},
        tunnels={link["ifname"]: _tunnel(link) for link in links if _kind(link)},
        routes=frozenset(routes),
        sysctls=_pairs(sysctls_text),
        units=dict(zip((unit.name for unit in settings.units), units_text.splitlines(), strict=False)),
        rules=frozenset((str(rule.get("src", "")), str(rule.get("table", ""))) for rule in rules),
        fou_ports=frozenset((int(each["port"]), each.get("family") == "inet6") for each in fou_ports),
    )


def differences(wanted: Settings, found: Inside) -> list[str]:
    """One sentence for each thing that is not as ``wanted`` says; files are not compared."""
    return [*_tunnels(wanted, found), *_all_sysctls(wanted, found), *_missing_addresses(wanted, found),
            *_missing_routes(wanted, found), *_missing_rules(wanted, found), *_closed_ports(wanted, found),
            *_stopped_units(wanted, found), *_wrong_mtus(wanted, found)]  # fmt: skip


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
        if (item.destination, item.via, item.device, item.advmss, item.table) not in found.routes:
            yield f"no {_route_text(item)}: {item.why}"


def _missing_rules(wanted: Settings, found: Inside) -> Iterator[str]:
    for item in wanted.rules:
        if (str(item.source), str(item.table)) not in found.rules:
            yield f"packets from {item.source} do not look into routing table {item.table}: {item.why}"


def _closed_ports(wanted: Settings, found: Inside) -> Iterator[str]:
    for item in wanted.fou_ports:
        if (item.port, item.six) not in found.fou_ports:
            yield f"UDP port {item.port}{' (IPv6)' if item.six else ''} takes nothing out of GUE: {item.why}"


def _route_text(route: Route) -> str:
    destination = "default route" if route.destination.prefixlen == 0 else f"route to {route.destination}"
    via = "" if route.via.is_unspecified else f" via {route.via}"
    table = "" if route.table is None else f" in table {route.table}"
    return f"{destination}{via} on {route.device}{table}" + (f" with advmss {route.advmss}" if route.advmss else "")


def _stopped_units(wanted: Settings, found: Inside) -> Iterator[str]:
    for unit in wanted.units:
        if found.units.get(unit.name) != "active":
            yield f"unit {unit.name} is {found.units.get(unit.name, 'unknown')}, not active: {unit.why}"


def _wrong_mtus(wanted: Settings, found: Inside) -> Iterator[str]:
    for link in wanted.links:
        if found.mtus.get(link.name) != link.mtu:
            yield f"{link.name} has MTU {found.mtus.get(link.name, 'unknown')}, not {link.mtu}"


def _addresses(links: list[dict[str, Any]]) -> Iterator[tuple[str, Interface]]:
    """An IPv6 address that the kernel holds back, because it waits for others to claim it or one did, is not there yet."""
    for link in links:
        for item in link.get("addr_info", []):
            if item.get("family") in ("inet", "inet6") and not (item.get("tentative") or item.get("dadfailed")):
                yield link["ifname"], ip_interface(f"{item['local']}/{item['prefixlen']}")


def _kind(link: dict[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def _tunnel(link: dict[str, Any]) -> tuple[str, str]:
    return _kind(link), str(link["linkinfo"].get("info_data", {}).get("local", ""))


def _routes(routes: list[dict[str, Any]], table: int | None, anywhere: str, on_link: Address) -> Iterator[FoundRoute]:
    return (_route(route, table, anywhere, on_link) for route in routes if "dev" in route)


def _route(route: dict[str, Any], table: int | None, anywhere: str, on_link: Address) -> FoundRoute:
    destination = anywhere if route["dst"] == "default" else route["dst"]
    advmss = next((metric["advmss"] for metric in route.get("metrics", []) if "advmss" in metric), None)
    return ip_network(destination), ip_address(route.get("gateway", str(on_link))), route["dev"], advmss, table


def _pairs(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (line.rpartition(":") for line in text.splitlines())}
