"""Bring one guest to its settings, and know that it has them.

A fresh guest whose clone was seeded settles by itself while it boots, and is only asked. Any other gets one script in one round
trip, and a second to read what an earlier run left.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlab.errors import GuestError
from vlab.guests import transition, wake
from vlab.guests.agent import AgentRefused
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


def settle(
    channel: Channel, wanted: Settings, found: Settings | None, extra: Sequence[File] = (), before: str = ""
) -> None:
    """Take the guest from ``found`` (None: it has no settings) to ``wanted``; ``before`` is sh that runs first. Raises ``GuestError`` with
    the script's output when a line of it fails."""
    script = before + transition.script(found, wanted, extra=extra)
    result = channel.run(["/bin/sh", "-s"], input=script.encode(), timeout=TIMEOUT)
    _refuse(wanted.hostname, result.code, f"{result.text}{result.error_text}")


def _refuse(name: str, code: int, said: str) -> None:
    if code:
        raise GuestError(
            f"{name}: its settings could not be applied",
            details=said.splitlines()[-20:],
            hint=f"look inside: vlab exec {name} -- journalctl -b, or vlab logs {name}",
        )


def awaken(channel: Channel, wanted: Settings, found: Settings, extra: Sequence[File] = ()) -> None:
    """Make a guest that was just restored one of its own, by the program that waits in it; by one that is started, where none waits (any
    more) or the orders are too long for it. Raises as ``settle``."""
    orders = wake.orders(wanted, transition.script(found, wanted, extra=extra))
    told = _told(channel, wanted.hostname, orders) if len(orders.text) <= wake.MOST else None
    if told is None:
        settle(channel, wanted, found, extra, wake.script(wanted))
    else:
        _refuse(wanted.hostname, *told)


def _told(channel: Channel, name: str, orders: wake.Orders) -> tuple[int, str] | None:
    """Exit code and output of the orders, None when nobody took these."""
    try:
        channel.feed(wake.ORDERS, orders.text)
    except AgentRefused:
        return None
    head, _, said = _woken(channel, name).partition("\n")
    code, _, token = head.partition(" ")
    return (int(code), said) if token == orders.token else None


def _woken(channel: Channel, name: str) -> str:
    def found() -> str:
        try:
            return channel.get(wake.RESULT).decode(errors="replace")
        except GuestError as error:
            raise NotYet(error.what) from error

    return wait_until(f"{name}: to be one of its own", found, timeout=TIMEOUT, interval=0.1, slowest=0.2)


def found_settings(channel: Channel) -> Settings | None:
    """What an earlier run applied or the clone was seeded with, None when the guest has none, or no whole record of it."""
    try:
        return transition.load(channel.get(transition.SETTINGS_FILE).decode())
    except (GuestError, ValueError, TypeError, KeyError):
        return None  # a run was killed while it wrote: all is said again
