"""``lvs show``: what directors hold and do, and how an administrator would have set it up by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from vlab.cli import report, watching
from vlab.cli.app import LabArgument, Output, OutputOption, family, is_file, lvs
from vlab.engine.drivers import Drivers
from vlab.errors import GuestError, UsageError

if TYPE_CHECKING:
    from vlab.cli.hearing import Heard
    from vlab.hypervisors.mark import Domain
    from vlab.lvs.listing import Connection, Rates, ServerEntry, ServiceEntry, Totals
    from vlab.topology.lab import Lab

TIMEOUT = 20.0

ServiceArgument = Annotated[str, typer.Argument(metavar="SERVICE", help="only this service", show_default=False)]


@family(lvs).command("show")
def show(
    lab: LabArgument = "",
    service: ServiceArgument = "",
    watch: Annotated[bool, typer.Option("--watch", help="look again and again, until Ctrl-C")] = False,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", help="between two looks", min=0.1)] = 2.0,
    count: Annotated[
        int, typer.Option("--count", metavar="N", help="with --watch: so many looks; 0: any number", min=0)
    ] = 0,
    connections: Annotated[bool, typer.Option("--connections", help="the connection table instead")] = False,
    ipvsadm: Annotated[bool, typer.Option("--ipvsadm", help="the ipvsadm commands for it")] = False,
    keepalived: Annotated[bool, typer.Option("--keepalived", help="the director's keepalived.conf")] = False,
    live: Annotated[bool, typer.Option("--live", help="those two from the running director, not as declared")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Services, real servers, weights, thresholds, connections, rates and totals, from the running directors' own tables.

    --ipvsadm and --keepalived print what the topology declares (a FILE need not run); with --live what the director really has.
    A director that does not answer is named on stderr, the others are shown, and the exit code is 1.
    """
    _refuse_combinations([connections, ipvsadm, keepalived], watch=watch or bool(count), live=live)
    drivers = Drivers.open()
    name, word = _meant(drivers, lab, service)
    if ipvsadm or keepalived:
        whole = _texts(drivers, name, word, output, live=live, keepalived=keepalived)
    else:
        look = _looking(drivers, name, word, connections=connections)
        whole = watching.watch(look, every, count, output) if watch or count else watching.once(look(), output)
    if not whole:
        raise typer.Exit(1)


def _refuse_combinations(chosen: Sequence[bool], *, watch: bool, live: bool) -> None:
    texts = any(chosen[1:])
    if sum(chosen) > 1:
        raise UsageError("--connections, --ipvsadm and --keepalived are three things to see", hint="choose one")
    if texts and watch:
        raise UsageError("--watch is for what changes by itself", hint="leave out --watch and --count")
    if live and not texts:
        raise UsageError("--live goes with --ipvsadm or --keepalived", hint="all else is read live anyway")


def _meant(drivers: Drivers, lab: str, service: str) -> tuple[str, str]:
    """(lab, service) of the words; a single one that names no lab is a service of the only lab there is."""
    from vlab.engine.labs import lab_names

    if not lab or service or is_file(lab):
        return lab, service
    known = lab_names(drivers)
    alone = len(known) == 1 and lab not in known and lab in _services(_directors(drivers, known[0]))
    return (known[0], lab) if alone else (lab, service)


def _services(directors: Sequence[Domain]) -> list[str]:
    return [service.name for domain in directors for service in domain.mark.services]


def _directors(drivers: Drivers, lab: str) -> list[Domain]:
    return sorted((d for d in drivers.hypervisors.domains(lab) if d.mark.services), key=lambda d: d.name)


def _running(drivers: Drivers, word: str, service: str) -> tuple[str, list[Domain]]:
    """The lab's name and its directors, those of ``service`` where one is named. Raises ``UsageError``."""
    from vlab.cli.labs import lab_name
    from vlab.engine.capture import chosen

    name = lab_name(drivers, word)
    found = _directors(drivers, name)
    if not found:
        raise UsageError(f"no director of lab {name} runs", hint=f"vlab status {name}")
    chosen("service", [service] if service else [], dict.fromkeys(_services(found)))
    return name, [domain for domain in found if not service or service in _services([domain])]


def _looking(drivers: Drivers, word: str, service: str, *, connections: bool) -> watching.Look:
    name, directors = _running(drivers, word, service)
    if connections:
        return lambda: _connections(drivers, name, directors, service)
    return lambda: _entries(drivers, name, directors, service)


def _asked(drivers: Drivers, director: Domain, argv: Sequence[str]) -> str:
    """What a command in a director prints. Raises ``GuestError`` with its complaint."""
    from vlab.lvs.listing import NO_TABLE

    result = drivers.channel(director).run(argv, timeout=TIMEOUT)
    if result.code and NO_TABLE not in result.error_text:
        complaint = result.error_text.strip() or f"exit code {result.code}"
        raise GuestError(f"{director.mark.node.name}: {argv[0]} failed", details=[complaint])
    return result.text


def _heard(lab: str, directors: Sequence[Domain], ask: Callable[[Domain], str]) -> Heard:
    """What ``ask`` gets from each director. Raises ``VlabError`` when none answers."""
    from vlab.cli.hearing import hear

    return hear({d.mark.node.name: partial(ask, d) for d in directors}, f"vlab status {lab}; vlab check {lab}")


def _entries(drivers: Drivers, lab: str, directors: Sequence[Domain], service: str) -> watching.View:
    from vlab.lvs import listing

    heard = _heard(lab, directors, lambda director: _asked(drivers, director, listing.READ))
    found = [
        entry
        for director in directors
        if (text := heard.said.get(director.mark.node.name)) is not None
        for entry in listing.entries(text, director.mark.node.name, director.mark.services)
        if service in ("", entry.name)
    ]
    rows = [_row(entry, server) for entry, server in listing.rows(found)]
    columns = (
        "service", "address", "how", "weight", "thresholds", "active/inactive",
        "conns/s", "packets/s", "bytes/s", "conns", "packets", "bytes",
    )  # fmt: skip
    return _view(f"lab {lab}, live", columns, rows, {"lab": lab, "services": report.plain(found)}, heard)


def _view(
    title: str, columns: Sequence[str], rows: report.Rows, data: Mapping[str, object], heard: Heard
) -> watching.View:
    """JSON has ``silent`` too, empty where all directors answered."""
    whole = {**data, "silent": report.plain(heard.silent)}
    return watching.View(title, columns, rows, whole, [str(each) for each in heard.silent])


def _row(service: ServiceEntry, server: ServerEntry | None) -> tuple[object, ...]:
    if server is None:
        how = " ".join([service.scheduler, *service.flags]).strip() or "not in the table"
        active, inactive = (sum(getattr(s, word) for s in service.real_servers) for word in ("active", "inactive"))
        name = f"{service.name or '(not declared)'} on {service.director}"
        return (
            name,
            service.address,
            how,
            "",
            "",
            f"{active}/{inactive}",
            *_speed(service.rates),
            *_sums(service.totals),
        )
    how = f"{server.method} {'' if server.state == 'up' else server.state}".strip()
    thresholds = f"{server.lower}-{server.upper}" if server.upper else "none"
    return (
        f"  {server.node or '(not declared)'}", server.address, how, server.weight, thresholds,
        f"{server.active}/{server.inactive}", *_speed(server.rates), *_sums(server.totals),
    )  # fmt: skip


def _speed(rates: Rates) -> tuple[object, ...]:
    return rates.connections, f"{rates.in_packets}/{rates.out_packets}", f"{rates.in_bytes}/{rates.out_bytes}"


def _sums(totals: Totals) -> tuple[object, ...]:
    return totals.connections, f"{totals.in_packets}/{totals.out_packets}", f"{totals.in_bytes}/{totals.out_bytes}"


def _connections(drivers: Drivers, lab: str, directors: Sequence[Domain], service: str) -> watching.View:
    from vlab.lvs import listing

    heard = _heard(lab, directors, lambda director: _asked(drivers, director, listing.READ_CONNECTIONS))
    found = list(_connections_of(directors, heard, service))
    rows = [(d, c.protocol, c.state, c.expires, c.source, c.virtual, c.destination) for d, c in found]
    columns = ("director", "protocol", "state", "expires", "source", "virtual", "destination")
    data = {"lab": lab, "connections": [{"director": d, **report.plain(c)} for d, c in found]}
    return _view(f"lab {lab}, connections", columns, rows, data, heard)


def _connections_of(directors: Sequence[Domain], heard: Heard, service: str) -> Iterator[tuple[str, Connection]]:
    from vlab.lvs import listing

    for director in directors:
        wanted = {key.partition(" ")[2] for s in director.mark.services if s.name == service for key in listing.keys(s)}
        for connection in listing.connections(heard.said.get(director.mark.node.name, "")):
            if not service or connection.virtual in wanted:
                yield director.mark.node.name, connection


def _texts(drivers: Drivers, word: str, service: str, output: Output, *, live: bool, keepalived: bool) -> bool:
    """One text a director: ipvsadm commands or keepalived.conf. What it was taken from is told on stderr. Whether all are there."""
    read = _live_texts if live else _declared_texts
    lab, heard = read(drivers, word, service, keepalived=keepalived)
    source = "read from the running director" if live else "as declared"
    if output is Output.json:
        which = {"lab": lab, "source": "live" if live else "declared"}
        report.as_json({**which, "directors": heard.said, "silent": report.plain(heard.silent)})
    else:
        for director, text in heard.said.items():
            report.note(f"{director} of lab {lab}, {source}:")
            report.say(text.rstrip("\n"))
    for silent in heard.silent:
        report.note(str(silent))
    return not heard.silent


def _live_texts(drivers: Drivers, word: str, service: str, *, keepalived: bool) -> tuple[str, Heard]:
    from vlab.lvs import listing
    from vlab.lvs.settings import KEEPALIVED_CONF

    def written(director: Domain) -> str:
        return drivers.channel(director).get(KEEPALIVED_CONF).decode(errors="replace")

    def typed(director: Domain) -> str:
        return "\n".join(listing.commands(_asked(drivers, director, listing.READ_COMMANDS)))

    lab, directors = _running(drivers, word, service)
    return lab, _heard(lab, directors, written if keepalived else typed)


def _declared_texts(drivers: Drivers, word: str, service: str, *, keepalived: bool) -> tuple[str, Heard]:
    from vlab.cli.hearing import Heard
    from vlab.engine.capture import chosen
    from vlab.lvs import ipvsadm
    from vlab.lvs.index import index
    from vlab.lvs.keepalived import render
    from vlab.lvs.modes import mode

    lab = _declared(drivers, word)
    chosen("service", [service] if service else [], {each.name: each for each in lab.services})
    texts: dict[str, str] = {}
    for director, roles in index(lab).directing.items():
        services = [role.service for role in roles if service in ("", role.service.name)]
        if not services:
            continue
        lines = [line for each in services for line in ipvsadm.typed(each, mode(each.mode).ipvsadm)]
        texts[director] = render(lab, lab.node(director)) if keepalived else "\n".join(lines)
    return lab.name, Heard(texts)


def _declared(drivers: Drivers, word: str) -> Lab:
    from vlab.cli.files import declared_lab, from_file
    from vlab.cli.labs import lab_name

    return from_file(word, None)[1] if is_file(word) else declared_lab(drivers, lab_name(drivers, word))
