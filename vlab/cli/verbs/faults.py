"""``fault kill``, ``pause``, ``resume``, ``stop``, ``start``, ``link``: accidents of one node."""

from __future__ import annotations

from typing import Annotated

import typer

from vlab.cli import report
from vlab.cli.app import family, fault, node_name
from vlab.engine.drivers import Drivers
from vlab.errors import UsageError

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="node, or lab/node")]
UnitArgument = Annotated[str, typer.Argument(metavar="UNIT", help="a systemd unit, like nginx or keepalived")]

faults = family(fault)


@faults.command()
def kill(node: NodeArgument) -> None:
    """Take a node's power away at once, as if its plug were pulled; «up» makes it again."""
    from vlab.engine import faults as deeds

    drivers = Drivers.open()
    report.say(deeds.kill(drivers, deeds.target(drivers, *_words(node))))


@faults.command()
def pause(node: NodeArgument) -> None:
    """Stop everything in a node, which neither knows nor says so, until «resume»."""
    from vlab.engine import faults as deeds

    drivers = Drivers.open()
    report.say(deeds.pause(drivers, deeds.target(drivers, *_words(node))))


@faults.command()
def resume(node: NodeArgument) -> None:
    """Let a paused node go on."""
    from vlab.engine import faults as deeds

    drivers = Drivers.open()
    report.say(deeds.resume(drivers, deeds.target(drivers, *_words(node))))


@faults.command()
def stop(node: NodeArgument, unit: UnitArgument) -> None:
    """Stop a unit in a node."""
    from vlab.engine import faults as deeds

    drivers = Drivers.open()
    report.say(deeds.stop(drivers, deeds.target(drivers, *_words(node)), unit))


@faults.command()
def start(node: NodeArgument, unit: UnitArgument) -> None:
    """Start a unit in a node."""
    from vlab.engine import faults as deeds

    drivers = Drivers.open()
    report.say(deeds.start(drivers, deeds.target(drivers, *_words(node)), unit))


@faults.command()
def link(
    node: NodeArgument,
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="a network that the node is on")],
    state: Annotated[str, typer.Argument(metavar="down|up", help="cut it, or connect it again")],
) -> None:
    """Cut a node off a network, or connect it again; «up» of the lab connects it too."""
    from vlab.engine import faults as deeds

    if state not in ("down", "up"):
        raise UsageError(f"a link is down or up, not '{state}'", hint=f"vlab fault link {node} {network} down")
    drivers = Drivers.open()
    report.say(deeds.link(deeds.target(drivers, *_words(node)), network, up=state == "up"))


def _words(node: str) -> tuple[str, str]:
    name = node_name(node)
    return name.lab, name.node
