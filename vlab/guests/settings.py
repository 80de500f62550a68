"""What a guest's inside must look like, as data: addresses, routes, sysctls, tunnels, files, units. Pure.

Each item carries ``why``, which ``vlab explain`` prints and no comparison sees. ``guests/transition.py`` turns the difference
of two ``Settings`` into one script, so a mode switch removes the old settings instead of piling new ones up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vlab.topology import family


@dataclass(frozen=True, slots=True)
class Link:
    """An Ethernet interface of the guest, known by its MAC; the guest's own name for it is ``name`` («eth0»)."""

    name: str
    mac: str
    mtu: int
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel device (``kind`` «ipip», «gre», or in IPv6 «ip6tnl», «ip6gre») on ``local``, any remote, that decapsulates."""

    name: str
    kind: str
    local: family.Address
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class FouPort:
    """A UDP port at which the kernel (module fou) takes packets out of GUE; what is in them goes on to a tunnel device.
    ``six``: the port is IPv6's, which is another one than IPv4's of the same number."""

    port: int
    why: str = field(default="", compare=False)
    six: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """``device`` is a Link's name, «lo», or a Tunnel's name. An IPv6 address is used at once, without duplicate address
    detection; a /128 is a VIP and never chosen as a source by the kernel."""

    device: str
    address: family.Interface
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Route:
    """``destination`` 0.0.0.0/0 (::/0) is the default route, ``via`` 0.0.0.0 (::) no gateway. ``advmss`` is in bytes, None to
    leave it to the kernel; ``table`` is a routing table that some ``Rule`` leads to, None for the main one."""

    destination: family.Subnet
    via: family.Address
    device: str
    advmss: int | None = None
    why: str = field(default="", compare=False)
    table: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Packets from ``source`` look into routing table ``table`` before the main one."""

    source: family.Address
    table: int
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
    """A systemd unit that must run; when one of ``watches`` (file paths) changes it is reloaded, or restarted where it cannot.
    A program that is called as its unit, and leaves its number in /run/NAME.pid, reloads at SIGHUP, as daemons do."""

    name: str
    watches: tuple[str, ...] = ()
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """A real server as ip_vs' table is to have it while it is up, in ipvsadm's words: ``place`` is the service and the server («-t
    10.20.0.100:80 -r 10.30.0.11:80»), ``way`` how packets are forwarded («-g»). The thresholds are 0 for none. ``spare``: a sorry server."""

    place: str
    way: str
    weight: int = 1
    upper: int = 0
    lower: int = 0
    spare: bool = False
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
    fou_ports: tuple[FouPort, ...] = ()
    rules: tuple[Rule, ...] = ()
    entries: tuple[Entry, ...] = ()
    """Who makes them is a director's keepalived; ``table_script`` does what it leaves undone."""
