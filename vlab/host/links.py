"""Links of labs over netlink: bridges, and the taps and veths that libvirt makes and vlab moves onto them.

Every link carries the lab's mark as its alias (``marks.py``), and for people a readable altname: ``ip link show web1.back``. What is
unmarked is never touched. The only importer of pyroute2, which costs 0.2 s and is therefore imported when first needed.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any, TypeVar

from vlab.errors import HostError
from vlab.host import sysctls
from vlab.host.marks import (
    DEVICE,
    ROUTER6,
    Bridge,
    Counters,
    Link,
    Links,
    Port,
    bridge_mac,
    mark,
    ours,
    parse_counters,
    parse_mark,
)
from vlab.host.namespace import FOLDER, create_namespace, delete_namespace, half_made, inside, namespaces
from vlab.topology.lab import Network

__all__ = [
    "Bridge", "Counters", "Links", "Port", "adopt", "adopt_all", "counters", "create_namespace", "delete_namespace",
    "ensure_bridge", "half_made", "namespaces", "observe", "remove_bridge", "root_leftovers", "set_port",
]  # fmt: skip

log = logging.getLogger("vlab.links")

T = TypeVar("T")

# As plain as a cable: forwards at once; floods all multicast (VRRP's 224.0.0.18 has members that send no IGMP); is not filtered by
# the host's br_netfilter. Set one by one in this order: with STP still on, the kernel refuses a forward delay of 0.
PLAIN = {
    "br_stp_state": 0, "br_forward_delay": 0, "br_mcast_snooping": 0, "br_mcast_querier": 0,
    "br_nf_call_iptables": 0, "br_nf_call_ip6tables": 0, "br_nf_call_arptables": 0,
}  # fmt: skip

IFF_UP = 0x1

IFA_F_NODAD = 0x02
"""include/uapi/linux/if_addr.h"""

HINTS = {
    errno.EPERM: "run vlab as root",
    errno.EXFULL: "a Linux bridge has at most 1023 ports; spread the guests over more networks",
}


def observe(namespace: str) -> Links:
    """The marked links of a namespace. Raises ``UsageError`` when it does not exist."""
    with _explained(f"cannot read the links of {namespace}"):
        return ours(_netlink(namespace, _links))


def ensure_bridge(namespace: str, lab: str, network: Network) -> None:
    """Make the network's bridge, or mend what differs: plain, marked, up, with the gateway's address and no other."""
    with _explained(f"cannot make the bridge of network {network.name}"):
        _netlink(namespace, functools.partial(_ensure_bridge, lab=lab, network=network))


def remove_bridge(namespace: str, network: str) -> None:
    """Remove the bridge of the network with this name; its ports stay, on no bridge. Nothing happens when there is none."""
    for bridge in observe(namespace).bridges:
        if bridge.network == network:
            with _explained(f"cannot remove the bridge of network {network}"):
                _netlink(namespace, functools.partial(_delete, devices=[bridge.device]))


def adopt(namespace: str, device: str, bridge: str, altname: str, mtu: int, mark: str) -> None:
    """``adopt_all`` for one port."""
    adopt_all(namespace, [Port(device, altname, bridge, mtu, mark)])


def adopt_all(namespace: str, ports: Sequence[Port]) -> None:
    """Move devices that libvirt made in the root namespace into the lab's, and put each on its bridge: marked, up, with its MTU.

    One that is there already is mended only. Raises ``HostError`` naming the devices that are nowhere, or when a bridge is full.
    The kernel takes about 16 ms to move a device, batch or not; all else takes about 1 ms.
    """
    with _explained(f"cannot put {_names(ports)} on the lab's bridges"):
        strays = _netlink(None, functools.partial(_indices, devices=[port.device for port in ports]))
        if strays:
            # A guest that is made again can meet its predecessor's veth, which the kernel frees late.
            _netlink(namespace, functools.partial(_delete, devices=strays))
            _netlink(None, functools.partial(_move, ports=ports, indices=strays, namespace=namespace))
        _netlink(namespace, functools.partial(_connect, ports=ports))


def set_port(namespace: str, device: str, *, up: bool) -> bool:
    """Take the host's end of a guest's cable up or down; whether that changed anything. Raises ``HostError`` when it is not there."""
    with _explained(f"cannot set {device} in {namespace}"):
        return _netlink(namespace, functools.partial(_set_port, device=device, up=up))


def root_leftovers(pattern: re.Pattern[str] = DEVICE) -> list[str]:
    """Devices of ours in the caller's own (root) namespace, known by mark or form of name: made by libvirt, adopted by nobody."""
    names = [name for _, name in socket.if_nameindex()]
    return sorted(name for name in names if pattern.fullmatch(name) or parse_mark(_alias(name)))


def counters(namespace: str) -> dict[str, Counters]:
    """Statistics of every link in the namespace, by device name."""
    return parse_counters(inside(namespace, Path("/proc/thread-self/net/dev").read_text))


def _alias(device: str) -> str:
    try:
        return Path(f"/sys/class/net/{device}/ifalias").read_text().strip()
    except OSError:
        return ""


def _names(ports: Sequence[Port]) -> str:
    shown = ", ".join(port.altname for port in ports[:3])
    return shown if len(ports) <= 3 else f"{shown} and {len(ports) - 3} more"


def _netlink(namespace: str | None, deed: Callable[[Any], T]) -> T:
    """The result of ``deed``, given a netlink socket in ``namespace`` (None: the caller's own).

    In a thread of its own even there, because pyroute2 runs an event loop and must not meet the caller's.
    """

    def connected() -> T:
        from pyroute2.iproute.linux import IPRoute

        with IPRoute() as ip:
            return deed(ip)

    return inside(namespace, connected)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    # First what _netlink imports: pyroute2's modules import each other, and two threads must not enter them from two sides.
    import pyroute2.iproute.linux
    from pyroute2.netlink.exceptions import NetlinkError

    assert pyroute2.iproute.linux
    try:
        yield
    except NetlinkError as error:
        raise HostError(f"{what}: {error.args[1]}", hint=HINTS.get(error.code, "")) from error


# Deeds over an open netlink socket, run inside a namespace.


def _links(ip: Any) -> list[Link]:
    addresses = {message["index"]: _interface(message) for message in ip.get_addr(family=socket.AF_INET)}
    six = [(message["index"], _interface6(message)) for message in ip.get_addr(family=socket.AF_INET6)]
    addresses6 = {index: address for index, address in six if not address.is_link_local}
    routers = frozenset(index for index, address in six if address == ROUTER6)
    return [_link(message, addresses, addresses6, routers) for message in ip.get_links()]


def _link(
    message: Any,
    addresses: Mapping[int, IPv4Interface],
    addresses6: Mapping[int, IPv6Interface],
    routers: frozenset[int],
) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    return Link(
        index=message["index"],
        device=message.get_attr("IFLA_IFNAME"),
        kind=(info.get_attr("IFLA_INFO_KIND") if info else "") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        alias=message.get_attr("IFLA_IFALIAS") or "",
        master=(message.get_attr("IFLA_MASTER") or 0) if message["flags"] & IFF_UP else 0,
        address=addresses.get(message["index"]),
        address6=addresses6.get(message["index"]),
        routes6=message["index"] in routers,
    )


def _interface(message: Any) -> IPv4Interface:
    return IPv4Interface(f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}")


def _interface6(message: Any) -> IPv6Interface:
    return IPv6Interface(f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}")


def _indices(ip: Any, devices: Iterable[str]) -> dict[str, int]:
    """Device → index of those that exist. One question each: a dump of a lab with 1,000 ports takes 0.4 s."""
    from pyroute2.netlink.exceptions import NetlinkError

    found: dict[str, int] = {}
    for device in devices:
        try:
            found[device] = ip.link("get", ifname=device)[0]["index"]
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise
    return found


def _ensure_bridge(ip: Any, lab: str, network: Network) -> None:
    if not _indices(ip, [network.bridge]):
        ip.link("add", ifname=network.bridge, kind="bridge", address=bridge_mac(lab, network.name))
    index = _indices(ip, [network.bridge])[network.bridge]
    for option, value in PLAIN.items():
        ip.link("set", index=index, kind="bridge", **{option: value})
    ip.link("set", index=index, mtu=network.mtu, ifalias=mark(lab, network.name), state="up")
    _add_altname(ip, index, network.name)
    _set_address(ip, index, IPv4Interface(f"{network.gateway}/{network.subnet.prefixlen}"))
    _set_address6(ip, index, network)


def _set_address(ip: Any, index: int, wanted: IPv4Interface) -> None:
    present = {_interface(message) for message in ip.get_addr(index=index, family=socket.AF_INET)}
    for address in present - {wanted}:
        ip.addr("del", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)
    if wanted not in present:
        ip.addr("add", index=index, address=str(wanted.ip), prefixlen=wanted.network.prefixlen)


def _set_address6(ip: Any, index: int, network: Network) -> None:
    """By way of the switch: whatever IPv6 addresses the bridge had go with it."""
    sysctls.write(sysctls.ipv6_off(network.bridge))
    if network.gateway6 and network.subnet6:
        sysctls.write(sysctls.ipv6_on(network.bridge))
        # Even where no duplicate is looked for, an address is not usable until the kernel came round to that, but for this flag.
        prefix = network.subnet6.prefixlen
        ip.addr("add", index=index, address=str(network.gateway6), prefixlen=prefix, flags=IFA_F_NODAD)
        if network.routed:
            local = ROUTER6.network.prefixlen
            ip.addr("add", index=index, address=str(ROUTER6.ip), prefixlen=local, flags=IFA_F_NODAD)


def _add_altname(ip: Any, index: int, name: str) -> None:
    """For people only: a name that is taken (by this link, or by «lo» for a network of that name) is left out."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        ip.link("property_add", index=index, altname=name)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        log.debug("altname %s is taken already", name)


def _delete(ip: Any, devices: Iterable[str]) -> None:
    for index in _indices(ip, devices).values():
        ip.link("del", index=index)


def _set_port(ip: Any, device: str, *, up: bool) -> bool:
    found = ip.link("get", ifname=device)[0]
    if bool(found["flags"] & IFF_UP) == up:
        return False
    ip.link("set", index=found["index"], state="up" if up else "down")
    return True


def _move(ip: Any, ports: Sequence[Port], indices: Mapping[str, int], namespace: str) -> None:
    """Move and mark in one request, so that a run killed right after leaves a port that is known as the lab's."""
    descriptor = os.open(FOLDER / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for port in ports:
            if index := indices.get(port.device):
                ip.link("set", index=index, net_ns_fd=descriptor, ifalias=mark(port.mark, port.altname))
    finally:
        os.close(descriptor)


def _connect(ip: Any, ports: Sequence[Port]) -> None:
    here = _indices(ip, [port.device for port in ports])
    bridges = _indices(ip, {port.bridge for port in ports})
    _refuse_absent(
        [port for port in ports if port.device not in here], {port.bridge for port in ports} - bridges.keys()
    )
    for port in ports:
        index, master, alias = here[port.device], bridges[port.bridge], mark(port.mark, port.altname)
        ip.link("set", index=index, master=master, mtu=port.mtu, ifalias=alias, state="up")
        _add_altname(ip, index, port.altname)


def _refuse_absent(absent: Sequence[Port], bridges: Iterable[str]) -> None:
    if absent:
        details = [f"{port.altname} (device {port.device})" for port in absent]
        raise HostError(f"there is no device for {_names(absent)}", details=details, hint="does the guest still run?")
    if lost := sorted(bridges):
        raise HostError(f"there is no bridge {', '.join(lost)} in the lab", hint="vlab up makes it again")
