"""Draining as data: who rests, what keeps a server busy, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vlab.errors import UsageError
from vlab.lvs import ipvs, keepalived, listing, resting
from vlab.lvs.resting import Rest
from vlab.lvs.status import _service as state_of
from vlab.topology.addressing import complete
from vlab.topology.edit import Change
from vlab.topology.lab import Lab
from vlab.topology.parse import Source, parse, warnings

TEXT = """\
vlab: 1
name: shop
networks: {front: {subnet: 10.20.0.0/24}, back: {subnet: 10.30.0.0/24}}
groups:
  web: {count: 3, image: web, networks: [back]}
  client: {count: 9, image: client, networks: [front]}
directors:
  lvs:
    networks: [front, back]
    services:
      www: {vip: 10.20.0.100, port: 80, mode: nat, real_servers: web, weights: {web2: 4}}
      ftp: {vip: 10.20.0.100, port: 2121, mode: nat, real_servers: [web1, web2], persistence: 300 s}
"""
WWW, FTP = ["directors", "lvs", "services", "www", "drained"], ["directors", "lvs", "services", "ftp", "drained"]


def lab(*drained: str) -> Lab:
    """The lab with these nodes drained in www."""
    return complete(parse(source(*drained)))


def source(*drained: str, scheduler: str = "wlc") -> Source:
    key = f", drained: [{', '.join(drained)}]" if drained else ""
    return Source("shop.yaml", TEXT.replace("real_servers: web,", f"real_servers: web, scheduler: {scheduler}{key},"))


def test_a_drained_server_has_weight_0_and_remembers_its_own() -> None:
    servers = lab("web2").services[0].real_servers
    assert [(s.node, s.weight, s.drained) for s in servers] == [("web1", 1, None), ("web2", 0, 4), ("web3", 1, None)]


def test_keepalived_says_why_a_weight_is_0() -> None:
    text = keepalived.render(lab("web2"), lab("web2").node("lvs1"))
    assert "    # web2, drained: its weight is 4 otherwise\n    real_server 10.30.0.32 80 {\n        weight 0\n" in text
    assert "    # web1\n" in text


@pytest.mark.parametrize(
    ("scheduler", "drained", "said"),
    [
        ("wlc", ("web2",), []),
        (
            "wlc",
            ("web1", "web2", "web3"),
            ["every real server is drained or has weight 0: the service takes no connections"],
        ),
        ("sh", ("web2",), ["sh goes on giving 'web2' its clients, and they are refused, because its weight is 0"]),
        (
            "mh",
            ("web1", "web2"),
            ["mh goes on giving 'web1' its clients, and they are refused, because its weight is 0"],
        ),
        ("sh", (), []),
    ],
)
def test_warnings(scheduler: str, drained: tuple[str, ...], said: list[str]) -> None:
    made = source(*drained, scheduler=scheduler)
    assert [doubt.message.partition("drained: ")[2] for doubt in warnings(made, parse(made))] == said


def test_where_a_node_serves() -> None:
    assert [s.name for s in resting.served(lab(), "web2")] == ["www", "ftp"]
    assert [s.name for s in resting.served(lab(), "web2", "ftp")] == ["ftp"]
    with pytest.raises(UsageError, match="web3 is no real server of a service 'ftp'"):
        resting.served(lab(), "web3", "ftp")
    with pytest.raises(UsageError, match="client1 is a real server of no service of lab shop"):
        resting.served(lab(), "client1")


def test_changes_there_and_back() -> None:
    both = resting.served(lab("web1"), "web2")
    assert resting.to_rest(both, "web2") == [Change(tuple(WWW), ["web1", "web2"]), Change(tuple(FTP), ["web2"])]
    assert resting.to_rest(lab("web2").services[:1], "web2") == []
    assert resting.to_work(lab("web1", "web2").services, "web1") == [Change(tuple(WWW), ["web2"])]
    assert resting.to_work(lab("web2").services, "web2") == [Change(tuple(WWW), None)]
    assert resting.to_work(lab().services, "web2") == []


TABLE = """\
TCP  10.20.0.100:80 wlc
  -> 10.30.0.31:80                Masq    1      0          4
  -> 10.30.0.32:80                Masq    0      2          17
"""


def test_what_the_table_lacks() -> None:
    table = ipvs.parse(TABLE)
    assert list(resting.lacks(lab("web2").services[0], table)) == []
    assert list(resting.lacks(lab("web1").services[0], table)) == [
        "web1 has weight 1 by Masq in www",
        "web2 has weight 0 by Masq in www",
    ]
    other = replace(lab("web2").services[0], scheduler="rr", persistence=60)
    assert list(resting.lacks(other, table)) == ["www has scheduler wlc", "www has persistence none"]
    assert list(resting.lacks(lab().services[1], table)) == ["ftp is not in the table"]


def test_how_busy_a_server_is() -> None:
    www = lab("web2").services[0]
    assert resting.rest(www, "web2", "lvs1", ipvs.parse(TABLE)) == Rest("www", "lvs1", 4, 2, 17)
    assert resting.rest(www, "web3", "lvs1", ipvs.parse(TABLE)) == Rest("www", "lvs1", 1, 0, 0)


def test_the_last_one_that_serves_is_not_drained() -> None:
    www = lab("web2").services[0]
    with pytest.raises(UsageError) as caught:
        resting.refuse_last("shop", www, "web1", ipvs.parse(TABLE))
    assert str(caught.value) == (
        "web1 is the last real server that serves www (web3 down): its clients would be refused\n"
        "(hint: vlab lvs set shop/www --weight web1=0 does it all the same)"
    )
    resting.refuse_last("shop", www, "web3", ipvs.parse(TABLE))


CONNECTIONS = """\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:58  ESTABLISHED 10.20.0.91:41234   10.20.0.100:2121     10.30.0.32:2121
TCP 01:12  FIN_WAIT    10.20.0.91:41230   10.20.0.100:2121     10.30.0.32:2121
TCP 04:58  ASSURED     10.20.0.91:0       10.20.0.100:2121     10.30.0.32:2121
TCP 04:58  NONE        10.20.0.92:0       10.20.0.100:2121     10.30.0.31:2121
TCP 14:58  ESTABLISHED 10.20.0.93:41234   10.20.0.100:80     10.30.0.32:80
"""


def test_open_connections_and_templates_are_read() -> None:
    www, ftp = lab().services
    assert resting.open_connections(CONNECTIONS, ftp, "web2") == [
        "ftp: 10.20.0.91:41234 (ESTABLISHED, expires in 898 s)"
    ]
    assert resting.open_connections(CONNECTIONS, www, "web1") == []
    assert resting.templates(CONNECTIONS, ftp, "web2") == 1
    assert resting.templates(CONNECTIONS, www, "web2") == 0
    many = "".join(
        f"TCP 14:58 ESTABLISHED 10.20.0.93:{port} 10.20.0.100:80 10.30.0.32:80\n" for port in range(40000, 40010)
    )
    assert resting.open_connections(many, www, "web2")[-1] == "www: and 2 more"


def test_lvs_show_calls_it_drained_too() -> None:
    text = f"Prot LocalAddress:Port Scheduler Flags\n{TABLE}"
    shown = listing.entries(text, "lvs1", lab("web2").services[:1])[0]
    assert [(s.node, s.state) for s in shown.real_servers] == [("web1", "up"), ("web2", "drained"), ("web3", "down")]


def test_what_status_and_up_say() -> None:
    assert resting.told("shop", lab("web2").services) == [
        "web2 is drained in www, its weight is 4 otherwise: vlab undrain shop/web2"
    ]
    assert resting.woken(lab("web2", "web3"), lab("web3")) == ["web2 is drained no longer in www"]
    assert resting.woken(lab("web2"), lab("web2")) == []
    states = {s.node: (s.state, s.weight) for s in state_of(lab("web2").services[0], ipvs.parse(TABLE)).real_servers}
    assert states == {"web1": ("up", 1), "web2": ("drained", 0), "web3": ("down", 1)}
