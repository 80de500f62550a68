"""The commands that an administrator would have typed for a declared service, in ipvsadm(8)'s words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from vlab.lvs.keepalived import granularity
from vlab.lvs.listing import joined
from vlab.topology.lab import RealServer, Service
from vlab.topology.tunnels import CHECKSUMS, TUNNELS

PROTOCOL = {"tcp": "-t", "udp": "-u"}

FORWARDING = {"Masq": "-m", "Route": "-g", "Tunnel": "-i"}
"""The option for what ``ipvsadm -Ln`` calls the forwarding method."""


def typed(service: Service, method: str) -> Iterator[str]:
    """One command for each service of the kernel, one for each real server of it; nothing is left to ipvsadm's defaults. ``method``
    is ipvsadm's word for the forwarding mode."""
    for each in service.each():
        address = address_of(each)
        yield f"ipvsadm -A {address} -s {each.scheduler}{_options(each)}"
        yield from (f"ipvsadm -a {address} {_server(server, method)}{tunnel_of(each)}" for server in each.real_servers)


def address_of(service: Service) -> str:
    """What stands for one of the kernel's services in every command about it."""
    if service.fwmark is not None:
        return f"-f {service.fwmark}" + (" -6" if ":" in str(service.vip) else "")
    return f"{PROTOCOL[service.protocol]} {joined(str(service.vip), service.port)}"


def _options(service: Service) -> str:
    flags = f" -b {','.join(service.scheduler_flags)}" if service.scheduler_flags else ""
    mask = f" -M {granularity(service)}" if service.netmask < service.vip.max_prefixlen else ""
    persistence = f" -p {service.persistence}{mask}" if service.persistence is not None else ""
    return f"{flags}{persistence}{' -o' if service.one_packet else ''}"


def tunnel_of(service: Service) -> str:
    """Nothing for ipip, which is what ipvsadm wraps in by default."""
    tunnel = service.tunnel
    if tunnel is None or not (words := TUNNELS[tunnel.type].ipvsadm):
        return ""
    return f" {words}".format(port=tunnel.port, checksum=CHECKSUMS[tunnel.checksum].keepalived)


def _server(server: RealServer, method: str) -> str:
    limits = "".join(f" {option} {limit}" for option, limit in (("-x", server.upper), ("-y", server.lower)) if limit)
    return f"-r {joined(str(server.address), server.port)} {FORWARDING[method]} -w {server.weight}{limits}"
