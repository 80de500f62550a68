"""keepalived's health checks: what each writes into keepalived.conf, and which files it needs beside it. Pure.

A check is one class, found by the ``kind`` of a topology's ``check``. Where a real server has several, all must succeed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import ClassVar

from vlab.errors import UsageError
from vlab.guests.settings import File
from vlab.topology.lab import RealServer, Service

SCRIPT_USER = "keepalived_script"
"""Whom the director's image has for scripts of misc checks."""

LOGIN_PROGRAM = "/usr/lib/vlab/mysql-login"


class Checker:
    """One kind of check."""

    name: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        _CHECKERS[cls.name] = cls()

    def lines(self, service: Service, server: RealServer) -> Iterator[str]:
        """The checks of one real server. ``service`` is one of the kernel's (``Service.each``)."""
        raise NotImplementedError

    def files(self, service: Service) -> tuple[File, ...]:  # noqa: ARG002 - few need any
        """What the check reads in the director."""
        return ()


_CHECKERS: dict[str, Checker] = {}


def checker(kind: str) -> Checker:
    """The check called ``kind``. Raises ``UsageError``."""
    found = _CHECKERS.get(kind)
    if found is None:
        raise UsageError(f"there is no health check «{kind}»", hint=f"checks: {', '.join(_CHECKERS)}")
    return found


def asked(service: Service, server: RealServer) -> tuple[int, ...]:
    """The ports of ``server`` that a check asks: the check's own, or those that it must serve."""
    return served(service, server) if service.check.port is None else (service.check.port,)


def served(service: Service, server: RealServer) -> tuple[int, ...]:
    """The ports that ``server`` must listen on. Of a service with a firewall mark those that were written one by one: a range is
    for connections that come later (FTP's data), and nobody listens there before. A list of ranges alone: the first port."""
    if server.port:
        return (server.port,)
    single = tuple(ports.first for ports in service.port_ranges if len(ports) == 1)
    return single or (service.port,)


class _Connecting(Checker):
    """A check that keepalived makes by itself, on a port that it must be told where it is not the real server's."""

    word: ClassVar[str]

    def lines(self, service: Service, server: RealServer) -> Iterator[str]:
        for port in asked(service, server):
            yield f"{self.word} {{"
            yield from (f"    {line}" for line in self.inner(service))
            if port != server.port:
                yield f"    connect_port {port}"
            yield "}"

    def inner(self, service: Service) -> Sequence[str]:  # noqa: ARG002 - some have nothing to say
        return ()


class Tcp(_Connecting):
    """Connects and closes."""

    name, word = "tcp", "TCP_CHECK"


class Udp(_Connecting):
    """Sends a datagram, and fails when ICMP says that nobody listens: silence is no failure."""

    name, word = "udp", "UDP_CHECK"


class Http(_Connecting):
    """Asks for a path. ``fast_recovery``: one good answer brings a server back."""

    name, word = "http", "HTTP_GET"

    def inner(self, service: Service) -> Sequence[str]:
        return (
            "fast_recovery",
            "url {",
            f"    path {_word(service.check.path)}",
            "    status_code 200",
            "}",
        )


class Dns(_Connecting):
    """Asks for a name's address by UDP, and wants an answer without an error code."""

    name, word = "dns", "DNS_CHECK"

    def inner(self, service: Service) -> Sequence[str]:
        return ("type A", f"name {service.check.name}")


class Misc(Checker):
    """Runs a program as ``keepalived_script``: exit code 0 is good. keepalived starts it without a shell."""

    name = "misc"
    user: ClassVar[str] = SCRIPT_USER

    def lines(self, service: Service, server: RealServer) -> Iterator[str]:
        for command in dict.fromkeys(self.command(service, server, port) for port in asked(service, server)):
            yield "MISC_CHECK {"
            yield f'    misc_path "{command}"'
            yield f"    misc_timeout {ceil(service.check.timeout)}"
            yield f"    user {self.user}"
            yield "}"

    def command(self, service: Service, server: RealServer, port: int) -> str:
        words = (
            word.replace("{address}", str(server.address)).replace("{port}", str(port))
            for word in service.check.command
        )
        return " ".join(words)


class Login(Misc):
    """Logs in to a database server. The password is in a file that only root may read, and so in no process list: hence root."""

    name = "login"
    user = "root"

    def command(self, service: Service, server: RealServer, port: int) -> str:
        return f"{LOGIN_PROGRAM} {server.address} {port} {self.path(service)}"

    def files(self, service: Service) -> tuple[File, ...]:
        account = service.check.login
        assert account, "a login check has an account"
        text = f"{account.user}\n{account.password}\n{account.database}\n"
        return (File(self.path(service), text, 0o600, f"the account that {service.name}'s health check logs in with"),)

    def path(self, service: Service) -> str:
        return f"/etc/vlab/login-{service.name}"


def _word(text: str) -> str:
    """Quoted where keepalived would take part of it for a comment or a parameter."""
    return f'"{text}"' if any(mark in text for mark in "!$~@") else text
