"""What ``vlab check`` read of a running lab, as data. Pure; ``reading`` and ``asking`` make it of what guests print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from vlab.lvs.ipvs import Table
from vlab.topology.family import Address, Interface, Subnet, is_six

MAXIMUM_OF_ALL = frozenset({"arp_ignore", "arp_announce", "rp_filter", "send_redirects"})
"""Of these the larger of «all» and the interface is in force (Documentation/networking/ip-sysctl.rst)."""


ANY6 = IPv6Address(0)


@dataclass(frozen=True, slots=True)
class Device:
    """A network device inside a guest. ``kind`` is iproute2's («ipip», «veth»; empty for plain ones), ``local`` a tunnel's own end."""

    name: str
    mac: str
    mtu: int
    up: bool
    kind: str = ""
    local: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table. ``via`` is None for one that needs no gateway; ``advmss`` in bytes, None where not set."""

    destination: Subnet
    via: Address | None
    device: str
    advmss: int | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """What ``ip route get`` says of one destination: ``via`` None means straight on ``device``."""

    via: Address | None
    device: str


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits for clients. ``address`` is None for any of IPv4, ``ANY6`` for any of IPv6."""

    protocol: str
    address: Address | None
    port: int

    def takes(self, address: Address) -> bool:
        """Whether packets to ``address`` reach it."""
        return self.address in (address, ANY6 if is_six(address) else None)


@dataclass(frozen=True, slots=True)
class Connection:
    """An entry of ip_vs' connection table. A client port of 0 is a template: what persistence remembers of a client."""

    client: Address
    client_port: int
    vip: Address
    port: int
    server: Address
    state: str


@dataclass(frozen=True, slots=True)
class Daemon:
    """A part of ip_vs' sync daemon: «master» tells of connections on ``device``, «backup» listens there, both under ``id``."""

    part: str
    device: str
    id: int


@dataclass(frozen=True, slots=True)
class Guest:
    """One guest's inside. ``files`` are lines by path, also of /proc; ``table`` and ``timeouts`` (tcp, tcpfin, udp in seconds) are
    None on what is no director; ``carried`` tells by real server's address whether the largest wrapped packet passed, None where
    not even a small one did; ``ruleset`` is what nft lists; ``daemons`` are a director's; ``neighbours6`` are MACs by address, of
    complete entries."""

    devices: Mapping[str, Device] = field(default_factory=dict)
    addresses: tuple[tuple[str, Interface], ...] = ()
    routes: tuple[Route, ...] = ()
    hops: Mapping[Address, Hop] = field(default_factory=dict)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    listeners: frozenset[Listener] = frozenset()
    connections: tuple[Connection, ...] = ()
    table: Table | None = None
    timeouts: tuple[int, int, int] | None = None
    ruleset: str = ""
    carried: Mapping[Address, bool | None] = field(default_factory=dict)
    daemons: tuple[Daemon, ...] = ()
    neighbours6: Mapping[Address, str] = field(default_factory=dict)

    def line(self, path: str) -> str:
        """The first line of a file that was read, empty when it is not there."""
        return next(iter(self.files.get(path, ())), "").strip()

    def sysctl(self, key: str) -> str | None:
        """The value of a key in slash form («net/ipv4/ip_forward»), None when this kernel or guest has no such key."""
        return self.line(f"/proc/sys/{key}") or None

    def in_force(self, device: str, key: str) -> int | None:
        """The effective value of a key under net/ipv4/conf for an interface, None when it is not there."""
        own, shared = (self.sysctl(f"net/ipv4/conf/{name}/{key}") for name in (device, "all"))
        if own is None or shared is None:
            return None
        return max(int(own), int(shared)) if key in MAXIMUM_OF_ALL else int(own)

    def modules(self) -> frozenset[str]:
        """Names of the loaded kernel modules."""
        return frozenset(line.split()[0] for line in self.files.get("/proc/modules", ()) if line)

    def neighbours(self) -> dict[Address, str]:
        """MAC by address, of entries that are complete (/proc/net/arp: flag 0x2)."""
        rows = (line.split() for line in self.files.get("/proc/net/arp", ())[1:])
        four: dict[Address, str] = {
            IPv4Address(row[0]): row[3].lower() for row in rows if len(row) > 5 and int(row[2], 16) & 2
        }
        return {**four, **self.neighbours6}


@dataclass(frozen=True, slots=True)
class Fabric:
    """The host's side of the lab. ``sysctls`` are those of the lab's namespace by path under /proc/sys/net, ``ruleset`` what nft lists there;
    ``filters`` are libvirt's network filters by node; ``answers`` the MACs that answered ARP questions or neighbour solicitations, by
    address asked for."""

    sysctls: Mapping[str, str] = field(default_factory=dict)
    ruleset: str = ""
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    answers: Mapping[Address, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking a web service from ``node``: how many of ``requests`` small questions and of as many questions with a
    3 kB body were answered, and by how many packets with a bad checksum the node's counters grew meanwhile."""

    node: str
    requests: int
    small: int
    large: int
    bad_checksums: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was read. ``guests`` holds those that could be read, ``unread`` why the others could not, by node;
    ``asked`` is by service name."""

    guests: Mapping[str, Guest] = field(default_factory=dict)
    fabric: Fabric = Fabric()
    asked: Mapping[str, Asked] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
