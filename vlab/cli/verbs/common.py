"""What stands before every verb (``-v``, ``--debug``), and ``version``."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

import vlab
from vlab.cli import report
from vlab.cli.app import app, debug_from_now_on


def _say_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        version()
        raise typer.Exit


@app.callback()
def common(
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="say more; twice: every command")] = 0,
    debug: Annotated[
        bool, typer.Option("--debug", help="every command and libvirt call, tracebacks", envvar="VLAB_DEBUG")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", help="print vlab's version", callback=_say_version, is_eager=True, show_envvar=False),
    ] = False,
) -> None:
    if debug:
        debug_from_now_on()
    level = logging.DEBUG if debug or verbose > 1 else logging.INFO if verbose else logging.WARNING
    log = logging.getLogger("vlab")  # ours alone: libraries' debugging says nothing about labs
    log.setLevel(level)
    log.addHandler(shown := report.LogLines())
    shown.setFormatter(logging.Formatter("%(relativeCreated)7.0f %(name)s %(message)s"))


@app.command("version")
def version() -> None:
    """Print vlab's version."""
    report.say(f"vlab {vlab.__version__}")
