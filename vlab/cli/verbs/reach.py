"""``exec``, ``console``, ``ssh``, ``put``, ``get``, ``logs``, ``forward``: into a guest."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from vlab import run
from vlab.cli import interrupts, report
from vlab.cli.app import GroupOption, NodeOption, TimeoutOption, app, names, node_name
from vlab.cli.labs import group_domains, lab_name, one_domain
from vlab.engine.drivers import Drivers
from vlab.errors import GuestError, UsageError
from vlab.hypervisors.kind import kind
from vlab.hypervisors.mark import Domain
from vlab.topology.family import endpoint

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="node, or lab/node")]
LabOption = Annotated[str, typer.Option("--lab", metavar="LAB", help="the lab meant by --group, --node")]


@app.command("exec", context_settings={"ignore_unknown_options": True})
def exec_(
    words: Annotated[
        list[str],
        typer.Argument(metavar="NODE -- CMD", help="where, and what to run; with --group or --node only what"),
    ],
    group: GroupOption = "",
    node: NodeOption = "",
    lab: LabOption = "",
    timeout: TimeoutOption = 600.0,
) -> None:
    """Run a command in a guest, or in all of a group; needs no network. One guest's exit code is passed on."""
    drivers = Drivers.open()
    chosen, command = _targets(drivers, words, group, node, lab)
    if not command:
        raise UsageError("no command given", hint="vlab exec web1 -- uname -a")
    codes = [_run_one(drivers, domain, command, timeout, label=len(chosen) > 1) for domain in chosen]
    raise typer.Exit(codes[0] if len(codes) == 1 else int(any(codes)))


def _targets(drivers: Drivers, words: list[str], group: str, node: str, lab: str) -> tuple[list[Domain], list[str]]:
    if group:
        return group_domains(drivers, lab_name(drivers, lab), group), words
    if node:
        return [one_domain(drivers, node_name(f"{lab}/{n}" if lab else n)) for n in names(node)], words
    return [one_domain(drivers, node_name(words[0]))], words[1:]


def _run_one(drivers: Drivers, domain: Domain, command: list[str], timeout: float, *, label: bool) -> int:
    result = drivers.channel(domain).run(command, timeout=timeout)
    prefix = f"{domain.mark.node.name}: " if label else ""
    for stream, out in ((sys.stdout, result.text), (sys.stderr, result.error_text)):
        stream.write("".join(f"{prefix}{line}" for line in out.splitlines(keepends=True)))
        stream.flush()
    return result.code


@app.command()
def console(node: NodeArgument) -> None:
    """A terminal on a guest's console, which Ctrl-] leaves; for a container a shell, which exit leaves."""
    drivers = Drivers.open()
    domain = one_domain(drivers, node_name(node))
    if sys.stdin.isatty():
        report.note(
            f"console of {domain.mark.lab}/{domain.mark.node.name}; a machine's is left by Ctrl-], a container's by exit"
        )
    with interrupts.left_to_the_guest():
        code = run.interactive(kind(domain.mark.node.virt).console(domain))
    raise typer.Exit(code)


@app.command(context_settings={"ignore_unknown_options": True})
def ssh(
    node: NodeArgument,
    command: Annotated[list[str] | None, typer.Argument(metavar="-- CMD", help="instead of a shell")] = None,
) -> None:
    """SSH into a guest from inside its lab's namespace, host key checked."""
    from vlab.guests.ssh import argv

    drivers = Drivers.open()
    domain = one_domain(drivers, node_name(node))
    with interrupts.left_to_the_guest():
        code = run.interactive(argv(drivers.paths, domain.mark.lab, domain.mark.node, command or []))
    raise typer.Exit(code)


@app.command()
def put(
    node: NodeArgument,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="on this host")],
    target: Annotated[str, typer.Argument(metavar="PATH", help="in the guest")],
) -> None:
    """Copy a file into a guest; needs no network."""
    drivers = Drivers.open()
    try:
        content, mode = source.read_bytes(), source.stat().st_mode & 0o777
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from error
    drivers.channel(one_domain(drivers, node_name(node))).put(target, content, mode=mode)


@app.command()
def get(
    node: NodeArgument,
    source: Annotated[str, typer.Argument(metavar="PATH", help="in the guest")],
    target: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="file or folder on this host", show_default=False)
    ] = None,
) -> None:
    """Copy a file out of a guest, to stdout without a target."""
    drivers = Drivers.open()
    content = drivers.channel(one_domain(drivers, node_name(node))).get(source)
    if target is None:
        sys.stdout.buffer.write(content)
        return
    file = target / Path(source).name if target.is_dir() else target
    try:
        file.write_bytes(content)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error


@app.command()
def logs(
    node: NodeArgument,
    lines: Annotated[int, typer.Option("-n", "--lines", metavar="N", help="so many of the last lines", min=1)] = 100,
) -> None:
    """A guest's journal; its console's record when the guest does not answer."""
    drivers = Drivers.open()
    domain = one_domain(drivers, node_name(node))
    try:
        result = drivers.channel(domain).run(["journalctl", "--no-pager", "-b", "-n", str(lines)])
        sys.stdout.write(result.text)
    except GuestError as error:
        report.note(f"{error.what}; the console's record:")
        _console_record(drivers, domain, lines)


def _console_record(drivers: Drivers, domain: Domain, lines: int) -> None:
    record = drivers.paths.clone(domain.mark.lab, domain.mark.node.name) / "console.log"
    text = record.read_text(errors="replace").splitlines()[-lines:] if record.is_file() else ["there is none"]
    report.say("\n".join(text))


@app.command()
def forward(
    forwards: Annotated[
        list[str], typer.Argument(metavar="PORT:SERVICE|PORT:NODE:PORT", help="like 8080:www or 2222:web1:22")
    ],
    lab: LabOption = "",
) -> None:
    """Listen on 127.0.0.1 and dial a service, or a node's port, inside the lab; until Ctrl-C."""
    from vlab.cli.files import declared_lab
    from vlab.cli.forwarding import parsed
    from vlab.host.forward import serve

    drivers = Drivers.open()
    declared = declared_lab(drivers, lab_name(drivers, lab))
    wanted = [parsed(word, declared) for word in forwards]

    def announce() -> None:
        for item in wanted:
            report.note(f"127.0.0.1:{item.port} → {endpoint(item.address, item.target_port)} in lab {declared.name}")

    stop = threading.Event()
    with interrupts.told(stop):
        serve(wanted, declared.namespace, ready=announce, stop=stop)
