"""One round trip into a guest: the command that reads all that the rules look at, and what it prints as ``Guest``. Pure.

Under TCG a process costs 10–50 ms, so ``ip`` runs once for everything, and once more where there is IPv6, whose routes and
neighbours it tells in a run of their own only; one grep reads all small files. /proc/net/tcp may be long on a busy server, so a
second grep picks what listens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import Any

from vlab.diagnosis.facts import ANY6, Connection, Daemon, Device, Guest, Hop, Listener, Route
from vlab.lvs import ipvs
from vlab.lvs.settings import KEEPALIVED_CONF
from vlab.topology.family import Address, Interface, is_six

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
MACHINE_ID = "/etc/machine-id"

_CUT = "=== vlab ==="
_IP_ICMP_HEADERS, _IP6_ICMP_HEADERS = 28, 48
_LISTEN, _UDP_OPEN = "0A", "07"
_MOST = 4000
"""Lines read of each socket and connection table."""

_INTERFACE = ("rp_filter", "arp_ignore", "arp_announce", "send_redirects")
_FILES = (
    "/proc/sys/net/ipv4/ip_forward",
    *(f"/proc/sys/net/ipv4/conf/*/{key}" for key in _INTERFACE),
    "/proc/sys/net/ipv4/vs/*",
    "/proc/sys/net/ipv6/conf/all/forwarding",
    "/proc/sys/kernel/osrelease",
    "/proc/modules",
    "/proc/net/arp",
    MACHINE_ID,
    HOST_KEY,
)

_SCRIPT = f"""\
ip -j -d -force -batch - 2>/dev/null <<END
address show
route show table main
$1
END
echo "{_CUT}"
[ -z "$3" ] || printf 'route show table main\nneighbour show\n' | ip -6 -j -d -force -batch - 2>/dev/null
echo "{_CUT}"
grep -s -H '' {" ".join(_FILES)} $2
echo "{_CUT}"
grep -s -H -m {_MOST} -E ' {_LISTEN} | {_UDP_OPEN} |^(TCP|UDP|IP) ' /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 /proc/net/ip_vs_conn
echo "{_CUT}"
if [ -n "$2" ]; then ipvsadm -Ln; ipvsadm -Ln --stats --exact; ipvsadm -l --timeout; ipvsadm -l --daemon; fi 2>/dev/null
echo "{_CUT}"
[ ! -d /sys/module/nf_tables ] || nft list ruleset 2>/dev/null
echo "{_CUT}"
shift 3
while [ $# -gt 0 ]; do
  if ping -q -c 2 -i 0.2 -W 3 -M do -s "$2" "$1"; then echo "$1 yes"
  elif ping -q -c 1 -W 2 "$1"; then echo "$1 no"
  else echo "$1 silent"; fi 2>/dev/null | tail -n 1
  shift 2
done
exit 0
"""


@dataclass(frozen=True, slots=True)
class Questions:
    """What one guest is asked beside what all are asked: which way packets to ``clients`` go; as a director its tables;
    whether packets of so many bytes, not to be fragmented, reach addresses; and with ``six`` IPv6's own tables."""

    clients: tuple[Address, ...] = ()
    directs: bool = False
    packets: tuple[tuple[Address, int], ...] = ()
    six: bool = False


def command(questions: Questions) -> list[str]:
    """The argv that reads everything."""
    gets = "".join(f"route get {address}\n" for address in questions.clients)
    pings = [word for ip, size in questions.packets for word in (str(ip), str(_payload(ip, size)))]
    conf, six = KEEPALIVED_CONF if questions.directs else "", "six" if questions.six else ""
    return ["sh", "-c", _SCRIPT, "sh", gets, conf, six, *pings]


def _payload(address: Address, size: int) -> int:
    """What ping is to put into a packet of ``size`` bytes."""
    return size - (_IP6_ICMP_HEADERS if is_six(address) else _IP_ICMP_HEADERS)


def parse(questions: Questions, output: str) -> Guest:
    """Raises ``ValueError`` when ``output`` is not what ``command(questions)`` prints."""
    network, network6, files_text, sockets, table, ruleset, pings = output.split(f"{_CUT}\n")
    links, routes, *gets = _tables(network)
    routes6, neighbours = _tables(network6) if questions.six else ([], [])
    files = _files(files_text.splitlines())
    return Guest(
        devices={link["ifname"]: _device(link) for link in links if "ifname" in link},
        addresses=tuple(_addresses(links)),
        routes=(*_routes(routes, "0.0.0.0/0"), *_routes(routes6, "::/0")),
        hops=dict(_hops(item for found in gets for item in found)),
        files=files,
        listeners=frozenset(_listeners(sockets.splitlines())),
        connections=tuple(_connections(sockets.splitlines())),
        table=ipvs.parse(table) if questions.directs else None,
        timeouts=_timeouts(table),
        ruleset=ruleset,
        carried=_carried(pings.splitlines()),
        daemons=tuple(_daemons(table)),
        neighbours6={ip_address(it["dst"]): it["lladdr"].lower() for it in neighbours if "lladdr" in it},
    )


def _tables(text: str) -> list[list[dict[str, Any]]]:
    """``ip`` prints a line of JSON for each line of its batch that it understood."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _files(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        path, _, text = line.partition(":")
        found.setdefault(path, []).append(text)
    return {path: tuple(texts) for path, texts in found.items()}


def _device(link: dict[str, Any]) -> Device:
    info = link.get("linkinfo", {})
    local = str(info.get("info_data", {}).get("local", ""))
    mac = link.get("address", "").lower() if link.get("link_type") in ("ether", "loopback") else ""
    return Device(link["ifname"], mac, link["mtu"], "UP" in link["flags"], str(info.get("info_kind", "")), local)


def _addresses(links: Iterable[dict[str, Any]]) -> Iterator[tuple[str, Interface]]:
    """Those of a link alone (fe80::…) are left out: everybody has some."""
    for link in links:
        for item in link.get("addr_info", []):
            if item.get("family") in ("inet", "inet6") and item.get("scope") != "link":
                yield link["ifname"], ip_interface(f"{item['local']}/{item['prefixlen']}")


def _routes(items: Iterable[dict[str, Any]], anywhere: str) -> list[Route]:
    return [_route(item, anywhere) for item in items if "dev" in item]


def _route(item: dict[str, Any], anywhere: str) -> Route:
    destination = anywhere if item["dst"] == "default" else item["dst"]
    advmss = next((metric["advmss"] for metric in item.get("metrics", []) if "advmss" in metric), None)
    return Route(ip_network(destination), _via(item), item["dev"], advmss)


def _hops(items: Iterable[dict[str, Any]]) -> Iterator[tuple[Address, Hop]]:
    for item in items:
        if "dst" in item and "dev" in item:
            yield ip_address(item["dst"]), Hop(_via(item), item["dev"])


def _via(item: dict[str, Any]) -> Address | None:
    return ip_address(item["gateway"]) if "gateway" in item else None


def _listeners(lines: Iterable[str]) -> Iterator[Listener]:
    """Of /proc/net/tcp, udp and their IPv6 sisters. «Any» there takes IPv4 too, but for ports on which somebody listens in IPv4
    as well: the kernel lets both be bound only where the former is of IPv6 alone."""
    four, six = set[Listener](), set[Listener]()
    for line in lines:
        path, _, row = line.partition(":")
        words = row.split()
        protocol = path.removeprefix("/proc/net/").rstrip("6")
        if protocol in ("tcp", "udp") and words[3] == (_LISTEN if protocol == "tcp" else _UDP_OPEN):
            address, _, port = words[1].partition(":")
            for known in _listening(address):
                (four if len(address) == 8 else six).add(Listener(protocol, known, int(port, 16)))
    taken = {(it.protocol, it.port) for it in four}
    yield from four
    yield from (it for it in six if it.address or (it.protocol, it.port) not in taken)


def _listening(text: str) -> tuple[Address | None, ...]:
    """The addresses that a listener has, as ``Listener`` says them; «any» of a socket of IPv6 may be both."""
    if not text.strip("0"):
        return (None,) if len(text) == 8 else (None, ANY6)
    if len(text) == 8:
        return (IPv4Address(_swapped(text)),)
    address = IPv6Address(b"".join(_swapped(text[at : at + 8]) for at in range(0, 32, 8)))
    return (address.ipv4_mapped or address,)


def _swapped(word: str) -> bytes:
    """/proc/net/tcp prints words of addresses as the processor has them in memory: x86 has the last byte first."""
    return bytes.fromhex(word)[::-1]


def _connections(lines: Iterable[str]) -> Iterator[Connection]:
    for line in lines:
        path, _, row = line.partition(":")
        words = row.split()
        if path == "/proc/net/ip_vs_conn" and len(words) >= 8:
            client, vip, server = (_connected(words[at]) for at in (1, 3, 5))
            yield Connection(client, int(words[2], 16), vip, int(words[4], 16), server, words[7])


def _connected(text: str) -> Address:
    """ip_vs prints IPv4 addresses as one number and IPv6 addresses in full (ip_vs_conn_seq_show)."""
    return IPv6Address(text) if ":" in text else IPv4Address(int(text, 16))


def _daemons(text: str) -> Iterator[Daemon]:
    """«master sync daemon (mcast=eth1, syncid=51, …)»."""
    for part, device, id in re.findall(
        r"^(master|backup) sync daemon \(mcast=([^,]+), syncid=(\d+)", text, re.MULTILINE
    ):
        yield Daemon(part, device, int(id))


def _timeouts(text: str) -> tuple[int, int, int] | None:
    found = re.search(r"^Timeout \(tcp tcpfin udp\): (\d+) (\d+) (\d+)", text, re.MULTILINE)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _carried(lines: Sequence[str]) -> dict[Address, bool | None]:
    meaning = {"yes": True, "no": False, "silent": None}
    words = (line.split() for line in lines)
    return {ip_address(ip): meaning[answer] for ip, answer in words}
