"""The topology language: the shipped files, units, warnings, many problems at once, and files nobody foresaw."""

from __future__ import annotations

import math
import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no stubs of its own

from vlab.errors import TopologyError, UsageError
from vlab.topology import document, units
from vlab.topology.addressing import complete
from vlab.topology.model import Topology
from vlab.topology.parse import Source, load, parse, read, warnings
from vlab.topology.schema import schema

SHIPPED = sorted((Path(__file__).parents[2] / "topologies").glob("*.yaml"))
IMAGES = ("base", "client", "db", "director", "ftp", "web")

SHOP = """\
vlab: 1
name: shop
networks:
  front: {subnet: 10.20.0.0/24}
  back: {subnet: 10.30.0.0/24}
groups:
  web: {count: 3, image: web, networks: [back]}
  db: {count: 2, virt: container, image: db, networks: [back]}
  client: {count: 2, virt: container, image: client, networks: [front]}
directors:
  lvs:
    networks: [front, back]
    services:
      www: {vip: 10.20.0.100, port: 80, mode: nat, real_servers: web}
      sql: {vip: 10.30.0.200, port: 3306, mode: dr, real_servers: db}
"""


def edited(*edits: tuple[str, str]) -> str:
    """SHOP with each first text replaced by the second, which must be there."""
    text = SHOP
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def shop(*edits: tuple[str, str]) -> Topology:
    return parse(Source("shop.yaml", edited(*edits)), IMAGES)


def warned(*edits: tuple[str, str]) -> list[str]:
    source = Source("shop.yaml", edited(*edits))
    return [problem.render("shop.yaml") for problem in warnings(source, parse(source, IMAGES))]


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_shipped_topologies_are_valid_without_warnings(path: Path) -> None:
    topology = load(path, IMAGES)
    assert topology.name == path.stem
    assert warnings(read(path), topology) == []
    assert complete(topology).services


def test_all_six_are_shipped() -> None:
    assert {path.stem for path in SHIPPED} >= {"quickstart", "web-db", "nat", "dr", "tun", "virt-kinds"}


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_schema_accepts_shipped_topologies(path: Path) -> None:
    root = document.read(path.read_text()).root
    assert root
    Draft202012Validator(schema()).validate(document.plain(root))


@pytest.mark.parametrize(
    "edit",
    [
        ("count: 3", "cuont: 3"),
        ("count: 3", "count: 0"),
        ("vlab: 1", "vlab: 2"),
        ("mode: nat", "mode: masq"),
        ("name: shop", "name: Shop"),
        ("  web: {", "  Web: {"),
        ("image: web", "memory: 256"),
        ("image: web", "memory: 256 MiB"),
        ("subnet: 10.20.0.0/24", "subnet: 10.20.0.0"),
        ("real_servers: web", "real_servers: web, check: ping"),
        ("real_servers: web", "real_servers: web, fwmark: 0"),
        ("real_servers: web", "real_servers: web, persistence: {netmask: 24}"),
        ("port: 80", "ports: [80, 70000]"),
    ],
)
def test_schema_refuses_what_the_language_refuses(edit: tuple[str, str]) -> None:
    root = document.read(edited(edit)).root
    assert root
    assert not Draft202012Validator(schema()).is_valid(document.plain(root))
    with pytest.raises(TopologyError):
        shop(edit)


def test_schema_describes_every_key_in_the_words_of_the_file() -> None:
    found = schema()
    Draft202012Validator.check_schema(found)
    parts = [found, *found["$defs"].values()]
    assert all("description" in key for part in parts for key in part["properties"].values())
    assert found["$defs"]["Group"]["properties"]["memory"]["default"] == "256 MiB"
    assert found["$defs"]["Check"]["properties"]["every"]["default"] == "2 s"
    assert '"null"' not in str(found).replace("'", '"')


def test_defaults() -> None:
    topology = shop()
    web, lvs, www = topology.groups["web"], topology.directors["lvs"], topology.directors["lvs"].services["www"]
    assert (web.virt, web.memory, web.cpus, web.cpu_shares, web.cpu_quota) == ("para", 256 * units.MIB, 1, None, None)
    assert (lvs.virt, lvs.image, lvs.count) == ("para", "director", 1)
    assert (www.scheduler, www.protocol, www.weight, www.persistence, www.real_port) == ("wlc", "tcp", 1, None, None)
    assert (www.check_kind, www.check.every, www.check.timeout) == ("tcp", 2.0, 3.0)


@pytest.mark.parametrize(
    ("written", "kind", "path", "every"),
    [
        ("tcp", "tcp", "", 2.0),
        ("{tcp: true, every: 5 s}", "tcp", "", 5.0),
        ("{every: 500 ms}", "tcp", "", 0.5),
        ("{http: /health}", "http", "/health", 2.0),
        ("{http: '/a?b=%20c', every: 1 min}", "http", "/a?b=%20c", 60.0),
    ],
)
def test_checks(written: str, kind: str, path: str, every: float) -> None:
    www = shop(("real_servers: web", f"real_servers: web, check: {written}")).directors["lvs"].services["www"]
    assert (www.check_kind, www.check.http, www.check.every) == (kind, path, every)


def test_the_accelerator_is_the_labs() -> None:
    assert complete(shop()).accel == "auto"
    assert complete(shop(("name: shop", "name: shop\naccel: tcg"))).accel == "tcg"


def test_values_follow_yaml_1_2() -> None:
    topology = shop(
        ("name: shop", "name: yes"), ("networks:\n  front", "networks:\n  off: {subnet: 10.9.0.0/24}\n  front")
    )
    assert topology.name == "yes"
    assert "off" in topology.networks


def test_an_alias_stands_for_what_its_anchor_marks() -> None:
    topology = shop(
        ("networks: [back]}\n  db", "networks: &nets [back]}\n  db"),
        ("image: db, networks: [back]", "image: db, networks: *nets"),
    )
    assert topology.groups["db"].networks == ("back",)


def test_a_byte_order_mark_and_dos_line_ends_are_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SHOP.replace("\n", "\r\n").encode())
    assert load(path) == shop()


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read(tmp_path / "absent.yaml")
    with pytest.raises(UsageError, match="cannot read"):
        read(tmp_path)


def test_models_are_frozen_and_images_optional() -> None:
    topology = parse(Source("shop.yaml", edited(("image: web", "image: anything"))))
    with pytest.raises(ValueError, match="frozen"):
        topology.groups["web"].count = 9


def test_every_problem_comes_at_once_types_and_cross_rules() -> None:
    with pytest.raises(TopologyError) as caught:
        shop(
            ("count: 3", "count: three"),  # type, in a group that services refer to
            ("networks: [back]}\n  client", "networks: [bakc]}\n  client"),  # reference
            ("vip: 10.20.0.100", "vip: 10.20.0.255"),  # cross rule
            ("mode: dr", "mode: direct"),  # choice
        )
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [
        (7, 16),
        (8, 57),
        (14, 18),
        (15, 49),
    ]


def test_what_is_wrong_itself_is_not_missed_by_others() -> None:
    with pytest.raises(TopologyError) as caught:
        shop(("subnet: 10.30.0.0/24", "subnet: 10.30.0.1/24"))
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (("networks: [front]", "networks: [back]"), "14:7: service 'www': no node on 'front' can be a client of it"),
        (("mode: nat", "mode: nat, scheduler: dh"), "dh chooses by destination"),
        (("mode: nat", "mode: nat, scheduler: twos"), "has no module for scheduler twos"),
        (
            ("mode: nat", "mode: nat, scheduler: rr, weights: {web1: 3}"),
            "14:67: service 'www', weights: scheduler rr does not",
        ),
        (("mode: nat", "mode: nat, weight: 0"), "every weight is 0"),
        (("mode: nat", "mode: nat, protocol: udp, check: tcp"), "real servers must answer TCP"),
        (("port: 80", "port: 21"), "the director has no ip_vs_ftp"),
        (("subnet: 10.30.0.0/24", "subnet: 10.30.0.0/24, internet: true"), "does not serve them"),
        (("groups:", "  spare: {subnet: 10.40.0.0/24}\ngroups:"), "6:3: network 'spare': nothing is on this network"),
    ],
)
def test_warnings(edit: tuple[str, str], expected: str) -> None:
    found = warned(edit)
    assert any(expected in warning for warning in found), found


def test_source_hashing_warns_with_one_client_only() -> None:
    by_source = ("mode: nat", "mode: nat, scheduler: sh")
    assert warned(by_source) == []
    assert len(warned(by_source, ("client: {count: 2", "client: {count: 1"))) == 1


def test_a_tunnel_through_a_small_mtu_warns() -> None:
    tunnel = (("mode: nat", "mode: tun"), ("image: web, networks: [back]", "image: web, networks: [back, front]"))
    assert "mtu 1500 is less than 1520" in warned(*tunnel)[0]
    assert warned(*tunnel, ("10.30.0.0/24", "10.30.0.0/24, mtu: 1520")) == []


def test_one_network_for_all_is_enough_for_a_tunnel() -> None:
    topology = shop(("mode: nat", "mode: tun"), ("web, networks: [back]", "web, networks: [front]"))
    service = complete(topology).services[0]
    assert (service.network, service.inner_network) == ("front", "front")


def test_a_real_server_may_serve_by_nat_and_by_direct_routing() -> None:
    """Its default route leads to the director; replies by DR go to clients on its own network, past that route."""
    topology = shop(("real_servers: db", "real_servers: [db, web1]"))
    servers = complete(topology).services[1].real_servers
    assert [server.node for server in servers] == ["db1", "db2", "web1"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("256 MiB", 2**28),
        ("1GiB", 2**30),
        ("512 MB", 512_000_000),
        ("0.5 GiB", 2**29),
        ("64 KiB", 65536),
        ("1 TB", 10**12),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert units.size(text) == count


@pytest.mark.parametrize(
    "text", ["256", "MiB", "-1 MiB", "1e3 MiB", "256 mib", "256 Mb ps", "", "٣ MiB", "1 MiB 2", "nan GiB"]
)
def test_sizes_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unit"):
        units.size(text)


@pytest.mark.parametrize(("text", "seconds"), [("2 s", 2.0), ("500 ms", 0.5), ("1.5 min", 90.0), ("1 h", 3600.0)])
def test_durations(text: str, seconds: float) -> None:
    assert math.isclose(units.duration(text), seconds)


@given(st.integers(1, 2**30))
def test_whole_sizes_survive_being_shown(kib: int) -> None:
    assert units.size(units.show_size(kib * 1024)) == kib * 1024


FRAGMENTS = ["{", "}", "[", "]", ":", ": ", "- ", "\n", "\n  ", "\t", '"', "'", "#", "&a ", "*a", "!!int ", "<<: ", "|", ">", "%",
             "@", "\0", "\ufeff", "\U0001f600", "null", "~", ".nan", "-.inf", "1e999", "0x10", "010", "yes", "---\n", "...", "? ",
             "9" * 400, "web", "web1", "lvs", "front", "nat", "10.20.0.100", "::1", "\\x", '"\\U00110000"', ", "]  # fmt: skip

SPLICE = st.tuples(st.integers(0, len(SHOP)), st.integers(0, 30), st.sampled_from(FRAGMENTS) | st.text(max_size=6))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SPLICE, min_size=1, max_size=4))
def test_no_mutation_of_a_valid_file_is_anything_but_valid_or_refused(splices: list[tuple[int, int, str]]) -> None:
    text = SHOP
    for start, length, inserted in splices:
        text = text[:start] + inserted + text[start + length :]
    accepted_or_refused(text)


LINES = SHOP.splitlines(keepends=True)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(LINES), min_size=8, max_size=len(LINES)))
def test_no_shuffle_of_lines_does_more_than_be_refused(lines: list[str]) -> None:
    accepted_or_refused("".join(lines))


SCALARS = st.sampled_from(FRAGMENTS) | st.integers() | st.floats() | st.booleans() | st.none() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def replaced(draw: st.DrawFn) -> str:
    """SHOP as flow YAML with any one value of it replaced by any other: every type error there is."""
    root = document.read(SHOP).root
    assert root
    data: object = document.plain(root)
    holder = data
    while isinstance(holder, dict | list) and holder:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = draw(st.sampled_from(keys))
        if not isinstance(holder[key], dict | list) or draw(st.integers(0, 3)) == 0:
            holder[key] = draw(VALUES)
            break
        holder = holder[key]
    return flow(data)


def flow(value: object) -> str:
    """``value`` as one line of YAML."""
    match value:
        case dict():
            return "{" + ", ".join(f"{flow(key)}: {flow(child)}" for key, child in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(flow, value)) + "]"
        case str():
            return '"' + "".join(f"\\U{ord(c):08X}" for c in value) + '"'
        case float():
            return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}.get(str(value), repr(value))
    return "null" if value is None else str(value).lower()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(replaced())
def test_no_value_in_a_wrong_place_does_more_than_be_refused(text: str) -> None:
    accepted_or_refused(text)


def accepted_or_refused(text: str) -> None:
    """Whatever ``text`` is: a topology that completes, or a ``TopologyError`` whose problems lie in the file."""
    try:
        topology = parse(Source("fuzz.yaml", text), IMAGES)
    except TopologyError as error:
        assert error.problems
        assert all(problem.line >= 1 and problem.column >= 1 and problem.message for problem in error.problems)
        return
    lab = complete(topology)
    assert len({nic.mac for node in lab.nodes for nic in node.nics}) == sum(len(node.nics) for node in lab.nodes)
    warnings(Source("fuzz.yaml", text), topology)


def test_a_thousand_guests_written_one_by_one_take_under_a_second() -> None:
    groups = "".join(f"  g{n}x: {{count: 1, virt: para, image: web, networks: [back]}}\n" for n in range(1000))
    start = time.process_time()
    text = edited(("  db: {", groups + "  db: {"), ("10.30.0.0/24", "10.30.0.0/20"), ("10.30.0.200", "10.30.9.200"))
    lab = complete(parse(Source("many.yaml", text), IMAGES))
    assert time.process_time() - start < 2
    assert len(lab.nodes) == 1008
    assert lab.network("back").gateway == IPv4Address("10.30.15.254")


def test_ten_thousand_wrong_names_are_refused_fast() -> None:
    networks = "".join(f"  n{n}: {{subnet: 10.{n // 250}.{n % 250}.0/24}}\n" for n in range(1000))
    groups = "".join(f"  g{n}x: {{image: web, networks: [m{n}]}}\n" for n in range(700))
    text = f"vlab: 1\nname: many\nnetworks:\n{networks}groups:\n{groups}"
    start = time.process_time()
    with pytest.raises(TopologyError, match="and more problems"):
        parse(Source("many.yaml", text), IMAGES)
    assert time.process_time() - start < 3
