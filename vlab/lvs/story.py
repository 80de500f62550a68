"""One request through a service, told from the packets that were seen on its way: who sent what to whom, and who rewrote what. Pure.

The request's first packet (a TCP SYN, or a UDP datagram) and the first answer to it are followed from interface to interface. A packet is
known again by what neither NAT nor a tunnel changes: TCP's sequence numbers and flags, and the payload. A datagram has no number, and
whoever answers may send the same bytes back: it goes the same way, and unless the director rewrites it (full NAT) it is the same client's.
So nothing here depends on the forwarding mode; what the mode did is what the story shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vlab.topology.lab import Lab, Service
from vlab.wire.frames import FLAGS, Address, Frame, Header

GATEWAY = "gateway"
"""The lab's own, which forwards between its routed networks; nodes' names end in digits."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A frame on an interface of ``node``, which may be the ``GATEWAY``. ``time`` is in nanoseconds; ``sent``: the node sent it (else it was
    given to the node)."""

    time: int
    node: str
    network: str
    sent: bool
    frame: Frame


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``name`` is the node that has the address, or the service whose VIP it is; empty for a stranger's."""

    address: str
    port: int
    name: str

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Outer:
    """A header around the packet: ``tunnel`` is «ipip», «gre» or «gue»."""

    tunnel: str
    source: str
    destination: str

    def __str__(self) -> str:
        return f"{self.tunnel} {self.source} → {self.destination}"


@dataclass(frozen=True, slots=True)
class Change:
    """What ``by`` did to the packet between getting and sending it. ``what``: source, destination, source MAC, destination MAC, TTL or
    outer header; ``before`` or ``after`` is empty where something was added or removed."""

    by: str
    what: str
    before: str
    after: str

    def __str__(self) -> str:
        if not self.before:
            return f"{self.what} added: {self.after}"
        return f"{self.what} {self.before} → {self.after}" if self.after else f"{self.what} removed: {self.before}"


@dataclass(frozen=True, slots=True)
class Row:
    """A packet's way over one network. ``packet``: request, reply; rewritten (addresses or ports changed), wrapped (a header more) or
    forwarded (neither). ``receiver`` has the destination MAC; ``arrived`` says that the packet was seen there, after ``at``
    microseconds from the first packet on. ``changes`` are the sender's, against the row before."""

    packet: str
    sender: str
    receiver: str
    network: str
    arrived: bool
    at: int
    source_mac: str
    destination_mac: str
    outer: tuple[Outer, ...]
    source: Endpoint
    destination: Endpoint
    ttl: int
    flags: tuple[str, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """``complete``: the answer arrived at the client, and it is one that the client takes. Otherwise ``fault`` says where the way ends
    or what is wrong with the answer. ``unwrapped`` are headers that the real server took off before it read the request."""

    lab: str
    service: str
    mode: str
    client: str
    complete: bool
    fault: str
    rows: tuple[Row, ...]
    unwrapped: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is who: nodes by MAC, names by address."""

    macs: Mapping[str, str]
    addresses: Mapping[str, str]

    def endpoint(self, address: Address, port: int) -> Endpoint:
        return Endpoint(str(address), port, self.addresses.get(str(address), ""))


def cast(lab: Lab, gateway: Iterable[str] = ()) -> Cast:
    """Every node of ``lab`` by its MACs and addresses, and every service by its VIP; ``gateway`` are the MACs of the lab's own."""
    nics = [(node.name, nic) for node in lab.nodes for nic in node.nics]
    addresses = {str(nic.address.ip): name for name, nic in nics}
    return Cast(
        {**dict.fromkeys(gateway, GATEWAY), **{nic.mac.lower(): name for name, nic in nics}},
        {**addresses, **{str(service.vip): service.name for service in reversed(lab.services)}},
    )


def tell(lab: Lab, service: Service, client: str, sightings: Sequence[Sighting], gateway: Iterable[str] = ()) -> Story:
    """The story of the first request in ``sightings`` that ``client`` sends to the VIP; ``gateway`` as in ``cast``."""
    seen, known = sorted(sightings, key=lambda each: each.time), cast(lab, gateway)
    request = _legs(seen, _first_request(seen, service, client), service, known)
    reply = _legs(seen, _first_reply(seen, request), service, known)
    start = request[0].sighting.time if request else 0
    rows = (*_rows("request", request, known, start), *_rows("reply", reply, known, start))
    fault = _fault(service, client, request, reply)
    return Story(lab.name, service.name, service.mode, client, not fault, fault, rows, tuple(_unwrapped(request)))


@dataclass(frozen=True, slots=True)
class _Leg:
    sighting: Sighting
    receiver: str
    arrived: bool


def _first_request(seen: Sequence[Sighting], service: Service, client: str) -> Sighting | None:
    return next((s for s in seen if s.sent and s.node == client and _asks(s.frame, service)), None)


def _asks(frame: Frame, service: Service) -> bool:
    header, transport = frame.inner, frame.transport
    if header is None or transport is None or header.destination != service.vip:
        return False
    begins = transport.protocol != "tcp" or (transport.flags >= {"SYN"} and "ACK" not in transport.flags)
    return (transport.protocol, transport.destination_port) == (service.protocol, service.port) and begins


def _first_reply(seen: Sequence[Sighting], request: Sequence[_Leg]) -> Sighting | None:
    """The first packet that the last receiver of the request sends back."""
    if not request:
        return None
    last = request[-1].sighting
    return next((s for s in seen if s.sent and s.time >= last.time and _answers(s.frame, last.frame)), None)


def _answers(frame: Frame, request: Frame) -> bool:
    asked, answer = request.transport, frame.transport
    if asked is None or answer is None or _ends(frame) != _ends(request)[::-1]:
        return False
    return asked.protocol != "tcp" or answer.acknowledged == (asked.sequence + 1) % 2**32


def _ends(frame: Frame) -> tuple[tuple[Address, int], ...]:
    """Source and destination of the connection's own packet, inside all tunnels."""
    header, transport = frame.inner, frame.transport
    if header is None or transport is None:
        return ()
    return (header.source, transport.source_port), (header.destination, transport.destination_port)


def _legs(seen: Sequence[Sighting], first: Sighting | None, service: Service, known: Cast) -> list[_Leg]:
    """Each sending of the packet that ``first`` is. One that a node sends again as it was (a retransmission) counts once."""
    if first is None or first.frame.transport is None:
        return []
    same = [s for s in seen if _is_same(s.frame, first.frame, service) and s.time >= first.time]
    sent = {(s.node, s.network, s.frame): s for s in reversed(same) if s.sent}
    return [_leg(s, same, known) for s in sorted(sent.values(), key=lambda s: s.time)]


def _is_same(one: Frame, other: Frame, service: Service) -> bool:
    if one.transport is None or other.transport is None or one.transport.identity != other.transport.identity:
        return False
    return other.transport.protocol == "tcp" or _course(one, service) == _course(other, service)


def _course(datagram: Frame, service: Service) -> tuple[object, ...]:
    """Where a datagram goes, seen from the service: to it, from it or neither, and whose it is where that stays the same."""
    (one, *_), (source, destination) = service.each(), _ends(datagram)
    served = {(one.vip, one.port), *((server.address, server.port or one.port) for server in one.servers)}
    client = source if destination in served else destination
    return source in served, destination in served, None if service.snat else client


def _leg(sighting: Sighting, same: Sequence[Sighting], known: Cast) -> _Leg:
    receiver = known.macs.get(sighting.frame.destination_mac, "")
    arrived = any(s.node == receiver and not s.sent and s.frame == sighting.frame for s in same)
    return _Leg(sighting, receiver, arrived)


def _rows(packet: str, legs: Sequence[_Leg], known: Cast, start: int) -> Iterator[Row]:
    if legs:
        yield _row(packet, legs[0], (), known, start)
    for before, after in pairwise(legs):
        changes = tuple(_changes(after.sighting.node, before.sighting.frame, after.sighting.frame))
        yield _row(_word(changes), after, changes, known, start)


def _row(packet: str, leg: _Leg, changes: tuple[Change, ...], known: Cast, start: int) -> Row:
    seen, frame = leg.sighting, leg.sighting.frame
    assert frame.inner and frame.transport, "a leg's packet was known by what it carries"
    return Row(
        packet=packet, sender=seen.node, receiver=leg.receiver, network=seen.network, arrived=leg.arrived,
        at=(seen.time - start) // 1000, source_mac=frame.source_mac, destination_mac=frame.destination_mac,
        outer=tuple(_outer(header) for header in frame.outer),
        source=known.endpoint(frame.inner.source, frame.transport.source_port),
        destination=known.endpoint(frame.inner.destination, frame.transport.destination_port),
        ttl=frame.inner.ttl, flags=tuple(flag for flag in FLAGS if flag in frame.transport.flags), changes=changes,
    )  # fmt: skip


def _outer(header: Header) -> Outer:
    return Outer(header.tunnel, str(header.source), str(header.destination))


ADDRESSES = frozenset({"source", "destination"})


def _word(changes: Sequence[Change]) -> str:
    found = {change.what for change in changes}
    if found & ADDRESSES:
        return "rewritten"
    return "wrapped" if "outer header" in found else "forwarded"


def _changes(by: str, before: Frame, after: Frame) -> Iterator[Change]:
    for what, old, new in zip(("source", "destination"), _shown_ends(before), _shown_ends(after), strict=True):
        if old != new:
            yield Change(by, what, old, new)
    yield from _headers(by, [str(_outer(h)) for h in before.outer], [str(_outer(h)) for h in after.outer])
    for what, old, new in (
        ("source MAC", before.source_mac, after.source_mac),
        ("destination MAC", before.destination_mac, after.destination_mac),
        ("TTL", _ttl(before), _ttl(after)),
    ):
        if old != new:
            yield Change(by, what, old, new)


def _headers(by: str, before: Sequence[str], after: Sequence[str]) -> Iterator[Change]:
    yield from (Change(by, "outer header", "", header) for header in after if header not in before)
    yield from (Change(by, "outer header", header, "") for header in before if header not in after)


def _shown_ends(frame: Frame) -> tuple[str, str]:
    source, destination = (str(Endpoint(str(address), port, "")) for address, port in _ends(frame))
    return source, destination


def _ttl(frame: Frame) -> str:
    return str(frame.inner.ttl) if frame.inner else ""


def _unwrapped(request: Sequence[_Leg]) -> Iterator[Change]:
    if request and request[-1].arrived:
        last = request[-1]
        yield from (Change(last.receiver, "outer header", str(_outer(h)), "") for h in last.sighting.frame.outer)


def _fault(service: Service, client: str, request: Sequence[_Leg], reply: Sequence[_Leg]) -> str:
    """Where the way ends before an answer is at the client, or why the answer is none; empty when all is well."""
    if not request:
        return (
            f"{client} sent nothing to {service.vip}:{service.port} (perhaps nobody told it the MAC of {service.vip})"
        )
    last = (reply or request)[-1]
    if not last.arrived:
        owner = last.receiver or f"nobody of this lab ({last.sighting.frame.destination_mac})"
        return f"{last.sighting.node} sent it on {last.sighting.network} to {owner}, where it did not arrive"
    if reply and last.receiver == client:
        return _fault_of_answer(client, request[0].sighting.frame, reply)
    serving = {server.node for server in service.real_servers}
    deed = "answered nothing" if not reply and last.receiver in serving else "sent nothing on"
    return f"{last.receiver} took the {'reply' if reply else 'request'} and {deed}"


def _fault_of_answer(client: str, asked: Frame, reply: Sequence[_Leg]) -> str:
    """Why ``client`` does not take an answer that arrived."""
    first, answer = reply[0].sighting, reply[-1].sighting.frame
    if answer.transport and "RST" in answer.transport.flags:
        return f"{first.node} refused the connection (RST)"
    if _ends(answer) == _ends(asked)[::-1]:
        return ""
    came, wanted = _shown_ends(answer)[0], _shown_ends(asked)[1]
    return f"the answer came to {client} from {came}, which it never asked: it waits for {wanted}"
