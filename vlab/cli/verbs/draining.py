"""``drain`` and ``undrain``: a real server taken out of service and back, with no request lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from vlab.cli import changing, report
from vlab.cli.app import Output, OutputOption, app, node_name
from vlab.engine.drivers import Drivers
from vlab.lvs import resting
from vlab.lvs.resting import Rest
from vlab.topology.edit import Change
from vlab.topology.lab import Service

NodeWord = Annotated[str, typer.Argument(metavar="[LAB/]NODE", help="a real server")]
ServiceOption = Annotated[
    str, typer.Option("--service", metavar="SERVICE", help="only in this service", show_default=False)
]


@app.command()
def drain(
    node: NodeWord,
    service: ServiceOption = "",
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="how long connections may take to end", min=1)
    ] = 60.0,
    output: OutputOption = Output.table,
) -> None:
    """Give a real server no new connections and wait until it has none; exit 4 when it still has some in the end."""
    from vlab.engine import drain as draining

    began = time.monotonic()
    drivers = Drivers.open()
    name, lab, text, services = _meant(drivers, node, service)
    changes = resting.to_rest(services, name)
    if changes:
        draining.refuse_last(drivers, lab, name, [s for s in services if name not in resting.drained(s)])
        _change(drivers, lab, text, changes, services, f"drain {name}")
    else:
        report.note(f"{name} is drained already")
    try:
        with report.progress() as sink:
            rests = draining.await_rest(drivers, lab, name, services, timeout, sink)
    except KeyboardInterrupt:
        report.note(f"{name} stays drained\n(hint: vlab undrain {lab}/{name} takes it back)")
        raise
    _show(lab, name, rests, time.monotonic() - began, output)


@app.command()
def undrain(node: NodeWord, service: ServiceOption = "", output: OutputOption = Output.table) -> None:
    """Give a drained real server the weight again that it had."""
    drivers = Drivers.open()
    name, lab, text, services = _meant(drivers, node, service)
    drained = [each for each in services if name in resting.drained(each)]
    if drained:
        _change(drivers, lab, text, resting.to_work(drained, name), drained, f"undrain {name}")
    else:
        report.note(f"{name} is not drained")
    rows = [(each.name, each.director, resting.server_of(each, name).drained) for each in drained]
    if output is Output.json:
        keys = ("service", "director", "weight")
        report.as_json({"lab": lab, "node": name, "services": [dict(zip(keys, row, strict=True)) for row in rows]})
    elif rows:
        report.table(("service", "director", "weight again"), rows)


def _meant(drivers: Drivers, word: str, service: str) -> tuple[str, str, str, list[Service]]:
    """Node, lab, declared text, and the services that are meant. Raises ``UsageError``."""
    from vlab.cli.labs import one_domain

    mark = one_domain(drivers, node_name(word)).mark
    text, lab = changing.declared(drivers, mark.lab)
    return mark.node.name, mark.lab, text, resting.served(lab, mark.node.name, service)


def _change(
    drivers: Drivers, lab: str, text: str, changes: Sequence[Change], services: Sequence[Service], words: str
) -> None:
    proposal = changing.propose(text, lab, changing.with_words(changes, words))
    changing.done(drivers, proposal, [service.name for service in services])


def _show(lab: str, node: str, rests: Sequence[Rest], seconds: float, output: Output) -> None:
    if output is Output.json:
        shown = {"lab": lab, "node": node, "seconds": round(seconds, 2), "services": report.plain(rests)}
        report.as_json(shown)
        return
    columns = ("service", "director", "active", "inactive", "weight otherwise")
    report.table(columns, [(r.service, r.director, r.active, r.inactive, r.weight) for r in rests])
    for each in rests:
        if each.templates:
            report.say(
                f"{each.service}: {each.templates} persistent clients are still remembered; each goes to another server "
                "with its next connection"
            )
    report.note(f"{node} is at rest after {seconds:.1f} s (vlab undrain {lab}/{node} takes it back)")
