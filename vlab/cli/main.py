"""Entry point: loads the families of verbs, turns errors into words and exit codes."""

from __future__ import annotations

import logging
import signal
import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated

import typer

import vlab
from vlab.cli import report, verbs
from vlab.cli.app import app, debugging
from vlab.errors import VlabError

INTERRUPTED = 130


@app.callback()
def common(
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="say more; twice: every command")] = 0,
    debug: Annotated[
        bool, typer.Option("--debug", help="every command and libvirt call, tracebacks", envvar="VLAB_DEBUG")
    ] = False,
) -> None:
    level = logging.DEBUG if debug or verbose > 1 else logging.INFO if verbose else logging.WARNING
    log = logging.getLogger("vlab")  # ours alone: libraries' debugging says nothing about labs
    log.setLevel(level)
    log.addHandler(shown := logging.StreamHandler(sys.stderr))
    shown.setFormatter(logging.Formatter("%(relativeCreated)7.0f %(name)s %(message)s"))


@app.command("version")
def version() -> None:
    """Print vlab's version."""
    report.say(f"vlab {vlab.__version__}")


def load_verbs() -> None:
    """Import every module of ``vlab.cli.verbs``; each adds its commands to the app."""
    for module in iter_modules(verbs.__path__):
        import_module(f"{verbs.__name__}.{module.name}")


def _interrupt(number: int, _frame: object) -> None:
    """A polite end request is a Ctrl-C: what the run made is undone."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def main() -> None:
    load_verbs()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        app()
    except VlabError as error:
        report.error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        report.note("vlab: interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if debugging() or "--debug" in sys.argv:
            raise
        report.note(
            f"vlab: internal error: {type(error).__name__}: {error}\n(hint: run again with --debug and report it)"
        )
        sys.exit(1)
