"""What happens while vlab works, as data. The engine emits, sinks show; nothing here prints.

A sink is any callable that takes an ``Event``. ``cli/report.py`` has the terminal and line sinks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

State = Literal["started", "progress", "done", "failed", "undone", "note"]


@dataclass(frozen=True, slots=True)
class Event:
    """``subject`` is a step id or a thing's name («image/web», «domain/web1»); ``fraction`` is 0..1 of a progress event.

    ``at`` is seconds of ``time.monotonic()``.
    """

    subject: str
    state: State
    text: str = ""
    fraction: float | None = None
    at: float = field(default_factory=time.monotonic)


Sink = Callable[[Event], None]


def silent(_event: Event) -> None:
    """The sink that shows nothing."""
