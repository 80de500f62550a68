"""The network part of a transition: sh text that takes away, and sh text that makes, links, tunnels, sysctls, addresses,
rules and routes. Pure; ``transition`` puts it between the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from shlex import quote

from vlab.guests.settings import Address, FouPort, Link, Route, Rule, Settings, Sysctl, Tunnel
from vlab.topology.family import is_six
from vlab.topology.identity import STAND_IN_MAC

# What a kind of tunnel carries, where its devices could carry several things.
_INSIDE = {"ip6tnl": " mode ip6ip6"}

# A sysctl's folder under /proc/sys → the module without which it is not there.
_MODULES = {"net/ipv4/vs": "ip_vs", "net/netfilter": "nf_conntrack"}

RULE_PRIORITY = 1000
"""Of routing rules: behind the local table (0), before the main one (32766)."""

# The modules ipip and ip_gre bring devices of their own into the namespace they are loaded in (tunl0, gre0, …), which would stay when
# the tunnel goes; 2: nowhere (Documentation/admin-guide/sysctl/net.rst). A container has no such key.
_FALLBACK_TUNNELS = "/proc/sys/net/core/fb_tunnels_only_for_init_net"
_NO_FALLBACK, _FALLBACK = (f"[ ! -w {_FALLBACK_TUNNELS} ] || echo {value} >{_FALLBACK_TUNNELS}\n" for value in (2, 0))
# iproute2 asks for the family by its name, which does not load the module.
_FOU = "[ -e /sys/module/fou ] || modprobe -q fou || :\n"

_NAMING = """\
by_mac() {
for path in /sys/class/net/*; do
dev=${path##*/}
read -r mac 2>/dev/null <"$path/address" && [ "$mac" = "$1" ] && return 0
done
return 1
}
# A card with an EEPROM, restored from a golden snapshot, has the golden's MAC in it at every boot.
own_mac() {
read -r mac 2>/dev/null <"/sys/class/net/$1/address" || return 0
case $mac in PREFIX:*) ip link set dev "$1" address "$2" ;; esac
}
named() {
tries=0
until by_mac "$2"; do
own_mac "$1" "$2"
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
""".replace("PREFIX", STAND_IN_MAC)


# $1: lines of a batch that may fail, its first ones; $2: how ip ended. ip goes on after a failure, and says «Command failed -:LINE» behind its
# reason; a reason without that was the end of ip.
_FORGIVEN = """\
forgiven() {
reason=
while read -r line; do
case $line in
"") ;;
"Command failed -:"*)
[ "${line##*:}" -le "$1" ] || { echo "$reason $line" >&2; exit 1; }
reason= ;;
*) reason="$reason $line" ;;
esac
done <<SAID
$said
SAID
[ "$2$reason" = 1 ] || { echo "ip ended with $2:$reason" >&2; exit 1; }
}
"""

# Writing these makes the kernel reset others.
_FORWARDING = ("/ip_forward", "/forwarding")


def change(had: Settings, wanted: Settings) -> str:
    """Take away what is not wanted any more, and make what is, so that a VIP is on ``lo`` only while the ARP sysctls hide it.

    Absent things are no error where they are to go: a run that was interrupted may have removed them."""
    reset = "".join(map(_guarded, _resets(had, wanted)))
    four, six = _going(had, wanted), _going6(had, wanted)
    if had.links and had.links != wanted.links:  # what goes has names that others get
        gone = _batch(four, forgiven=len(four)) + _batch(six, forgiven=len(six), six=True)
        return gone + reset + setup(had, wanted)
    return _made(had, wanted, _Going(four, six, reset))


def setup(had: Settings, wanted: Settings) -> str:
    """Make what is wanted. Where anything of a part differs the whole part is said again, in its order: a device that was
    down has lost its routes, an address that went took those behind it along, and ip_forward resets other sysctls."""
    return _made(had, wanted, _Going([], [], ""))


def abandon(had: Settings, wanted: Settings) -> str:
    """End the node's connections from addresses that went: nobody can answer them any more. Nothing where only VIPs went, from which a node
    begins no connection. A kernel built without INET_DIAG_DESTROY leaves them as they are."""
    stay = {address.address.ip for address in wanted.addresses}
    own = (a.address for a in had.addresses if a.address.network.num_addresses > 1)
    gone = [f"[{each.ip}]" if is_six(each) else str(each.ip) for each in own if each.ip not in stay]
    chosen = " or ".join(f"src = {ip}" for ip in gone)
    return f"ss -HtK {quote(chosen)} >/dev/null 2>&1 || :\n" if gone else ""


@dataclass(frozen=True, slots=True)
class _Going:
    """What takes things away: lines for ``ip`` and for ``ip -6``, and sh for sysctls."""

    four: list[str]
    six: list[str]
    reset: str


def _going(had: Settings, wanted: Settings) -> list[str]:
    """Lines for ``ip``: routes and addresses first, then tunnels."""
    return [
        *(f"rule del {_rule(rule)}" for rule in _rules_to_go(had, wanted) if not is_six(rule.source)),
        *(f"route del {_route(route)}" for route in had.routes if _place(route) not in set(map(_place, wanted.routes))),
        *(f"address del {a.address} dev {_device(a.device)}" for a in _leaving(had, wanted)),
        *(f"link del dev {_device(t.name)}" for t in _remade(had, wanted)),
        *(f"fou del port {port.port:d}" for port in _ports_to_go(had, wanted) if not port.six),
        *(f"link set dev {_device(name)} down" for name in _unlinked(had, wanted)),
    ]


def _going6(had: Settings, wanted: Settings) -> list[str]:
    """Lines for ``ip -6``: rules and ports of fou do not tell the family by what they name."""
    return [
        *(f"rule del {_rule(rule)}" for rule in _rules_to_go(had, wanted) if is_six(rule.source)),
        *(f"fou del port {port.port:d}" for port in _ports_to_go(had, wanted) if port.six),
    ]


def _made(had: Settings, wanted: Settings, gone: _Going) -> str:
    """``setup``, by the same ``ip`` processes that take away what goes before, and the sysctls' defaults as soon as they have."""
    fresh_tunnels = [tunnel for tunnel in wanted.tunnels if tunnel not in had.tunnels]
    moved = had.links != wanted.links
    naming = [_NAMING, *(f"named {_device(link.name)} {quote(link.mac.lower())}\n" for link in wanted.links)]
    sooner, later = _ordered(had, wanted, {tunnel.name for tunnel in fresh_tunnels})
    written = moved or fresh_tunnels or had.sysctls != wanted.sysctls
    ports = [port for port in wanted.fou_ports if port not in had.fou_ports]
    lines = [*_tunnels(fresh_tunnels), *(_fou(port) for port in ports if not port.six)]
    six, going = [_fou(port) for port in ports if port.six], list(gone.four)
    if _network(had) != _network(wanted):
        rules = [rule for rule in wanted.rules if rule in _rules_to_go(had, wanted)]
        going += _landed(had, wanted)
        lines += [*_links(wanted.links), *_addresses(wanted.addresses), *_routes(wanted.routes)]
        lines += _rules(rule for rule in rules if not is_six(rule.source))
        six += _rules(rule for rule in rules if is_six(rule.source))
    parts = [
        *(naming if moved else []),
        *([*_modules(wanted.sysctls), *map(_written, sooner)] if written else []),
        *([_FOU] if had.fou_ports != wanted.fou_ports else []),
        *([_NO_FALLBACK] if fresh_tunnels else []),
        _batch([*going, *lines], forgiven=len(going)),
        _batch([*gone.six, *six], forgiven=len(gone.six), six=True),
        *([_FALLBACK] if fresh_tunnels else []),
        gone.reset,
        *(map(_written, later) if written else []),
    ]
    return "".join(parts)


def _ordered(had: Settings, wanted: Settings, fresh: Set[str]) -> tuple[list[Sysctl], list[Sysctl]]:
    """All sysctls in two parts: for before addresses and routes change, with the larger value where it is to be smaller, and for
    afterwards. Those of ``fresh`` devices come when these are there; less forwarding resets others, so all come again behind it."""
    smaller = {s.key: old for s in wanted.sysctls for old in had.sysctls if old.key == s.key and _less(s, old)}
    devices = [sysctl for sysctl in wanted.sysctls if not fresh.isdisjoint(sysctl.key.split("/"))]
    sooner = [smaller.get(sysctl.key, sysctl) for sysctl in wanted.sysctls if sysctl not in devices]
    if any(key.endswith(_FORWARDING) for key in (*smaller, *(sysctl.key for sysctl in _resets(had, wanted)))):
        return sooner, list(wanted.sysctls)
    return sooner, [sysctl for sysctl in wanted.sysctls if sysctl.key in smaller or sysctl in devices]


def _less(one: Sysctl, other: Sysctl) -> bool:
    return one.value.isdecimal() and other.value.isdecimal() and int(one.value) < int(other.value)


def _network(settings: Settings) -> tuple[object, ...]:
    return settings.links, settings.tunnels, settings.addresses, settings.routes, settings.rules


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


def _landed(had: Settings, wanted: Settings) -> Iterator[str]:
    """The IPv6 VIPs that become a node's own, where one of a pair has them so far: with the prefix length of the subnet. The kernel has an
    address once a device, and «replace» leaves its length as it is (inet6_addr_modify, net/ipv6/addrconf.c); keepalived would take it
    away when it hears that it is alone. It also puts a VIP back 0.2 s after somebody took it (set_vrrp_backup, keepalived_netlink.c of
    2.2.7), so going and coming are next to each other. Another length than its own it leaves alone."""
    for vip in wanted.addresses if had.addresses else ():
        subnets = (own.address.network for own in wanted.addresses if own.device == vip.device and not _is_vip6(own))
        if not _is_vip6(vip) or vip in had.addresses:
            continue
        for subnet in subnets:
            if vip.address.ip in subnet:
                yield f"address del {vip.address.ip}/{subnet.prefixlen} dev {_device(vip.device)}"
                yield f"address add {vip.address} dev {_device(vip.device)}{_flags(vip)}"


def _is_vip6(address: Address) -> bool:
    return is_six(address.address) and address.address.network.prefixlen == 128


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


def _stays(port: FouPort, had: Settings, wanted: Settings) -> bool:
    return port in had.fou_ports and port in wanted.fou_ports


def _ports_to_go(had: Settings, wanted: Settings) -> list[FouPort]:
    return [p for p in dict.fromkeys((*had.fou_ports, *wanted.fou_ports)) if not _stays(p, had, wanted)]


def _rules_to_go(had: Settings, wanted: Settings) -> list[Rule]:
    """Rules to delete: those not wanted, those about to be made, which an interrupted run may have left, and all of them where
    the order of those that stay would differ: a listing shows it."""
    kept = [rule for rule in had.rules if rule in wanted.rules]
    staying = kept if list(wanted.rules[: len(kept)]) == kept else []
    return [rule for rule in dict.fromkeys((*had.rules, *wanted.rules)) if rule not in staying]


def _unlinked(had: Settings, wanted: Settings) -> list[str]:
    names = {link.name for link in wanted.links}
    return [link.name for link in had.links if link.name not in names]


def _links(links: Iterable[Link]) -> Iterator[str]:
    for link in links:
        yield f"link set dev {_device(link.name)} mtu {link.mtu:d} up"


def _fou(port: FouPort) -> str:
    return f"fou add port {port.port:d} gue"


def _tunnels(tunnels: Iterable[Tunnel]) -> Iterator[str]:
    for tunnel in tunnels:
        inside = _INSIDE.get(tunnel.kind, "")
        yield f"link add name {_device(tunnel.name)} type {_device(tunnel.kind)}{inside} local {tunnel.local} remote any"
        yield f"link set dev {_device(tunnel.name)} up"


def _addresses(addresses: Iterable[Address]) -> Iterator[str]:
    for address in addresses:
        yield f"address replace {address.address} dev {_device(address.device)}{_flags(address)}"


def _flags(address: Address) -> str:
    """IPv6: no wait for duplicate address detection. A VIP is «deprecated» from the start: by RFC 6724, rule 8, the kernel would
    otherwise take it as the source of whatever the node asks its neighbours, health checks for one, and a real server that
    has the VIP itself would answer to itself."""
    if not is_six(address.address):
        return ""
    return " nodad preferred_lft 0" if _is_vip6(address) else " nodad"


def _routes(routes: Iterable[Route]) -> Iterator[str]:
    for route in routes:
        advmss = "" if route.advmss is None else f" advmss {route.advmss:d}"
        yield f"route replace {_route(route)}{advmss}"


def _rules(rules: Iterable[Rule]) -> Iterator[str]:
    for rule in rules:
        yield f"rule add {_rule(rule)}"


def _rule(rule: Rule) -> str:
    return f"from {rule.source} lookup {rule.table:d} pref {RULE_PRIORITY}"


def _place(route: Route) -> tuple[object, ...]:
    """What a route takes the place of others by."""
    return route.destination, route.table


def _route(route: Route) -> str:
    via = "" if route.via.is_unspecified else f" via {route.via}"
    table = "" if route.table is None else f" table {route.table:d}"
    return f"{route.destination}{via} dev {_device(route.device)}{table}"


def _modules(sysctls: Iterable[Sysctl]) -> Iterator[str]:
    keys = [sysctl.key for sysctl in sysctls]
    for folder, module in _MODULES.items():
        if any(key.startswith(f"{folder}/") for key in keys):
            yield f"[ -e /proc/sys/{folder} ] || modprobe {module}\n"


def _written(sysctl: Sysctl) -> str:
    return f"{_told(sysctl.value)} >{_path(sysctl)}\n"


def _guarded(sysctl: Sysctl) -> str:
    """The default again, unless the key went with its device."""
    return f"[ ! -e {_path(sysctl)} ] || {_told(sysctl.default)} >{_path(sysctl)}\n"


def _told(value: str) -> str:
    """sh that says ``value``, in as few bytes as may be: all of them pass through an emulated serial port."""
    return f"echo {value}" if value.isalnum() else f"printf '%s\\n' {quote(value)}"


def _path(sysctl: Sysctl) -> str:
    return quote(f"/proc/sys/{sysctl.key}")


def _batch(lines: Sequence[str], *, forgiven: int = 0, six: bool = False) -> str:
    """One ``ip`` process (``ip -6`` where ``six``) for many commands; the first ``forgiven`` of them may fail, and nothing is said of
    that."""
    ip = "ip -6" if six else "ip"
    text = "".join(f"{line}\n" for line in lines)
    if not text:
        return ""
    if not forgiven:
        return f"{ip} -batch - <<'END'\n{text}END\n"
    if forgiven == len(lines):
        return f"{ip} -force -batch - 2>/dev/null <<'END' || :\n{text}END\n"
    return f"{_FORGIVEN}said=$({ip} -force -batch - 2>&1 <<'END'\n{text}END\n) || forgiven {forgiven:d} $?\n"


def _device(name: str) -> str:
    """A word that is safe in a batch line, which has no quoting to rely on."""
    if not re.fullmatch(r"[A-Za-z0-9_.@-]{1,15}", name):
        raise ValueError(f"«{name}» cannot be an interface's name")
    return name
