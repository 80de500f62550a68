"""``vlab forward``: ports of the host's 127.0.0.1 that lead into a lab.

Each connection is dialled from inside the lab's namespace, so the host's routes and firewall have no part in it, and nothing is set up
that would have to be taken down.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from vlab.errors import ConflictError, HostError
from vlab.host.namespace import inside, namespaces
from vlab.topology.family import Address, endpoint, is_six

log = logging.getLogger("vlab.forward")

HOST = "127.0.0.1"
CHUNK = 1 << 16
POLL = 0.2
CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Forward:
    """``port`` on the host's 127.0.0.1 leads to ``address``:``target_port`` in the lab."""

    port: int
    address: Address
    target_port: int


def serve(forwards: Sequence[Forward], namespace: str, ready: Callable[[], None], stop: threading.Event) -> None:
    """Forward until ``stop`` is set, the lab goes, or Ctrl-C; ``ready`` is called once every port listens.

    Raises ``ConflictError`` for a port that is in use or when the lab goes, ``UsageError`` when it is not there.
    """
    inside(namespace, lambda: None)
    asyncio.run(_serve(forwards, namespace, ready, stop))


async def _serve(forwards: Sequence[Forward], namespace: str, ready: Callable[[], None], stop: threading.Event) -> None:
    with ExitStack() as servers:
        for forward in forwards:
            server = await asyncio.start_server(_carrier(forward, namespace), sock=_listen(forward))
            # Not «async with»: from Python 3.12 on that waits for connections that may stay open for hours.
            servers.callback(server.close)
        ready()
        while not stop.is_set():
            await asyncio.sleep(POLL)
            if namespace not in namespaces():
                raise ConflictError("the lab is gone, and its forwards with it", hint="vlab ls shows the labs that run")


def _listen(forward: Forward) -> socket.socket:
    try:
        return socket.create_server((HOST, forward.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = f"choose another: vlab forward {forward.port + 10000}:…"
            raise ConflictError(f"port {forward.port} of {HOST} is in use", hint=hint) from error
        raise HostError(f"cannot listen on {HOST}:{forward.port}: {os.strerror(error.errno or 0)}") from error


Carrier = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _carrier(forward: Forward, namespace: str) -> Carrier:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await _dial(forward, namespace)
        except (OSError, TimeoutError) as error:
            log.warning("%s in the lab: %s", endpoint(forward.address, forward.target_port), error or "no answer")
            writer.close()
            return
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
        for end in (inner_writer, writer):
            end.close()

    return carry


async def _dial(forward: Forward, namespace: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    family = socket.AF_INET6 if is_six(forward.address) else socket.AF_INET
    connection = inside(namespace, lambda: socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
    target = (str(forward.address), forward.target_port)
    try:
        # Not «wait_for»: until Python 3.12 a cancellation in the turn in which the connection is there goes unheard.
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await asyncio.get_running_loop().sock_connect(connection, target)
    except BaseException:
        connection.close()
        raise
    return await asyncio.open_connection(sock=connection)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction to its end, then close that direction only: the other may still have much to say."""
    with suppress(ConnectionError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
