"""One verb for many labs: each lab is a vlab process of its own, a few at a time.

Processes, because a lab's run takes signals, undoes itself and ends by itself; and because thirty labs are work for every core.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from vlab import run
from vlab.cli import report
from vlab.events import Event, Sink

PROGRAM = (sys.executable, "-c", "from vlab.cli.main import main; main()")


@dataclass(frozen=True, slots=True)
class Ended:
    """How one lab's process ended: ``seconds`` it took, ``told`` what it said on stderr, ``shown`` its JSON."""

    lab: str
    code: int
    seconds: float
    told: str
    shown: Any


def each(verb: str, labs: Sequence[str], words: Sequence[str]) -> list[Ended]:
    """Run «vlab VERB WORDS --as LAB» for every lab, as many at once as the host has cores, at least two. Ctrl-C ends them all, each undone."""
    with report.progress() as sink, ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        runs = [pool.submit(_one, verb, lab, words, sink) for lab in labs]
        try:
            return [started.result() for started in runs]
        except BaseException:
            for waiting in runs:
                waiting.cancel()
            run.end_delegates()
            raise


def _one(verb: str, lab: str, words: Sequence[str], sink: Sink) -> Ended:
    subject = f"{verb}/{lab}"
    sink(Event(subject, "started"))
    began = time.monotonic()
    result = run.delegate([*PROGRAM, verb, *words, "--as", lab])
    ended = Ended(lab, result.code, time.monotonic() - began, _last_words(result.error_text), _json(result.text))
    sink(Event(subject, "failed" if result.code else "done", ended.told if result.code else f"{ended.seconds:.1f} s"))
    return ended


def worst(ended: Sequence[Ended]) -> int:
    """The exit code of all: that of the first that failed, 0 when none did."""
    return next((one.code for one in ended if one.code), 0)


def _last_words(text: str) -> str:
    """The error, without the progress before it."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("vlab: ")]
    return "\n".join(lines[starts[-1] :]) if starts else ""


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
