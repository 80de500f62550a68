"""A service's own keys, by traffic: port lists, a firewall mark, thresholds, one-packet scheduling, sorry server, quorum, login."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import edited, eventually, real_servers, running, status, traces, verify, vlab

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("lab")]

LAB = "t-keys"
FILE = Path(__file__).with_name("service-keys.yaml")

# Answers each datagram with the node's name. A socket of its own for the VIP: from one bound to no address the kernel would
# answer with the node's own.
ECHO = """
perl -MIO::Socket::INET -e '
open F, "/etc/hostname" or die; chomp(my $n = <F>); my $m; my $a = fork ? "10.30.0.201" : "0.0.0.0";
my $s = IO::Socket::INET->new(LocalAddr => $a, LocalPort => 5514, Proto => "udp", ReuseAddr => 1) or die;
while (defined $s->recv($m, 99)) { $s->send($n) }'
"""
# Datagrams from one port, each after the answer to the one before.
ASK = """
perl -MIO::Socket::INET -e '
my $s = IO::Socket::INET->new(PeerAddr => "10.30.0.201:5514", Proto => "udp") or die; my $m; $SIG{ALRM} = sub { exit 1 };
for (1 .. 8) { alarm 5; $s->send("who"); $s->recv($m, 99); print "$m\\n" }'
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[str]:
    with running(FILE, LAB, "--no-verify"):
        shell("db1", f"setsid {ECHO.strip()} </dev/null >/dev/null 2>&1 &")
        shell("db2", f"setsid {ECHO.strip()} </dev/null >/dev/null 2>&1 &")
        for node in ("web1", "web2", "spare1"):
            shell(node, "sed -i 's/listen 0.0.0.0:80 /listen 0.0.0.0:81; listen 0.0.0.0:80 /' /etc/nginx/nginx.conf")
            shell(node, "systemctl restart nginx")
        eventually("every real server is up", all_up, within=30)
        yield LAB
    assert traces(LAB) == []


def shell(node: str, script: str) -> str:
    return vlab("exec", f"{LAB}/{node}", "--", "sh", "-c", script).out


def all_up() -> bool:
    services = status(LAB)["services"]
    return {server["state"] for service in services for server in service["real_servers"]} == {"up"}


def ask(address: str, *ports: int, times: int = 1) -> list[str]:
    """Who answers requests to the ports of a VIP, in turn."""
    urls = " ".join(f"http://{address}:{port}/" for port in ports)
    script = f"for i in $(seq {times}); do for u in {urls}; do curl -s -m 5 $u || echo FAILED; done; done"
    return shell("client1", script).split()


def states(service: str) -> dict[str, str]:
    return {name: server["state"] for name, server in real_servers(LAB, service).items()}


def spare(service: str) -> str:
    return str(next(s["sorry_server"]["state"] for s in status(LAB)["services"] if s["name"] == service))


def test_the_lab_proves_itself_and_a_second_up_has_nothing_to_do() -> None:
    verify(LAB)
    assert vlab("check", LAB, "-o", "json", check=False).json()["findings"] == [], "a healthy lab has no findings"
    assert "nothing to do" in vlab("up", str(FILE), "--as", LAB, "--no-verify").err


def test_each_port_of_a_list_is_balanced() -> None:
    for port in (80, 81):
        assert Counter(ask("10.20.0.100", port, times=6)) == {"web1": 3, "web2": 3}


def test_a_mark_keeps_a_client_on_one_server_over_both_ports() -> None:
    found = ask("10.20.0.101", 80, 81, times=6)
    assert len(found) == 12 and len(set(found)) == 1 and found[0] in {"web1", "web2"}
    table = shell("lvs1", "ipvsadm -Ln")
    assert "FWM" in table and "10.20.0.101" not in table, "one kernel service for both ports"
    assert "persistent 60 mask 255.255.255.0" in table


def test_a_port_that_nobody_marks_is_no_part_of_the_service() -> None:
    assert ask("10.20.0.101", 82) == ["FAILED"]


def test_one_packet_scheduling_spreads_datagrams_of_one_port() -> None:
    assert "UDP  10.30.0.201:5514 rr ops" in shell("lvs1", "ipvsadm -Ln")
    assert Counter(shell("client1", ASK).split()) == {"db1": 4, "db2": 4}


def test_a_datagrams_way_is_traced() -> None:
    story = vlab("trace", f"{LAB}/log", "-o", "json").json()
    assert [row["packet"] for row in story["rows"]] == ["request", "forwarded", "reply"]
    assert (story["complete"], story["rows"][-1]["receiver"]) == (True, "client1")


def test_thresholds_and_flags_are_the_kernels() -> None:
    rows = [line.split() for line in shell("lvs1", "ipvsadm -Ln --thresholds").splitlines()]
    section = rows[rows.index(["TCP", "10.30.0.200:3306", "wlc"]) + 1 :][:2]
    assert sorted(row[2:4] for row in section) == [["100", "80"], ["50", "0"]]
    assert "sh (sh-fallback,sh-port)" in shell("lvs1", "ipvsadm -Ln")


def test_one_port_that_fails_leaves_its_server_on_the_others() -> None:
    shell("web1", "sed -i 's/listen 0.0.0.0:81; //' /etc/nginx/nginx.conf && nginx -s reload")
    eventually("web1 serves one port only", lambda: states("www") == {"web1": "partly", "web2": "up"}, within=20)
    assert set(ask("10.20.0.100", 81, times=4)) == {"web2"}
    assert set(ask("10.20.0.100", 80, times=4)) == {"web1", "web2"}
    shell(
        "web1",
        "sed -i 's/listen 0.0.0.0:80 /listen 0.0.0.0:81; listen 0.0.0.0:80 /' /etc/nginx/nginx.conf && nginx -s reload",
    )
    eventually("web1 serves both again", lambda: states("www") == {"web1": "up", "web2": "up"}, within=20)


def test_the_sorry_server_answers_below_the_quorum_and_goes_when_it_is_reached() -> None:
    assert (spare("page"), spare("shop")) == ("spare", "spare")
    shell("web1", "systemctl stop nginx")
    eventually("shop lost its quorum of 2", lambda: (spare("page"), spare("shop")) == ("spare", "up"), within=20)
    eventually("page's own check has seen it too", lambda: states("page")["web1"] == "down", within=20)
    assert set(ask("10.20.0.101", 80, 81)) == {"spare1"}
    assert set(ask("10.20.0.102", 80, times=4)) == {"web2"}
    shell("web2", "systemctl stop nginx")
    eventually("page has no real server", lambda: spare("page") == "up", within=20)
    assert set(ask("10.20.0.102", 80, times=4)) == {"spare1"}
    shell("web1", "systemctl start nginx")
    eventually("page has a real server again", lambda: (spare("page"), spare("shop")) == ("spare", "up"), within=20)
    assert states("page") == {"web1": "up", "web2": "down"} and set(ask("10.20.0.102", 80, times=4)) == {"web1"}
    shell("web2", "systemctl start nginx")
    eventually("shop has its quorum again", lambda: spare("shop") == "spare", within=20)
    assert set(ask("10.20.0.101", 80, 81, times=2)) < {"web1", "web2"}


def test_a_login_that_fails_takes_a_database_out_though_its_port_is_open() -> None:
    shell("db2", """mariadb -e "ALTER USER 'lab'@'%' IDENTIFIED BY 'other'" """)
    eventually("db2 is out", lambda: states("sql") == {"db1": "up", "db2": "down"}, within=20)
    assert states("jobs") == {"db1": "up", "db2": "up"}, "its ping check does not log in"
    shell("db2", """mariadb -e "ALTER USER 'lab'@'%' IDENTIFIED BY 'lab'" """)
    eventually("db2 is back", lambda: states("sql") == {"db1": "up", "db2": "up"}, within=20)


def test_keys_come_and_go_without_a_trace(tmp_path: Path) -> None:
    plain = edited(
        FILE,
        tmp_path / "plain.yaml",
        ("ports: [80, 81], fwmark: auto,", "port: 80,"),
        ("persistence: {timeout: 60 s, netmask: 24}, sorry_server: spare1, quorum: 2,", "persistence: 30 s,"),
        ("scheduler: sh, scheduler_flags: [sh-port, sh-fallback]", "scheduler: rr"),
        ("login: {user: lab, password: lab, database: lab}", "tcp: true"),
        ("upper_threshold: 100, lower_threshold: 80,", "upper_threshold: 100,"),
    )

    def whole() -> str:
        limits = "ipvsadm -Ln --thresholds | awk '/:/ { print $2, $3, $4 }' | sort"
        return shell("lvs1", f"nft list ruleset; ls /etc/vlab; ipvsadm -Sn | sort; {limits}")

    def lost() -> int:
        said = shell("lvs1", "journalctl -u keepalived -o cat --no-pager")
        return len(re.findall(r"Removing service .* from VS \[10\.30\.0\.200\]", said))

    before, lost_before = whole(), lost()
    vlab("up", str(plain), "--as", LAB, "--no-verify")
    assert lost() == lost_before, "another health check is no reason to take a server out"
    gone = shell("lvs1", "nft list ruleset; ls /etc/vlab; ipvsadm -Sn")
    assert "vlab-marks" not in gone and "login-sql" not in gone and "marks.nft" not in gone and " -f " not in gone
    verify(LAB)
    vlab("up", str(FILE), "--as", LAB, "--no-verify")
    eventually("all is as it was", lambda: whole() == before, within=40)
