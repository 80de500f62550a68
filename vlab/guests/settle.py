"""Bring one guest to its settings: one script, one round trip; a second only to read what an earlier run left."""

from __future__ import annotations

from collections.abc import Sequence

from vlab.errors import GuestError
from vlab.guests import transition
from vlab.guests.base import Channel
from vlab.guests.settings import File, Settings

SETTINGS_FILE = "/etc/vlab/settings.json"
TIMEOUT = 180.0


def settle(channel: Channel, wanted: Settings, *, fresh: bool, extra: Sequence[File] = ()) -> None:
    """Apply ``wanted``. ``fresh`` says that the guest has no settings yet, so there is nothing to read. Raises ``GuestError``
    with the script's output when a line of it fails."""
    found = None if fresh else found_settings(channel)
    script = transition.script(found, wanted, extra=extra)
    result = channel.run(["/bin/sh", "-s"], input=script.encode(), timeout=TIMEOUT)
    if result.code:
        raise GuestError(
            f"{wanted.hostname}: its settings could not be applied",
            details=[*result.text.splitlines()[-5:], *result.error_text.splitlines()[-15:]],
            hint=f"look inside: vlab exec {wanted.hostname} -- journalctl -b, or vlab logs {wanted.hostname}",
        )


def found_settings(channel: Channel) -> Settings | None:
    """What an earlier run applied, None when the guest has none."""
    result = channel.run(["cat", SETTINGS_FILE])
    return transition.load(result.text) if result.code == 0 else None
