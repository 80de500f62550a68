"""Bring one guest to its settings, and know that it has them.

A fresh guest whose clone was seeded settles by itself while it boots, and is only asked. Any other gets one script in one round
trip, and a second to read what an earlier run left.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlab.errors import GuestError
from vlab.guests import transition
from vlab.guests.base import Channel
from vlab.guests.settings import File, Settings
from vlab.guests.wait import NotYet, wait_until

TIMEOUT = 180.0
POLL = 0.2


def settled(channel: Channel, name: str, *, timeout: float) -> str:
    """The digest of the settings that a seeded guest's boot has made, «failed» when it could not. ``WaitError`` after ``timeout``
    seconds."""

    def found() -> str:
        try:
            return channel.get(transition.SETTLED_FILE).decode().strip() or _not_yet()
        except GuestError:
            return _not_yet()

    return wait_until(f"{name}: its settings to take effect", found, timeout=timeout, slowest=POLL)


def _not_yet() -> str:
    raise NotYet("still booting")


def settle(channel: Channel, wanted: Settings, found: Settings | None, extra: Sequence[File] = ()) -> None:
    """Take the guest from ``found`` (None: it has no settings) to ``wanted``. Raises ``GuestError`` with the script's output when a
    line of it fails."""
    script = transition.script(found, wanted, extra=extra)
    result = channel.run(["/bin/sh", "-s"], input=script.encode(), timeout=TIMEOUT)
    if result.code:
        raise GuestError(
            f"{wanted.hostname}: its settings could not be applied",
            details=[*result.text.splitlines()[-5:], *result.error_text.splitlines()[-15:]],
            hint=f"look inside: vlab exec {wanted.hostname} -- journalctl -b, or vlab logs {wanted.hostname}",
        )


def found_settings(channel: Channel) -> Settings | None:
    """What an earlier run applied or the clone was seeded with, None when the guest has none."""
    result = channel.run(["cat", transition.SETTINGS_FILE])
    return transition.load(result.text) if result.code == 0 else None
