"""keepalived.conf and nft's listings, as the rules of ``check`` read them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from vlab.diagnosis import conf, firewall

RULESET = """\
table inet filter {
	set lab {
		type ipv4_addr
		elements = { 10.20.0.100, 10.20.0.101 }
	}
	chain input {
		type filter hook input priority filter; policy accept;
		ip daddr @lab drop
		ip daddr 10.20.0.0/24 reject
		ip daddr != 10.20.0.100 drop
		ip6 daddr fe80::1 drop
		tcp dport 80 accept
	}
	chain aside {
		ip daddr 10.20.0.100 drop
	}
}
table ip vlab {
	chain forward {
		type filter hook forward priority filter; policy drop;
	}
}
"""


def test_rules_against_an_address() -> None:
    found = firewall.against(RULESET, IPv4Address("10.20.0.100"), hooks=("input",))
    assert found == [
        "table inet filter chain input: ip daddr @lab drop",
        "table inet filter chain input: ip daddr 10.20.0.0/24 reject",
    ]
    assert firewall.against(RULESET, IPv4Address("10.20.1.1"), hooks=("input",)) == [
        "table inet filter chain input: ip daddr != 10.20.0.100 drop"
    ]


def test_vlab_s_own_table_is_no_finding() -> None:
    assert firewall.dropping(RULESET, hooks=("forward",)) == []
    assert firewall.dropping(RULESET.replace("ip vlab", "ip docker"), hooks=("forward",)) == [
        "table ip docker chain forward: type filter hook forward priority filter; policy drop;"
    ]


TYPED = """\
virtual_server 10.20.0.100 80 { ! typed by hand
  lb_algo wrr # old word
  persistence_timeout 50
  real_server 10.30.0.11 80 { weight 3
    TCP_CHECK { connect_timeout 3 } }
}
virtual_server group {
}
vrrp_instance VI_1 { interface eth0
  virtual_router_id 51 }
}
"""


def test_keepalived_conf_as_people_type_it() -> None:
    (only,) = conf.parse(TYPED)
    assert (only.protocol, only.address, only.port, only.scheduler) == ("tcp", "10.20.0.100", 80, "wrr")
    assert (only.delay, only.persistence) == (None, 50)
    assert only.servers == (conf.Server("10.30.0.11", 80, 3),)
    assert conf.instances(TYPED) == [conf.Instance("eth0", 51)]


def test_vrrp_as_people_type_it() -> None:
    text = """\
global_defs { vrrp_version 3 }
vrrp_instance VI_1 { interface eth0
  virtual_router_id 51
  advert_int 0.5 ! fast
  authentication { auth_type PASS
    auth_pass 1111 } }
vrrp_instance none { virtual_router_id 7 }
vrrp_instance odd { interface eth0
  virtual_router_id many }
vrrp_instance two { interface eth1
  version 2
  virtual_router_id 52 }
"""
    assert conf.instances(text) == [conf.Instance("eth0", 51, 0.5, "PASS 1111", 3), conf.Instance("eth1", 52)]


def test_rules_against_an_address_of_ipv6() -> None:
    ruleset = RULESET.replace(
        "tcp dport 80 accept", "ip6 daddr { fd00:20::/64, fe80::2 } drop\n\t\tct state invalid drop"
    )
    found = firewall.against(ruleset, IPv6Address("fd00:20::100"), hooks=("input",))
    assert [line.rpartition("input: ")[2] for line in found] == [
        "ip6 daddr { fd00:20::/64, fe80::2 } drop", "ct state invalid drop",
    ]  # fmt: skip
    assert (
        firewall.against(ruleset.replace("inet filter", "ip filter"), IPv6Address("fd00:20::100"), hooks=("input",))
        == []
    )
    assert (
        firewall.against(ruleset.replace("inet filter", "ip6 filter"), IPv4Address("10.20.0.100"), hooks=("input",))
        == []
    )


CHAIN = "table inet f {\n  chain c {\n    type filter hook input priority filter; policy %s;\n%s  }\n}\n"


@pytest.mark.parametrize(
    ("policy", "rules", "stopped"),
    [
        ("accept", "", None),
        ("drop", "", "type filter hook input priority filter; policy drop;"),
        ("drop", "tcp dport 22 accept\nct state established,related accept\n", "type filter hook input priority filter; policy drop;"),
        ("drop", "ip protocol vrrp accept\n", None),
        ("drop", 'iifname "eth0" accept\n', None),
        ("drop", "jump mine\n", None),
        ("accept", "meta l4proto vrrp drop\n", "meta l4proto vrrp drop"),
        ("accept", "ip protocol 112 counter packets 1 bytes 2 drop\n", "ip protocol 112 counter packets 1 bytes 2 drop"),
        ("accept", "meta l4proto 112 accept\nip daddr 224.0.0.18 drop\n", None),
        ("accept", "ip daddr 224.0.0.18 drop\n", "ip daddr 224.0.0.18 drop"),
        ("accept", "ip daddr 224.0.0.1 drop\n", None),
        ("accept", "ct state invalid drop\n", None),
        ("accept", "ip saddr 10.9.9.9 meta l4proto 112 drop\n", None),
        ("accept", 'iifname "eth1" meta l4proto 112 drop\n', None),
        ("accept", 'iifname "eth0" meta l4proto 112 drop\n', 'iifname "eth0" meta l4proto 112 drop'),
        ("accept", "tcp dport 80 drop\n", None),
        ("accept", "ip6 nexthdr 112 drop\n", None),
    ],
)  # fmt: skip
def test_what_is_sure_to_drop_vrrp(policy: str, rules: str, stopped: str | None) -> None:
    found = firewall.stopping(CHAIN % (policy, rules), firewall.VRRP, on="eth0")
    assert found == ([f"table inet f chain c: {stopped}"] if stopped else [])


def test_where_vrrp_does_not_pass_nobody_can_stop_it() -> None:
    text = CHAIN % ("accept", "meta l4proto 112 drop\n")
    assert len(firewall.stopping(text, firewall.VRRP, on="eth0")) == 1
    for old, new in (("inet", "ip6"), ("hook input", "hook forward"), ("inet f", "inet vlab")):
        assert firewall.stopping(text.replace(old, new), firewall.VRRP, on="eth0") == []
