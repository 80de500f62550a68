"""``capture``, ``trace``: packets of a lab, into a file or told as a story."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlab.cli import interrupts, report
from vlab.cli.app import NodeOption, Output, OutputOption, app, names, node_name
from vlab.engine.drivers import Drivers
from vlab.errors import UsageError

if TYPE_CHECKING:
    from vlab.engine.capture import Captured
    from vlab.host.sniff import Source
    from vlab.hypervisors.mark import Domain
    from vlab.lvs.story import Row, Story
    from vlab.topology.lab import Lab, Node, Service

DEFAULT_SECONDS = 60.0
DEFAULT_SIZE = "64 MiB"

ServiceOption = Annotated[str, typer.Option("--service", metavar="SERVICE", help="a service's nodes and packets only")]


@app.command()
def capture(
    lab: Annotated[str, typer.Argument(metavar="LAB", help="a lab's name", show_default=False)] = "",
    write: Annotated[str, typer.Option("-w", "--write", metavar="FILE", help="the pcapng file; - for stdout")] = "",
    node: NodeOption = "",
    network: Annotated[str, typer.Option("--network", metavar="A,B", help="the bridges of these networks")] = "",
    service: ServiceOption = "",
    filter: Annotated[str, typer.Option("--filter", metavar="WORDS", help="like tcpdump's: 'tcp and port 80'")] = "",
    seconds: Annotated[float, typer.Option("--seconds", help="end after so long", min=0.1)] = DEFAULT_SECONDS,
    count: Annotated[
        int, typer.Option("--count", metavar="N", help="end after so many packets; 0: any number", min=0)
    ] = 0,
    size: Annotated[str, typer.Option("--size", help="end once the file is so large")] = DEFAULT_SIZE,
    output: OutputOption = Output.table,
) -> None:
    """Packets of any nodes and networks into one pcapng file with named interfaces; all interfaces of all nodes unless some are named.

    It ends by itself (--seconds, --count, --size) or by Ctrl-C; the file is whole at any moment. Filters know a part of tcpdump's
    language and look into tunnels, too: tcp udp icmp arp ip ip6, host, net, port, src, dst, ether host, and, or, not, ( ).
    """
    from vlab.cli.labs import lab_name
    from vlab.engine.capture import Limits, record
    from vlab.host.sniff import Sniffer
    from vlab.topology.lab import namespace
    from vlab.wire import filters

    if not write:
        raise UsageError("no file to write to", hint="vlab capture -w lab.pcapng, or -w - | tcpdump -r -")
    drivers = Drivers.open()
    name = lab_name(drivers, lab)
    sources, words = _scope(drivers, name, names(node), names(network), service)
    keep = filters.parse(" and ".join(f"({part})" for part in (words, filter) if part))
    limits, stop = Limits(seconds, count, _size(size)), threading.Event()
    with Sniffer(namespace(name), sources) as sniffer, _opened(write) as descriptor, interrupts.told(stop):
        report.note(f"{name}: capturing on {len(sources)} interfaces{f' ({words})' if words else ''}")
        try:
            _show(record(sniffer, descriptor, keep, limits, stop), write, output)
        except BrokenPipeError as gone:
            raise typer.Exit(1) from gone


def _scope(drivers: Drivers, lab: str, nodes: list[str], networks: list[str], service: str) -> tuple[list[Source], str]:
    """Where to listen, and the words of the filter that a service brings."""
    from vlab.engine.capture import about, chosen, concerned, sources
    from vlab.host import links
    from vlab.topology.lab import namespace

    domains = drivers.hypervisors.domains(lab)
    running = {domain.mark.node.name: domain.mark.node for domain in domains}
    bridges = {bridge.network: bridge for bridge in links.observe(namespace(lab)).bridges}
    picked = [running[name] for name in chosen("running node", nodes, running)]
    taps = [bridges[name] for name in chosen("network", networks, bridges)]
    if not service:
        return sources(picked if nodes or networks else list(running.values()), taps), ""
    meant, directors = _service(domains, service)
    return sources(picked if nodes or networks else concerned(meant, list(running.values()), directors), taps), about(
        meant
    )


def _service(domains: Sequence[Domain], word: str) -> tuple[Service, list[str]]:
    """A service of the running directors, and the names of those."""
    from vlab.engine.capture import chosen

    known = {service.name: service for domain in domains for service in domain.mark.services}
    service = known[chosen("service", [word], known)[0]]
    return service, [domain.mark.node.name for domain in domains if service in domain.mark.services]


def _size(text: str) -> int:
    from vlab.topology import units

    try:
        return units.size(text)
    except ValueError as error:
        raise UsageError(f"--size: '{text}' {error.args[0]}", hint=error.args[1]) from error


@contextmanager
def _opened(write: str) -> Iterator[int]:
    if write == "-":
        if sys.stdout.isatty():
            raise UsageError("a terminal cannot show a pcapng file", hint="vlab capture -w - | tcpdump -r -")
        yield sys.stdout.fileno()
        return
    try:
        descriptor = os.open(write, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"cannot write {write}: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _show(found: Sequence[Captured], write: str, output: Output) -> None:
    """What was captured; on stderr in one line where the file itself is on stdout."""
    packets, dropped = sum(each.packets for each in found), sum(each.dropped for each in found)
    if write != "-" and output is Output.json:
        report.as_json({"file": write, "interfaces": report.plain(found)})
    elif write != "-":
        columns = ("interface", "packets", "bytes", "dropped", "unsummed")
        report.table(columns, [(e.interface, e.packets, e.bytes, e.dropped, e.unsummed) for e in found])
    lost = f", {dropped} more were missed: narrow it down with --node" if dropped else ""
    report.note(f"{packets} packets in {'the stream' if write == '-' else Path(write)}{lost}")


class Form(StrEnum):
    """What ``trace -o`` takes."""

    table = "table"
    json = "json"
    mermaid = "mermaid"


@app.command()
def trace(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="a service, or lab/service")],
    client: Annotated[str, typer.Option("--client", metavar="NODE", help="who asks")] = "",
    output: Annotated[Form, typer.Option("-o", "--output", help="table, json or mermaid")] = Form.table,
) -> None:
    """Send one request and follow it, and its answer, from interface to interface: who rewrote which MAC, address and port, who added
    which header. Exit 1 when no answer arrived that the client takes; the last line says what happened to it."""
    from vlab.cli.files import declared_lab
    from vlab.cli.labs import lab_name

    drivers, word = Drivers.open(), node_name(service)
    declared = declared_lab(drivers, lab_name(drivers, word.lab))
    story = _traced(drivers, declared, word.node, client)
    _tell(story, output)
    if not story.complete:
        raise typer.Exit(1)


def _traced(drivers: Drivers, lab: Lab, word: str, client: str) -> Story:
    from vlab.engine import trace as engine
    from vlab.engine.capture import chosen, parties

    domains = {domain.mark.node.name: domain for domain in drivers.hypervisors.domains(lab.name)}
    services = {service.name: service for service in lab.services}
    service = services[chosen("service", [word], services)[0]]
    asker = _client(lab, service, client, domains)
    running = [node for node in lab.nodes if node.name in domains]
    watched = [*parties(service, running, _directors(lab, service)), asker]
    image = lab.node(service.real_servers[0].node).image
    return engine.trace(
        lab, service, asker, list({node.name: node for node in watched}.values()),
        drivers.channel(domains[asker.name]), dict(drivers.recipes[image].serves),
    )  # fmt: skip


def _directors(lab: Lab, service: Service) -> list[str]:
    return [node.name for node in lab.nodes if service.director in (node.group, node.name)]


def _client(lab: Lab, service: Service, word: str, domains: dict[str, Domain]) -> Node:
    from vlab.engine.capture import chosen
    from vlab.lvs.asking import askers

    if word:
        return lab.node(chosen("running node", [word], domains)[0])
    able = [node for node in askers(lab, service) if node.name in domains]
    if not able:
        raise UsageError(f"no running node can ask service {service.name}", hint="name one: --client NODE")
    return able[0]


def _tell(story: Story, output: Form) -> None:
    from vlab.lvs.sequence import mermaid

    if output is Form.json:
        report.as_json(report.plain(story))
    elif output is Form.mermaid:
        report.say(mermaid(story))
    else:
        columns = ("packet", "way", "source", "destination", "MACs", "after", "changed by the sender")
        report.table(columns, [_row(row) for row in story.rows])
        for change in story.unwrapped:
            report.say(f"{change.by}: {change}")
        report.say(
            f"fault: {story.fault}"
            if story.fault
            else f"{story.service} ({story.mode}): the answer arrived at {story.client}"
        )


def _row(row: Row) -> tuple[object, ...]:
    flags = f" ({'+'.join(row.flags)})" if row.flags else ""
    return (
        f"{row.packet}{flags}",
        f"{row.sender} → {row.receiver or '?'} on {row.network}",
        f"{row.source} {row.source.name}".rstrip(),
        f"{row.destination} {row.destination.name}".rstrip(),
        f"{row.source_mac} → {row.destination_mac}",
        f"{row.at} µs",
        "; ".join(change.what if "MAC" in change.what else str(change) for change in row.changes),
    )
