"""The models of ip_vs' schedulers against the kernel's own, connection by connection: random services put into one director by
ipvsadm, asked by the program that ``verify`` asks with. Each service is new, so its whole state is known."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.live.harness import running, traces, vlab
from vlab.lvs import models
from vlab.lvs.models import Arrival, Pool, Server
from vlab.lvs.probe import Answers, Ask, probe
from vlab.lvs.schedulers import CLOSED, HELD, Pace
from vlab.topology.vocabulary import SCHEDULERS

pytestmark = pytest.mark.live

LAB = "t-models"
SERVERS = 4
VIP = IPv4Address("10.20.0.100")
CLIENTS = tuple(IPv4Address("10.20.0.130") + at for at in range(14))

TOPOLOGY = f"""\
vlab: 1
name: {LAB}
networks:
  front: {{subnet: 10.20.0.0/24}}
  back: {{subnet: 10.30.0.0/24}}
groups:
  web: {{count: {SERVERS}, virt: container, image: web, networks: [back], memory: 96 MiB}}
  client: {{virt: container, image: client, networks: [front], memory: 96 MiB}}
directors:
  lvs:
    networks: [front, back]
    services:
      www: {{vip: {VIP}, port: 80, mode: nat, scheduler: rr, real_servers: web, check: {{tcp: true, every: 30 s}}}}
"""

WORDS = {  # twos: Debian's kernel is built without it
    **{name: [name] for name in SCHEDULERS if name != "twos"},
    "sh by port": ["sh", "sh-port"],
    "sh falling back": ["sh", "sh-fallback"],
    "mh by port": ["mh", "mh-port"],
    "mh falling back": ["mh", "mh-fallback"],
}
EACH = 3
"""Random services of each kind."""


@dataclass(frozen=True)
class Case:
    """``pool`` is the service as ``commands`` (of ipvsadm) make it."""

    name: str
    pace: Pace
    pool: Pool
    commands: tuple[str, ...]


def case(port: int, words: list[str], addresses: list[IPv4Address], chance: random.Random) -> Case:
    """A service of some of the servers, with weights, thresholds, and a weight that changed."""
    service = f"-t {VIP}:{port}"
    pool = Pool.listed(models.scheduler(*words), [])
    flags = f" -b {words[1]}" if words[1:] else ""
    commands = [f"-A {service} -s {words[0]}{flags}"]
    for address in chance.sample(addresses, chance.randint(2, len(addresses))):
        server = _server(address, chance)
        pool = pool.add(server)
        commands.append(f"-a {service} {_words(server)}")
    if chance.random() < 0.5:
        changed = chance.choice(pool.servers)
        weight = chance.choice([0, 2, 5])
        pool = pool.weigh(changed.key, weight)
        commands.append(f"-e {service} {_words(next(s for s in pool.servers if s.key == changed.key))}")
    return Case(" ".join(words), chance.choice([HELD, CLOSED]), pool, tuple(commands))


def _server(address: IPv4Address, chance: random.Random) -> Server:
    upper = chance.choice([0, 0, 0, 3, 5])
    return Server(address, 80, chance.choice([0, 1, 1, 2, 3, 6]), upper, chance.choice([0, 2]) if upper else 0)


def _words(server: Server) -> str:
    return f"-r {server.address}:{server.port} -m -w {server.weight} -x {server.upper} -y {server.lower}"


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[IPv4Address, str]]:
    """The running lab's real servers, node names by address."""
    file: Path = tmp_path_factory.mktemp("models") / "topology.yaml"
    file.write_text(TOPOLOGY)
    with running(file, LAB, "--no-verify"):
        nodes = vlab("status", LAB, "-o", "json").json()["nodes"]
        yield {IPv4Address(n["addresses"]["back"]): n["name"] for n in nodes if n["group"] == "web"}
    assert traces(LAB) == []


def asked(cases: dict[int, Case]) -> dict[str, Answers]:
    """The client's connections to all services, in one process."""
    program = probe("http").program
    asks = [
        Ask(f"s{port}", "http", VIP, port, len(CLIENTS), case.pace is HELD, CLIENTS, CLIENTS, "eth0")
        for port, case in cases.items()
    ]
    return dict(program.parse(vlab("exec", f"{LAB}/client1", "--", *program.command(asks)).out))


def test_every_connection_goes_where_the_model_says(addresses: dict[IPv4Address, str]) -> None:
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    wanted = [words for words in WORDS.values() for _ in range(EACH)]
    cases = {port: case(port, words, list(addresses), chance) for port, words in enumerate(wanted, 2000)}
    rules = "".join(f"{line}\n" for case in cases.values() for line in case.commands)
    vlab("exec", f"{LAB}/lvs1", "--", "sh", "-c", 'printf %s "$1" | ipvsadm -R', "sh", rules)
    answers = asked(cases)
    wrong = []
    for port, it in cases.items():
        replies = answers[f"s{port}"].replies
        arrivals = [Arrival(client, reply.port, VIP) for client, reply in zip(CLIENTS, replies, strict=True)]
        chosen, _ = it.pace.run(it.pool, arrivals)
        names = [addresses[IPv4Address(str(server.address))] if server else "" for server in chosen]
        if names != [reply.name for reply in replies]:
            wrong.append(
                (it.name, it.pace.words, it.commands, names, [reply.name or reply.failure for reply in replies])
            )
    assert wrong == [], f"seed {seed}, {len(wrong)} of {len(cases)}"


def test_borrowed_addresses_are_gone(addresses: dict[IPv4Address, str]) -> None:
    assert addresses
    shown = vlab("exec", f"{LAB}/client1", "--", "ip", "-br", "-4", "address", "show", "dev", "eth0").out
    assert len(shown.split()) == 3, shown


def test_two_who_ask_at_once_do_not_take_each_others_addresses_away(addresses: dict[IPv4Address, str]) -> None:
    assert addresses
    program = probe("http").program
    argv = program.command(
        [Ask("www", "http", VIP, 80, len(CLIENTS), sources=CLIENTS, borrowed=CLIENTS, device="eth0")]
    )
    command = ("exec", f"{LAB}/client1", "--", *argv)
    with ThreadPoolExecutor(2) as pool:
        answers = [program.parse(ran.out)["www"] for ran in pool.map(lambda _: vlab(*command), range(2))]
    assert [it.failures for it in answers] == [(), ()]
    assert [it.good for it in answers] == [len(CLIENTS)] * 2
