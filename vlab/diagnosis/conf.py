"""What a diagnosis asks of a keepalived.conf: services, their real servers, VRRP ids. Pure; reads what people type, not only what vlab writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from vlab.topology.family import Address


@dataclass(frozen=True, slots=True)
class Server:
    """``weight`` None where the file does not say."""

    address: str
    port: int
    weight: int | None = None

    @property
    def ip(self) -> Address | None:
        return _ip(self.address)


@dataclass(frozen=True, slots=True)
class Virtual:
    """``delay`` and ``persistence`` in seconds, None where the file does not say."""

    protocol: str
    address: str
    port: int
    scheduler: str
    delay: float | None
    persistence: int | None
    servers: tuple[Server, ...]

    @property
    def ip(self) -> Address | None:
        return _ip(self.address)


def _ip(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Instance:
    """A VRRP instance, with keepalived's own values where the file does not say; ``interval`` in seconds. ``authentication`` is type
    and password in one."""

    interface: str
    vrid: int
    interval: float = 1.0
    authentication: str = "none"
    version: int = 2


Block = tuple[list[str], list["Block | list[str]"]]
"""The words before «{», and what is inside: lines as words, blocks."""


def parse(text: str) -> list[Virtual]:
    """The services of a keepalived.conf; what is no number where one belongs makes the service be left out."""
    found: list[Virtual] = []
    for head, body in _named(_blocks(text), "virtual_server"):
        try:
            found.append(_virtual(head, body))
        except (ValueError, IndexError):
            continue
    return found


def instances(text: str) -> list[Instance]:
    """The VRRP instances of a keepalived.conf; one without an interface, or with what is no number where one belongs, is left out."""
    blocks = _blocks(text)
    version = next((_settings(body).get("vrrp_version", "2") for _, body in _named(blocks, "global_defs")), "2")
    found: list[Instance] = []
    for _, body in _named(blocks, "vrrp_instance"):
        try:
            found.append(_instance(body, version))
        except (ValueError, KeyError):
            continue
    return found


def _instance(body: Sequence[Block | list[str]], version: str) -> Instance:
    settings = _settings(body)
    proof = next((_settings(inner) for _, inner in _named(body, "authentication")), {})
    return Instance(
        settings["interface"], int(settings["virtual_router_id"]), float(settings.get("advert_int", "1")),
        " ".join((proof.get("auth_type", "none"), proof.get("auth_pass", ""))).strip(), int(settings.get("version", version)),
    )  # fmt: skip


def _virtual(head: Sequence[str], body: Sequence[Block | list[str]]) -> Virtual:
    settings = _settings(body)
    persistence = settings.get("persistence_timeout")
    return Virtual(
        settings.get("protocol", "TCP").lower(), head[1], int(head[2]), settings.get("lvs_sched", settings.get("lb_algo", "")),
        float(settings["delay_loop"]) if "delay_loop" in settings else None, int(persistence) if persistence is not None else None,
        tuple(_server(head, body) for head, body in _named(body, "real_server")),
    )  # fmt: skip


def _server(head: Sequence[str], body: Sequence[Block | list[str]]) -> Server:
    weight = _settings(body).get("weight")
    return Server(head[1], int(head[2]), int(weight) if weight is not None else None)


def _settings(body: Sequence[Block | list[str]]) -> dict[str, str]:
    return {line[0]: " ".join(line[1:]) for line in body if isinstance(line, list)}


def _named(body: Sequence[Block | list[str]], word: str) -> Iterator[Block]:
    return (item for item in body if isinstance(item, tuple) and item[0][:1] == [word])


def _blocks(text: str) -> list[Block | list[str]]:
    """Nested blocks by braces; a brace too many is passed over."""
    stack: list[Block] = [([], [])]
    for raw in text.splitlines():
        words = raw.split("#")[0].split("!")[0].replace("}", " } ").replace("{", " { ").split()
        line: list[str] = []
        for word in words:
            if word == "{":
                stack.append((line, []))
                stack[-2][1].append(stack[-1])
                line = []
            elif word == "}":
                line = _ended(stack, line)
                stack[1:] = stack[1:-1]
            else:
                line.append(word)
        _ended(stack, line)
    return stack[0][1]


def _ended(stack: list[Block], line: list[str]) -> list[str]:
    if line:
        stack[-1][1].append(line)
    return []
