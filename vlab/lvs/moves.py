"""Which services go over to another way of forwarding. Pure; ``switching`` has them go over without losing requests."""

from __future__ import annotations

from collections.abc import Iterable

from vlab.topology.lab import Service


def moves(before: Iterable[Service], after: Iterable[Service]) -> dict[str, str]:
    """What goes over to another way of forwarding, and how, by service name: «from nat to dr»."""
    had = {service.name: service for service in before}
    return {
        service.name: f"from {had[service.name].mode} to {service.mode}"
        for service in after
        if service.name in had and _way(had[service.name]) != _way(service)
    }


def _way(service: Service) -> tuple[object, ...]:
    return service.mode, service.tunnel, service.snat, service.vip, service.network, service.inner_network
