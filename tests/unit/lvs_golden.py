"""Comparison with golden files; ``VLAB_REGENERATE=1`` writes them anew, for review with git diff."""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden"


def matches(name: str, text: str) -> None:
    """Assert that ``text`` is what tests/golden/``name`` holds."""
    path = GOLDEN / name
    if os.environ.get("VLAB_REGENERATE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"differs from {path}; VLAB_REGENERATE=1 writes it anew"
