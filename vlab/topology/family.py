"""IPv4 and IPv6 side by side: the address types that may be either, and the few things in which their notations differ. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_interface

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Subnet = IPv4Network | IPv6Network


def is_six(address: Address | Interface | Subnet) -> bool:
    """Whether it is IPv6."""
    return address.version == 6


def alone(address: Address) -> Interface:
    """The address without a subnet: /32, or /128 in IPv6."""
    return ip_interface(address)


def literal(address: Address) -> str:
    """The address as URLs and ipvsadm write it before a port: IPv6 in brackets."""
    return f"[{address}]" if is_six(address) else str(address)


def endpoint(address: Address, port: int) -> str:
    """«10.20.0.100:80» or «[fd00:20::100]:80»."""
    return f"{literal(address)}:{port}"
