"""The network part of a transition: sh text that takes away, and sh text that makes, links, tunnels, sysctls, addresses and
routes. Pure; ``transition`` puts it between the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from shlex import quote

from vlab.guests.settings import Address, Link, Route, Settings, Sysctl, Tunnel

ON_LINK = IPv4Address("0.0.0.0")
"""A route's ``via`` that means no gateway."""

# A sysctl's folder under /proc/sys → the module without which it is not there.
_MODULES = {"net/ipv4/vs": "ip_vs", "net/netfilter": "nf_conntrack"}

_NAMING = """\
by_mac() {
for path in /sys/class/net/*; do
dev=${path##*/}
read -r mac 2>/dev/null <"$path/address" && [ "$mac" = "$1" ] && return 0
done
return 1
}
named() {
tries=0
until by_mac "$2"; do
tries=$((tries + 1))
[ "$tries" -lt 50 ] || { echo "no interface has the MAC address $2, which is to be $1" >&2; exit 1; }
sleep 0.2
done
[ "$dev" != "$1" ] || return 0
moving=$dev
if [ -e "/sys/class/net/$1" ]; then
ip link set dev "$1" down
ip link set dev "$1" name "aside$tries-${2##*:}"
fi
ip link set dev "$moving" down
ip link set dev "$moving" name "$1"
}
"""


def removal(had: Settings, wanted: Settings) -> str:
    """Take away what is not wanted any more: routes, addresses and tunnels first, then sysctls back to their defaults.

    Absent things are no error: a run that was interrupted may have removed them."""
    lines = [
        *(f"route del {_route(r)}" for r in had.routes if r.destination not in {w.destination for w in wanted.routes}),
        *(f"address del {a.address} dev {_device(a.device)}" for a in _leaving(had, wanted)),
        *(f"link del dev {_device(t.name)}" for t in _remade(had, wanted)),
        *(f"link set dev {_device(name)} down" for name in _unlinked(had, wanted)),
    ]
    return "".join([_batch(lines, forgiving=True), *(_guarded(sysctl) for sysctl in _resets(had, wanted))])


def setup(had: Settings, wanted: Settings) -> str:
    """Make what is wanted. Where anything of a part differs the whole part is said again, in its order: a device that was
    down has lost its routes, an address that went took those behind it along, and ip_forward resets other sysctls."""
    fresh_tunnels = [tunnel for tunnel in wanted.tunnels if tunnel not in had.tunnels]
    moved = had.links != wanted.links
    parts = []
    if moved:
        parts += [_NAMING, *(f"named {_device(link.name)} {quote(link.mac.lower())}\n" for link in wanted.links)]
    parts.append(_batch(_tunnels(fresh_tunnels)))
    if moved or fresh_tunnels or had.sysctls != wanted.sysctls:
        parts += [*_modules(wanted.sysctls), *(_written(sysctl) for sysctl in wanted.sysctls)]
    if _network(had) != _network(wanted):
        parts.append(_batch([*_links(wanted.links), *_addresses(wanted.addresses), *_routes(wanted.routes)]))
    return "".join(parts)


def _network(settings: Settings) -> tuple[object, ...]:
    return settings.links, settings.tunnels, settings.addresses, settings.routes


def _leaving(had: Settings, wanted: Settings) -> Iterator[Address]:
    """Addresses to remove: those not wanted, and all of a device on which the order of those that stay would differ, as
    order makes the primary address; and all of an interface that is another one now."""
    other = _exchanged(had, wanted)
    for device in dict.fromkeys(address.device for address in had.addresses):
        mine = [a for a in had.addresses if a.device == device]
        target = [a for a in wanted.addresses if a.device == device]
        kept = [a for a in mine if a in target]
        keep = device not in other and target[: len(kept)] == kept
        yield from (a for a in mine if not keep or a not in target)


def _resets(had: Settings, wanted: Settings) -> Iterator[Sysctl]:
    """Sysctls to put back: those not wanted, and those of an interface that is another one now, which keeps them."""
    keys, other = {sysctl.key for sysctl in wanted.sysctls}, _exchanged(had, wanted)
    for sysctl in had.sysctls:
        if sysctl.key not in keys or other.intersection(sysctl.key.split("/")):
            yield sysctl


def _exchanged(had: Settings, wanted: Settings) -> set[str]:
    """Interface names that are to go from one MAC address to another."""
    macs = {link.name: link.mac for link in wanted.links}
    return {link.name for link in had.links if macs.get(link.name, link.mac) != link.mac}


def _remade(had: Settings, wanted: Settings) -> list[Tunnel]:
    """Tunnels to delete: those not wanted, and those about to be made, which an interrupted run may have left."""
    return [
        *(tunnel for tunnel in had.tunnels if tunnel not in wanted.tunnels),
        *(t for t in wanted.tunnels if t not in had.tunnels and t.name not in {h.name for h in had.tunnels}),
    ]


def _unlinked(had: Settings, wanted: Settings) -> list[str]:
    names = {link.name for link in wanted.links}
    return [link.name for link in had.links if link.name not in names]


def _links(links: Iterable[Link]) -> Iterator[str]:
    for link in links:
        yield f"link set dev {_device(link.name)} mtu {link.mtu:d} up"


def _tunnels(tunnels: Iterable[Tunnel]) -> Iterator[str]:
    for tunnel in tunnels:
        yield f"link add name {_device(tunnel.name)} type {_device(tunnel.kind)} local {tunnel.local} remote any"
        yield f"link set dev {_device(tunnel.name)} up"


def _addresses(addresses: Iterable[Address]) -> Iterator[str]:
    for address in addresses:
        yield f"address replace {address.address} dev {_device(address.device)}"


def _routes(routes: Iterable[Route]) -> Iterator[str]:
    for route in routes:
        advmss = "" if route.advmss is None else f" advmss {route.advmss:d}"
        yield f"route replace {_route(route)}{advmss}"


def _route(route: Route) -> str:
    via = "" if route.via == ON_LINK else f" via {route.via}"
    return f"{route.destination}{via} dev {_device(route.device)}"


def _modules(sysctls: Iterable[Sysctl]) -> Iterator[str]:
    keys = [sysctl.key for sysctl in sysctls]
    for folder, module in _MODULES.items():
        if any(key.startswith(f"{folder}/") for key in keys):
            yield f"[ -e /proc/sys/{folder} ] || modprobe {module}\n"


def _written(sysctl: Sysctl) -> str:
    return f"printf '%s\\n' {quote(sysctl.value)} >{_path(sysctl)}\n"


def _guarded(sysctl: Sysctl) -> str:
    """The default again, unless the key went with its device."""
    return f"[ ! -e {_path(sysctl)} ] || printf '%s\\n' {quote(sysctl.default)} >{_path(sysctl)}\n"


def _path(sysctl: Sysctl) -> str:
    return quote(f"/proc/sys/{sysctl.key}")


def _batch(lines: Iterable[str], *, forgiving: bool = False) -> str:
    """One ``ip`` process for many commands; a forgiving one goes on over failures and says nothing of them."""
    text = "".join(f"{line}\n" for line in lines)
    if not text:
        return ""
    start = "ip -force -batch - 2>/dev/null <<'END' || :" if forgiving else "ip -batch - <<'END'"
    return f"{start}\n{text}END\n"


def _device(name: str) -> str:
    """A word that is safe in a batch line, which has no quoting to rely on."""
    if not re.fullmatch(r"[A-Za-z0-9_.@-]{1,15}", name):
        raise ValueError(f"«{name}» cannot be an interface's name")
    return name
