"""A node's settings as a whole: golden texts, laws, composition of several services, and linear cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from ipaddress import IPv4Address, IPv4Interface

import pytest

from tests.unit import lvs_labs
from tests.unit.lvs_golden import matches
from tests.unit.service_key_labs import keys
from vlab.guests import transition
from vlab.guests.settings import Settings
from vlab.lvs.modes import ANYWHERE
from vlab.lvs.settings import KEEPALIVED, KEEPALIVED_CONF, before_servers, for_node
from vlab.topology.lab import Lab

LABS = [*lvs_labs.SHAPES, keys]


@pytest.mark.parametrize("make", LABS, ids=lambda make: make.__name__)
def test_text_is_the_golden_one(make: Callable[[], Lab]) -> None:
    lab = make()
    firsts = [node for node in lab.nodes if node.name.endswith("1")]
    matches(f"settings/{lab.name}.txt", "\n".join(_text(for_node(lab, node)) for node in firsts))


def _text(settings: Settings) -> str:
    """Item by item, files in full: what a reviewer wants to see."""
    return "\n".join([f"##### {settings.hostname} {settings.machine_id}", *_items(settings), ""])


def _items(settings: Settings) -> Iterator[str]:
    for field in fields(settings)[2:]:
        for item in getattr(settings, field.name):
            shown = [f.name for f in fields(item) if f.name not in ("why", "content")]
            parts = [f"{n}={getattr(item, n)}" for n in shown if n != "table" or getattr(item, n) is not None]
            yield f"{field.name}: {' '.join(parts)}  # {item.why}"
            if field.name == "files":
                yield from (f"    | {line}" for line in item.content.splitlines())


@pytest.mark.parametrize("make", LABS, ids=lambda make: make.__name__)
def test_laws(make: Callable[[], Lab]) -> None:
    lab = make()
    for node in lab.nodes:
        settings = for_node(lab, node)
        assert settings == for_node(lab, node)
        keys = [item.key for item in settings.sysctls]
        assert len(keys) == len(set(keys))
        destinations = [(item.destination, item.table) for item in settings.routes]
        assert len(destinations) == len(set(destinations))
        assert all(item.why for name in _ITEMS for item in getattr(settings, name))
        assert {"net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/eth0/arp_ignore"} <= set(keys)
        assert keys.index("net/ipv4/ip_forward") < keys.index("net/ipv4/conf/all/accept_redirects")


_ITEMS = ("links", "tunnels", "sysctls", "addresses", "routes", "rules", "fou_ports", "files", "units", "entries")


def test_web_guests_of_web_db_reply_through_the_director_and_reach_sql_on_link() -> None:
    lab = lvs_labs.web_db()
    routes = for_node(lab, lab.node("web1")).routes
    assert [(r.destination, r.via) for r in routes] == [(ANYWHERE, IPv4Address("10.30.0.2"))]
    assert "10.30.0.200     sql\n" in _file(for_node(lab, lab.node("web1")), "/etc/hosts")


def test_db_guests_of_web_db_do_not_route_through_the_director() -> None:
    lab = lvs_labs.web_db()
    assert for_node(lab, lab.node("db1")).routes == ()


def test_one_node_may_serve_by_nat_and_by_dr() -> None:
    lab = lvs_labs.mixed()
    settings = for_node(lab, lab.node("web1"))
    assert [r.via for r in settings.routes] == [IPv4Address("10.30.0.2")]
    assert IPv4Interface("10.30.0.200/32") in {a.address for a in settings.addresses if a.device == "lo"}
    assert {s.key: s.value for s in settings.sysctls}["net/ipv4/conf/all/arp_ignore"] == "1"


def test_two_services_share_one_vip() -> None:
    lab = lvs_labs.tunnel()
    for name, device in (("web1", "lo"), ("lvs1", "eth0")):
        mine = [a for a in for_node(lab, lab.node(name)).addresses if a.address == IPv4Interface("10.20.0.100/32")]
        assert [a.device for a in mine] == [device]
        assert "www" in mine[0].why and "tls" in mine[0].why
    assert len(for_node(lab, lab.node("web1")).tunnels) == 1
    assert "10.20.0.100     www tls\n" in _file(for_node(lab, lab.node("web1")), "/etc/hosts")


def test_names_mean_the_address_that_the_reader_can_reach() -> None:
    lab = lvs_labs.web_db()
    assert "10.20.0.2       lvs1 lvs1.front\n" in _file(for_node(lab, lab.node("client1")), "/etc/hosts")
    assert "10.30.0.2       lvs1 lvs1.back\n" in _file(for_node(lab, lab.node("web1")), "/etc/hosts")


def test_internet_gives_a_default_route_unless_nat_takes_it() -> None:
    lab = replace(lvs_labs.web_db(), networks=(lvs_labs.FRONT, replace(lvs_labs.BACK, internet=True)))
    by_name = {node.name: for_node(lab, node) for node in lab.nodes}
    assert [r.via for r in by_name["db1"].routes] == [IPv4Address("10.30.0.254")]
    assert [r.via for r in by_name["web1"].routes] == [IPv4Address("10.30.0.2")]
    assert [r.via for r in by_name["lvs1"].routes] == [IPv4Address("10.30.0.254")]
    assert by_name["client1"].routes == ()
    assert {name for name, it in by_name.items() if any(f.path == "/etc/resolv.conf" for f in it.files)} == {
        "web1", "web2", "web3", "db1", "db2", "db3", "lvs1",
    }  # fmt: skip


def test_the_ssh_key_may_log_in() -> None:
    lab = lvs_labs.web_db()
    settings = for_node(lab, lab.node("web1"), ssh_key="ssh-ed25519 AAAA me")
    assert _file(settings, "/root/.ssh/authorized_keys") == "ssh-ed25519 AAAA me\n"


def test_units_that_read_the_nodes_name_are_told_of_it() -> None:
    lab = lvs_labs.web_db()
    units = for_node(lab, lab.node("web1"), ready=["nginx.service", "mariadb.service"], named=["mariadb.service"]).units
    assert [(unit.name, unit.watches) for unit in units] == [
        ("nginx.service", ()), ("mariadb.service", ("/etc/hostname",)),
    ]  # fmt: skip


def test_only_directors_run_keepalived_and_set_up_ip_vs() -> None:
    lab = lvs_labs.web_db()
    web, director = (for_node(lab, lab.node(name)) for name in ("web1", "lvs1"))
    assert web.units == () and not any("/vs/" in item.key for item in web.sysctls)
    assert [(unit.name, unit.watches) for unit in director.units] == [
        ("keepalived.service", ("/etc/keepalived/keepalived.conf",))
    ]
    assert {item.key: item.value for item in director.sysctls}["net/ipv4/vs/expire_nodest_conn"] == "1"


def test_a_director_waits_for_its_servers_with_keepalived_and_its_file_alone() -> None:
    lab = lvs_labs.web_db()
    whole = for_node(lab, lab.node("lvs1"))
    early = before_servers(whole)
    assert transition.digest(early) != transition.digest(whole), "a run that was killed in between must be seen"
    rest = transition.script(early, whole)
    assert 'kill -HUP "$pid"' in rest and "systemctl reload-or-restart -- keepalived.service" in rest
    assert "systemctl start" not in rest, "which would tell one that runs already of nothing"
    assert set(whole.units) - set(early.units) == {KEEPALIVED}
    assert {file.path for file in set(whole.files) - set(early.files)} == {KEEPALIVED_CONF}
    assert replace(early, units=whole.units, files=whole.files, entries=whole.entries) == whole
    assert early.entries == ()


def test_a_weight_changes_nothing_but_the_directors_file() -> None:
    lab = lvs_labs.web_db()
    www, *others = lab.services
    first, *rest = www.real_servers
    heavier = replace(www, real_servers=(replace(first, weight=5), *rest))
    edited = replace(lab, services=(heavier, *others))
    changed = [n.name for n in lab.nodes if for_node(lab, n) != for_node(edited, n)]
    assert changed == ["lvs1"]


def test_ten_thousand_nodes_take_linear_time() -> None:
    lab = lvs_labs.big(10_000)
    begin = time.monotonic()
    made = [for_node(lab, node) for node in lab.nodes]
    assert time.monotonic() - begin < 20
    hosts = {id(it.files[0].content) for it in made}
    assert len(hosts) == 3, "nodes on the same networks share one text of /etc/hosts"


def _file(settings: Settings, path: str) -> str:
    return next(file.content for file in settings.files if file.path == path)
