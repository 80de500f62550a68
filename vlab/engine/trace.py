"""``vlab trace``: one request sent from a client, watched on every interface that it may pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from vlab.engine.capture import about, sources
from vlab.errors import GuestError
from vlab.guests.base import Channel
from vlab.host.marks import bridge_mac
from vlab.host.sniff import Packet, Sniffer, Source
from vlab.lvs.asking import fitting
from vlab.lvs.probe import MISSING, Ask, probe
from vlab.lvs.story import GATEWAY, Sighting, Story, tell
from vlab.topology.lab import Lab, Node, Service
from vlab.wire import filters
from vlab.wire.frames import decode

AFTERWARDS = 0.3
"""Seconds to watch on after the request: an answer may be on its way to a client that did not wait for it."""

POLL = 0.1
REQUEST_TIMEOUT = 30.0


def trace(
    lab: Lab, service: Service, client: Node, nodes: Sequence[Node], channel: Channel, serves: Mapping[int, str]
) -> Story:
    """Send one request for ``service`` from ``client`` through ``channel`` and tell its story. ``nodes`` are those to watch, all of
    them running, beside the lab's gateway; ``serves`` are the probes by port of the real servers' image.
    Raises as ``Channel.run`` and ``Sniffer`` do."""
    keep = filters.parse(about(service))
    routed = [network for network in lab.networks if network.routed]
    ways = [Source(f"{GATEWAY}.{network.name}", network.bridge, "gateway") for network in routed]
    with Sniffer(lab.namespace, [*sources(nodes, []), *ways]) as sniffer:
        packets = _while_asking(sniffer, lambda: _ask(service, client, channel, serves))
    nics = [(node.name, nic.network) for node in nodes for nic in node.nics]
    nics += [(GATEWAY, network.name) for network in routed]
    found = ((packet, decode(packet.data)) for packet in packets)
    seen = [
        Sighting(packet.time, *nics[packet.source], packet.sent, frame)
        for packet, frame in found
        if frame is not None and keep(frame)
    ]
    return tell(lab, service, client.name, seen, [bridge_mac(lab.name, network.name) for network in routed])


def _while_asking(sniffer: Sniffer, ask: Callable[[], None]) -> list[Packet]:
    """All that passes from before ``ask`` is called until a moment after it ended."""
    packets: list[Packet] = []
    with ThreadPoolExecutor(max_workers=1) as asking:
        asked = asking.submit(ask)
        while not asked.done():
            packets += sniffer.read(POLL)
    asked.result()
    until = time.monotonic() + AFTERWARDS
    while (left := until - time.monotonic()) > 0:
        packets += sniffer.read(min(POLL, left))
    return [*packets, *sniffer.rest()]


def _ask(service: Service, client: Node, channel: Channel, serves: Mapping[int, str]) -> None:
    """One request, in the service's own protocol where ``client`` has a program for it. Whether it succeeded is the story's to tell."""
    for ask in questions(service, serves):
        argv = probe(ask.probe).program.command([ask])
        if channel.run(argv, timeout=REQUEST_TIMEOUT).code != MISSING:
            return
    raise GuestError(f"{client.name} has no program to ask service {service.name} with", hint="use image: client")


def questions(service: Service, serves: Mapping[int, str]) -> list[Ask]:
    """What may be asked, the service's own protocol first; ``serves`` are the probes by port of the real servers' image."""
    words = dict.fromkeys([fitting(service, serves).name, service.protocol])
    return [Ask(service.name, word, service.vip, service.port, 1) for word in words]
