"""Every forwarding mode with every scheduler of Debian's kernel, real servers as machines and as containers, TCP and UDP: each a service
of its own, proved by traffic against the oracle. One lab a mode, so three labs and three runs of ``verify`` prove them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import running, traces, vlab
from vlab.topology.vocabulary import SCHEDULERS

pytestmark = pytest.mark.live

KINDS = {"para": "vm", "container": "box"}
"""Virt kind → the group of its real servers."""

TCP = sorted(SCHEDULERS.keys() - {"twos"})  # Debian's kernel is built without twos
UDP = ["rr", "wlc", "sh"]
VARIANTS = ["wrr", "wlc"]
"""Schedulers that are tried with what a mode may be told beside its name."""

CHECKS = {"udp": "udp: true", "ops": "udp: true"}
"""What is not «tcp: true»."""


@dataclass(frozen=True)
class Mode:
    """``servers`` are the networks of the real servers; ``kinds`` those that any host can run."""

    name: str
    servers: str
    kinds: tuple[str, ...]
    mtu: int = 1500
    one_packet: tuple[str, ...] = ()
    """Schedulers that are tried with one-packet scheduling: not in NAT, where ip_vs needs the connection for the answer."""
    variants: tuple[tuple[str, str], ...] = ()
    """Word and keys of services on port 80 that the mode serves in other ways: by IPv4."""


MODES = [
    Mode("nat", "back", ("para", "container"), variants=(("snat", "port: 80, snat: true"),)),
    Mode("dr", "front", ("para", "container"), one_packet=("rr", "wlc")),
    # A container unwraps with the host's kernel, which may have no ipip.
    Mode(
        "tun",
        "front, back",
        ("para",),
        mtu=1540,
        one_packet=("rr", "wlc"),
        variants=(
            ("gre", "port: 80, tunnel: gre"),
            ("gue", "port: 80, tunnel: gue"),
            ("mark", "ports: [80, 81], fwmark: auto"),
        ),
    ),
]


@dataclass(frozen=True)
class Family:
    """``front`` and ``back`` are what a network says of its subnet; ``vip`` is a format of a number."""

    name: str
    front: str
    back: str
    vip: str
    variants: bool = True


FAMILIES = [
    Family("ipv4", "subnet: 10.20.0.0/24", "subnet: 10.30.0.0/24", "10.20.0.{}"),
    Family(
        "ipv6",
        "subnet: 10.20.0.0/24, subnet6: fd00:20::/64",
        "subnet: 10.30.0.0/24, subnet6: fd00:30::/64",
        "fd00:20::{}",
        variants=False,
    ),
]


def services(mode: Mode, family: Family) -> Iterator[tuple[str, str]]:
    """Name and declaration of each service, on a VIP of its own, so that all modes may serve on the servers' own ports."""
    tcp, udp, ops = (
        "port: 80, protocol: tcp",
        "port: 9000, protocol: udp",
        "port: 9000, protocol: udp, one_packet: true",
    )
    variants = [(word, keys, VARIANTS) for word, keys in mode.variants if family.variants]
    rows = [("tcp", tcp, TCP), ("udp", udp, UDP), ("ops", ops, mode.one_packet), *variants]
    cells = [(word, keys, name, KINDS[kind]) for kind in mode.kinds for word, keys, names in rows for name in names]
    for number, (word, keys, scheduler, group) in enumerate(cells, 100):
        yield (
            f"{word}-{scheduler}-{group}",
            f"{{vip: {family.vip.format(number)}, {keys}, mode: {mode.name}, scheduler: {scheduler}, "
            f"real_servers: {group}, weights: {{{group}1: 3}}, check: {{{CHECKS.get(word, 'tcp: true, port: 80')}, every: 20 s, timeout: 5 s}}}}",
        )


def topology(mode: Mode, family: Family) -> str:
    groups = [
        f"  {KINDS[kind]}: {{count: 2, virt: {kind}, image: web, networks: [{mode.servers}], memory: 192 MiB}}"
        for kind in mode.kinds
    ]
    declared = [f"      {name}: {text}" for name, text in services(mode, family)]
    director = "front" if mode.servers == "front" else "front, back"
    return "\n".join(
        [
            "vlab: 1",
            f"name: t-matrix-{mode.name}",
            "networks:",
            f"  front: {{{family.front}}}",
            *([f"  back: {{{family.back}, mtu: {mode.mtu}}}"] if director != "front" else []),
            "groups:",
            *groups,
            "  client: {virt: container, image: client, networks: [front], memory: 96 MiB}",
            "directors:",
            "  lvs:",
            f"    networks: [{director}]",
            "    services:",
            *declared,
            "",
        ]
    )


@pytest.fixture(
    scope="module", params=[(m, f) for m in MODES for f in FAMILIES], ids=lambda it: f"{it[0].name}-{it[1].name}"
)
def proved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Mode, Family, Any]]:
    """Mode, family, and what ``verify`` says of that lab."""
    mode, family = request.param
    lab = f"t-matrix-{mode.name}"
    file: Path = tmp_path_factory.mktemp("matrix") / "topology.yaml"
    file.write_text(topology(mode, family))
    with running(file, lab, "--no-verify"):
        yield mode, family, vlab("verify", lab, "-o", "json", check=False).json()
    assert traces(lab) == []


def test_all_is_as_the_oracle_says(proved: tuple[Mode, Family, Any]) -> None:
    _, _, found = proved
    assert [check for check in found["checks"] if not check["ok"]] == []
    assert found["ok"]


def test_each_cell_was_asked_and_counted(proved: tuple[Mode, Family, Any]) -> None:
    mode, family, found = proved
    variants = len(mode.variants) * len(VARIANTS) if family.variants else 0
    ids = {check["id"] for check in found["checks"]}
    parts = ("table", "reachable", "split", "connections", "replies")
    wanted = {f"service/{name}/{part}" for name, _ in services(mode, family) for part in parts}
    assert wanted <= ids
    assert len(wanted) == len(parts) * len(mode.kinds) * (len(TCP) + len(UDP) + len(mode.one_packet) + variants)


def test_hashes_of_the_client_were_asked_from_many_addresses(proved: tuple[Mode, Family, Any]) -> None:
    mode, _, found = proved
    said = {check["id"]: check["expected"] for check in found["checks"]}
    for kind in mode.kinds:
        for name in ("tcp-sh", "tcp-mh", "udp-sh"):
            assert "17 addresses of client1" in said[f"service/{name}-{KINDS[kind]}/reachable"]
