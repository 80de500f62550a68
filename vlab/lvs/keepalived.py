"""keepalived.conf for a director, from the services it serves. Pure; understood by keepalived 2.2 and later.

Everything that keepalived would default is written out: its own defaults (NAT, a check each minute, 6 minutes of persistence)
surprise people, and the file is what they read. No VRRP, hence no ``vrrp_strict``, which would firewall the VIP.

``alpha`` starts with all servers down and ``warmup 0`` checks them at once: a server takes traffic as soon as it has proved
to be alive, and never before. ``inhibit_on_failure`` is not used: a dead server leaves the table.
"""

from __future__ import annotations

from collections.abc import Iterator

from vlab.lvs.index import index
from vlab.lvs.modes import mode
from vlab.topology.lab import Lab, Node, RealServer, Service

RETRIES = 1
"""Further attempts before a server that was up counts as down: one slow answer on a busy host is not a failure."""

DELAY_BEFORE_RETRY = 1


def render(lab: Lab, director: Node) -> str:
    """The whole text of ``director``'s keepalived.conf."""
    services = [role.service for role in index(lab).directing.get(director.name, ())]
    return "\n".join([*_head(lab, director), *(line for service in services for line in _service(service)), ""])


def _head(lab: Lab, director: Node) -> Iterator[str]:
    yield f"# {director.name} of lab {lab.name}. Written by vlab from its topology; the next «vlab up» overwrites changes."
    yield "global_defs {"
    yield f"    router_id {director.name}"
    yield "    enable_script_security"
    yield "    # Start from an empty table, whatever a crashed predecessor left behind."
    yield "    lvs_flush"
    yield "}"


def _service(service: Service) -> Iterator[str]:
    forwarding = mode(service.mode)
    yield ""
    yield f"# Service {service.name}: {forwarding.title} to real servers on {service.inner_network}."
    yield f"virtual_server {service.vip} {service.port} {{"
    yield from _aligned(
        ("protocol", service.protocol.upper()),
        ("lvs_sched", service.scheduler),
        ("lvs_method", forwarding.keepalived),
        *([("persistence_timeout", str(service.persistence))] if service.persistence is not None else []),
        ("delay_loop", f"{service.check.every:g}"),
        ("connect_timeout", f"{service.check.timeout:g}"),
        ("retry", str(RETRIES)),
        ("delay_before_retry", str(DELAY_BEFORE_RETRY)),
        ("warmup", "0"),
        ("alpha", ""),
    )
    for server in service.real_servers:
        yield from _real_server(service, server)
    yield "}"


def _real_server(service: Service, server: RealServer) -> Iterator[str]:
    yield ""
    yield f"    # {server.node}"
    yield f"    real_server {server.address} {server.port} {{"
    yield f"        weight {server.weight}"
    yield from (f"        {line}" for line in _CHECKS[_check(service)](service))
    yield "    }"


def _check(service: Service) -> str:
    # A connect proves nothing for UDP; keepalived has a checker that watches for ICMP port unreachable.
    return "udp" if (service.protocol, service.check.kind) == ("udp", "tcp") else service.check.kind


def _http(service: Service) -> list[str]:
    return [
        "HTTP_GET {",
        "    fast_recovery",
        "    url {",
        f"        path {_word(service.check.path)}",
        "        status_code 200",
        "    }",
        "}",
    ]


def _word(text: str) -> str:
    """Quoted where keepalived would take part of it for a comment or a parameter."""
    return f'"{text}"' if any(mark in text for mark in "!$~@") else text


def _tcp(_service: Service) -> list[str]:
    return ["TCP_CHECK {", "}"]


def _udp(_service: Service) -> list[str]:
    return ["UDP_CHECK {", "}"]


_CHECKS = {"http": _http, "tcp": _tcp, "udp": _udp}


def _aligned(*pairs: tuple[str, str]) -> Iterator[str]:
    width = max(len(key) for key, _ in pairs)
    yield from (f"    {key:<{width}} {value}".rstrip() for key, value in pairs)
