"""Entry point: loads the verb that is asked for, turns errors and signals into words and exit codes.

Imports almost nothing by itself, so that signals are taken before the slow imports.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from typing import NoReturn

from vlab.cli import interrupts

OBJECTS = 50_000
"""New objects after which Python looks for cycles. Its own 700 makes it look 180 times while vlab is imported, for 0.1 s, and nothing of
what it looks at goes before vlab does."""


def main() -> NoReturn:
    """Run the command line and exit. Whatever happens is told in words; only ``--debug`` shows tracebacks."""
    gc.set_threshold(OBJECTS)
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "1"  # nobody has any for vlab, and to look for them takes 10 ms
    try:
        interrupts.closed_streams()
        interrupts.listen()
        code = _flushed(_run())
    except (KeyboardInterrupt, RuntimeError) as error:
        if not interrupts.is_one(error):
            raise
        code = interrupts.EXIT_CODE
    interrupts.over()
    _leave(_flushed(code))


def _run() -> int:
    """The command line's exit code; its errors are told."""
    from vlab.cli import report, verbs
    from vlab.cli.app import app, debugging

    report.unbreakable_stderr()
    # A shell that completes words asks about all verbs, with no command line.
    verbs.load([] if "_VLAB_COMPLETE" in os.environ else sys.argv[1:])
    try:
        app(prog_name="vlab")
    except SystemExit as ended:
        if interrupts.count():
            report.note("vlab: interrupted")
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception as error:
        if interrupts.is_one(error):
            raise KeyboardInterrupt from error
        if debugging():
            report.traceback()
        told = report.as_vlab_error(error)
        report.error(told)
        return told.exit_code
    return 0


def _flushed(code: int) -> int:
    """``code``, or 1 when the end of the output found no reader."""
    try:
        sys.stdout.flush()
    except OSError:
        return code or 1
    return code


def _leave(code: int) -> NoReturn:
    """End the process once its threads have ended, as Python would, but without Python's way out: freeing 700 modules one by one takes
    0.1 s, the kernel does it at once. Nobody in vlab relies on ``atexit``."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    os._exit(code)
