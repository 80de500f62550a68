"""What a guest's inside must look like, as data: addresses, routes, sysctls, tunnels, files, units. Pure.

Each item carries ``why``, which ``vlab explain`` prints and no comparison sees. ``guests/transition.py`` turns the difference
of two ``Settings`` into one script, so a mode switch removes the old settings instead of piling new ones up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network


@dataclass(frozen=True, slots=True)
class Link:
    """An Ethernet interface of the guest, known by its MAC; the guest's own name for it is ``name`` («eth0»)."""

    name: str
    mac: str
    mtu: int
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel device (``kind`` «ipip») on ``local``, any remote, that decapsulates."""

    name: str
    kind: str
    local: IPv4Address
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Address:
    """``device`` is a Link's name, «lo», or a Tunnel's name."""

    device: str
    address: IPv4Interface
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Route:
    """``destination`` 0.0.0.0/0 is the default route. ``advmss`` is in bytes, None to leave it to the kernel."""

    destination: IPv4Network
    via: IPv4Address
    device: str
    advmss: int | None = None
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Sysctl:
    """``key`` in slash form under /proc/sys («net/ipv4/conf/all/arp_ignore»). ``default`` is written when the setting goes."""

    key: str
    value: str
    default: str
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class File:
    """``content`` is text; the file is removed when the setting goes."""

    path: str
    content: str
    mode: int = 0o644
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd unit that must run; when one of ``watches`` (file paths) changes it is reloaded, or restarted where it cannot."""

    name: str
    watches: tuple[str, ...] = ()
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything vlab sets inside one guest. Tuples are ordered as they are applied."""

    hostname: str
    machine_id: str
    links: tuple[Link, ...] = ()
    tunnels: tuple[Tunnel, ...] = ()
    sysctls: tuple[Sysctl, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    files: tuple[File, ...] = ()
    units: tuple[Unit, ...] = ()
