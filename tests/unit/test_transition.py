"""Transitions: valid sh whatever the values hold, nothing to do for equal settings, and the order that LVS needs."""

from __future__ import annotations

import os
from dataclasses import is_dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_interface, ip_network
from itertools import permutations
from pathlib import Path
from shlex import quote
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlab.guests import transition
from vlab.guests.settings import Address, File, Link, Route, Rule, Settings, Sysctl, Tunnel, Unit
from vlab.plain import hints
from vlab.run import run
from vlab.topology import family

VIP = IPv4Interface("10.20.0.100/32")
ARP = Sysctl("net/ipv4/conf/all/arp_ignore", "1", "0")
PLAIN = Settings(
    "web1", "a" * 32, (Link("eth0", "52:54:00:00:00:0B", 1500),), addresses=(Address("eth0", IPv4Interface("10.20.0.11/24")),)
)  # fmt: skip
DR = replace(PLAIN, sysctls=(ARP,), addresses=(*PLAIN.addresses, Address("lo", VIP)))
DIRECTOR = replace(
    PLAIN,
    files=(File("/etc/keepalived/keepalived.conf", "one"), File("/etc/hosts", "hosts")),
    units=(Unit("ipvs.service"), Unit("keepalived.service", ("/etc/keepalived/keepalived.conf",))),
)

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
DEVICES = st.from_regex(r"[a-z][a-z0-9]{0,14}", fullmatch=True)
IP = st.ip_addresses()
FIELDS: dict[str, st.SearchStrategy[Any]] = {"name": DEVICES, "device": DEVICES, "kind": st.just("ipip")}
FIELDS |= {
    "place": st.just("-t 10.20.0.100:80 -r 10.20.0.11:80"),
    "way": st.sampled_from(["-g", "-m", "-i --tun-type gre"]),
}
SCALARS: dict[object, st.SearchStrategy[Any]] = {
    str: TEXT,
    bool: st.booleans(),
    int: st.integers(0, 0o777),
    family.Address: IP,
    family.Interface: IP.map(lambda ip: ip_interface(f"{ip}/24")),
    family.Subnet: IP.map(ip_network),
}


def fitting(hint: Any) -> st.SearchStrategy[Any]:
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return st.builds(hint, **{name: FIELDS[name] if name in FIELDS else fitting(f) for name, f in hints(hint)})
    if get_origin(hint) is tuple:
        return st.lists(fitting(get_args(hint)[0]), max_size=2).map(tuple)
    return st.none() | fitting(get_args(hint)[0]) if type(None) in get_args(hint) else SCALARS[hint]


SETTINGS = fitting(Settings)


@given(SETTINGS)
def test_settings_come_back_as_they_went_without_their_reasons(one: Settings) -> None:
    again = transition.load(transition.dump(one))
    assert again == one
    assert {link.why for link in again.links} <= {""}


@given(SETTINGS, st.none() | SETTINGS)
@settings(max_examples=40, deadline=None)
def test_any_transition_is_valid_sh(wanted: Settings, found: Settings | None) -> None:
    for text in (transition.script(found, wanted), transition.boot_script(wanted)):
        assert run(["sh", "-n"], input=text.encode()).error_text == ""


def test_reasons_do_not_count() -> None:
    reasoned = replace(DR, sysctls=(replace(ARP, why="no ARP for the VIP"),))
    assert transition.digest(reasoned) == transition.digest(DR)
    assert transition.digest(PLAIN) != transition.digest(DR)


@pytest.mark.parametrize("same", [PLAIN, DR, DIRECTOR])
def test_equal_settings_only_renew_the_record(same: Settings) -> None:
    assert commands(transition.script(same, same)) == [
        f"printf '%s' '{transition.dump(same).strip()}", "' >/etc/vlab/settings.json",
        f"echo {transition.digest(same)} >/run/vlab-settled",
    ]  # fmt: skip


def test_the_vip_comes_after_the_arp_sysctls_and_leaves_before() -> None:
    to_dr, back = transition.script(PLAIN, DR), transition.script(DR, PLAIN)
    assert to_dr.index("1 >/proc/sys/net/ipv4/conf/all/arp_ignore") < to_dr.index(f"address replace {VIP} dev lo")
    assert back.index(f"address del {VIP} dev lo") < back.index("0 >/proc/sys/net/ipv4/conf/all/arp_ignore")
    assert "address replace 10.20.0.100" not in back


def network(text: str) -> str:
    """What a script does to the network before it writes files."""
    return text.partition("vlab_settle() {\n")[2].partition("[ -d ")[0]


def test_a_sysctl_gets_smaller_only_when_the_vip_has_gone() -> None:
    loud = replace(PLAIN, sysctls=(replace(ARP, value="0"),))
    before, gone, after = network(transition.script(DR, loud)).partition(f"address del {VIP} dev lo")
    assert gone
    assert "0 >/proc/sys/net/ipv4/conf/all/arp_ignore" not in before
    assert "0 >/proc/sys/net/ipv4/conf/all/arp_ignore" in after


@pytest.mark.parametrize("later", ["0", None])
def test_what_less_forwarding_resets_is_written_behind_it(later: str | None) -> None:
    forward, other = Sysctl("net/ipv4/ip_forward", "1", "0"), Sysctl("net/ipv4/conf/all/accept_redirects", "0", "1")
    wanted = (other,) if later is None else (replace(forward, value=later), other)
    text = network(transition.script(replace(PLAIN, sysctls=(forward, other)), replace(PLAIN, sysctls=wanted)))
    assert text.rindex("0 >/proc/sys/net/ipv4/ip_forward") < text.rindex(
        "0 >/proc/sys/net/ipv4/conf/all/accept_redirects"
    )


def test_one_ip_process_takes_away_and_makes() -> None:
    tunnel, rule = Tunnel("vlab-tun", "ipip", IPv4Address("10.20.0.11")), Rule(VIP.ip, 100)
    tun = replace(DR, tunnels=(tunnel,), addresses=(*PLAIN.addresses, Address("vlab-tun", VIP)), rules=(rule,))
    for one, two in permutations((PLAIN, DR, tun), 2):
        assert network(transition.script(one, two)).count("ip -") == 1
    assert network(transition.script(None, tun)).count("ip -") == 1


def test_a_tunnel_is_there_before_its_address_and_goes_with_it() -> None:
    tunnel = Tunnel("vlab-tun", "ipip", IPv4Address("10.20.0.11"))
    tun = replace(PLAIN, tunnels=(tunnel,), addresses=(*PLAIN.addresses, Address("vlab-tun", VIP)))
    made = transition.script(PLAIN, tun)
    assert made.index("link add name vlab-tun type ipip") < made.index("address replace 10.20.0.100/32 dev vlab-tun")
    assert "link del dev vlab-tun" in transition.script(tun, PLAIN)


def test_order_of_addresses_is_kept_by_removing_first() -> None:
    one, two = (Address("eth0", IPv4Interface(f"10.20.0.{n}/24")) for n in (11, 12))
    text = transition.script(replace(PLAIN, addresses=(one, two)), replace(PLAIN, addresses=(two, one)))
    assert "address del 10.20.0.11/24" in text and "address del 10.20.0.12/24" in text


def test_a_route_that_only_changes_is_replaced_without_a_gap() -> None:
    via = [Route(IPv4Network("0.0.0.0/0"), IPv4Address(f"10.20.0.{n}"), "eth0") for n in (1, 2)]
    text = transition.script(replace(PLAIN, routes=(via[0],)), replace(PLAIN, routes=(via[1],)))
    assert "route del" not in text
    assert "route replace 0.0.0.0/0 via 10.20.0.2 dev eth0" in text
    assert "route del 0.0.0.0/0 via 10.20.0.2 dev eth0" in transition.script(replace(PLAIN, routes=(via[1],)), PLAIN)


def test_a_route_without_gateway_is_on_link() -> None:
    half = Route(IPv4Network("0.0.0.0/1"), IPv4Address("0.0.0.0"), "eth0", advmss=1440)
    assert "route replace 0.0.0.0/1 dev eth0 advmss 1440\n" in transition.script(None, replace(PLAIN, routes=(half,)))


def test_only_the_unit_that_watches_a_changed_file_is_reloaded() -> None:
    changed = replace(DIRECTOR, files=(replace(DIRECTOR.files[0], content="two"), DIRECTOR.files[1]))
    assert calls(transition.script(DIRECTOR, changed)) == ["systemctl reload-or-restart -- keepalived.service"]
    other = replace(DIRECTOR, files=(DIRECTOR.files[0], replace(DIRECTOR.files[1], content="two")))
    assert calls(transition.script(DIRECTOR, other)) == []


def test_a_file_that_goes_is_there_until_its_readers_know() -> None:
    """A health check that still runs reads its password."""
    credentials, drop_in = (
        File("/etc/vlab/login-sql", "lab"),
        File("/etc/systemd/system/keepalived.service.d/sync.conf", ""),
    )
    had = replace(DIRECTOR, files=(*DIRECTOR.files, credentials))
    wanted = replace(DIRECTOR, files=(File("/etc/keepalived/keepalived.conf", "two"), DIRECTOR.files[1]))
    script = transition.script(had, wanted)
    assert (
        script.index('kill -HUP "$pid"') < script.index("rm -f -- /etc/vlab/login-sql") < script.index("settings.json")
    )
    script = transition.script(replace(had, files=(*had.files, drop_in)), DIRECTOR)
    places = [
        script.index(each) for each in (f"rm -f -- {drop_in.path}", "daemon-reload", f"rm -f -- {credentials.path}")
    ]
    assert places == sorted(places)


def test_connections_of_addresses_that_went_are_ended_before_a_program_reads_its_file_again() -> None:
    own = tuple(Address("eth0", ip_interface(text)) for text in ("10.20.0.1/24", "fd00:20::1/64", "10.20.0.100/32"))
    had = replace(DIRECTOR, addresses=own)
    told = replace(had, files=(replace(DIRECTOR.files[0], content="two"), DIRECTOR.files[1]))
    text = transition.script(had, replace(told, addresses=()))
    assert "ss -HtK 'src = 10.20.0.1 or src = [fd00:20::1]' " in text
    assert text.index("address del fd00:20::1/64") < text.index("ss -HtK") < text.index("kill -HUP")
    assert "ss -" not in transition.script(had, replace(told, addresses=own[:2])), "only a VIP went"
    assert "ss -" not in transition.script(had, replace(had, addresses=own[:1])), "nobody reads a file"


def test_a_running_program_is_told_by_a_signal(tmp_path: Path) -> None:
    """A shell function stands for systemctl; the program is a shell of another name."""
    conf, pid_file, said = (tmp_path / name for name in ("conf", "pid", "said"))
    own = replace(PLAIN, units=(Unit("reader.service", (str(conf),)),))
    one, two = (replace(own, files=(File(str(conf), text),)) for text in ("one", "two"))
    change = transition.script(one, two).partition("printf '%s' '{\"hostname\"")[0]
    assert "/run/reader.pid" in change
    change = change.replace("/run/reader.pid", str(pid_file))
    reader = (
        f"printf reader >/proc/self/comm; trap 'echo told >>{said}' HUP; echo $$ >{pid_file}; sleep 9 & wait; kill $!"
    )
    again = f'systemctl() {{ echo systemctl "$@" >>{said}; }}\n{change}}}\nvlab_settle </dev/null\n'
    alive = f"sh -c {quote(reader)} & until [ -s {pid_file} ]; do :; done\n{again}\nwait\n"
    run(["sh"], input=alive.encode())
    assert said.read_text() == "told\n"
    run(["sh"], input=again.encode())  # the file of a program that is gone
    pid_file.write_text(f"{os.getpid()}\n")
    run(["sh"], input=again.encode())  # its number is another's now
    assert said.read_text().splitlines() == ["told", *(["systemctl reload-or-restart -- reader.service"] * 2)]


def test_the_first_configuration_calls_systemctl_twice() -> None:
    assert [call for call in calls(transition.script(None, DIRECTOR)) if "journald" not in call] == [
        "systemctl reload-or-restart -- keepalived.service", "systemctl start -- ipvs.service",
    ]  # fmt: skip


def test_a_unit_file_is_read_again_and_a_unit_that_goes_is_stopped() -> None:
    unit = "/etc/systemd/system/ipvs.service"
    own = replace(DIRECTOR, files=(File(unit, "[Service]"),), units=(Unit("ipvs.service", (unit,)),))
    assert calls(transition.script(DIRECTOR, own)) == [
        "systemctl stop -- keepalived.service", "systemctl daemon-reload", "systemctl restart -- ipvs.service",
    ]  # fmt: skip


def test_a_drop_in_restarts_its_unit_and_no_other() -> None:
    drop_in = File("/etc/systemd/system/keepalived.service.d/sync.conf", "[Service]")
    more = replace(DIRECTOR, files=(*DIRECTOR.files, drop_in))
    for had, wanted in ((DIRECTOR, more), (more, DIRECTOR)):
        assert calls(transition.script(had, wanted)) == [
            "systemctl daemon-reload",
            "systemctl restart -- keepalived.service",
        ]


def test_host_keys_are_written_but_not_recorded() -> None:
    key = File("/etc/ssh/ssh_host_ed25519_key", "SECRET", 0o600)
    text = transition.script(None, PLAIN, extra=(key,))
    assert text.count("SECRET") == 1
    assert text.index("SECRET") < text.index("settings.json")


def test_what_reads_the_host_name_at_its_start_is_told_only_when_that_changes() -> None:
    web = replace(PLAIN, units=(Unit("nginx.service", ("/etc/hostname",)),))
    assert "  systemctl try-restart -- nginx.service\n" in transition.script(None, web)
    assert "nginx" not in "".join(calls(transition.script(web, replace(web, routes=()))))


def test_a_device_name_cannot_smuggle_commands() -> None:
    with pytest.raises(ValueError, match="interface's name"):
        transition.script(None, replace(PLAIN, addresses=(Address("lo\nlink del lo", VIP),)))


@given(TEXT)
@settings(max_examples=20, deadline=None)
def test_files_hold_exactly_what_they_should(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    path = tmp_path_factory.mktemp("files") / "new folder" / "it's $(here)"
    write(File(str(path), content, 0o640))
    write(File(str(path), content, 0o600))
    assert path.read_bytes() == content.encode()
    assert path.stat().st_mode & 0o777 == 0o600


def write(file: File) -> None:
    text = transition.script(PLAIN, replace(PLAIN, files=(file,)))
    writing, found, _ = text.rpartition("printf '%s' '{\"hostname\"")  # without the record, which belongs in /etc
    assert found
    run(["sh"], input=f"{writing}\n}}\nvlab_settle </dev/null\n".encode())


def commands(text: str) -> list[str]:
    """What runs inside the script's function."""
    return text.partition("vlab_settle() {\n")[2].partition("}\nvlab_settle <")[0].splitlines()


def calls(text: str) -> list[str]:
    """The systemctl calls, those of the boot script left out."""
    lines = [line.strip() for line in commands(text)]
    return [line for line in lines if line.startswith("systemctl") and "--no-block start" not in line]


def test_the_boot_script_makes_the_network_and_says_how_it_ended(tmp_path: Path) -> None:
    text = transition.boot_script(DIRECTOR)
    assert "systemctl" not in text
    assert text.endswith(f"echo {transition.digest(DIRECTOR)} >/run/vlab-settled\n")
    (tmp_path / "apply.sh").write_text(text)
    assert run(["sh", "-n", str(tmp_path / "apply.sh")]).error_text == ""


def test_a_seed_is_all_that_the_first_configuration_would_write() -> None:
    key = File("/etc/ssh/ssh_host_ed25519_key", "SECRET", 0o600)
    seeded = {file.path: file for file in transition.seed(DIRECTOR, (key,))}
    assert set(seeded) == {
        *(file.path for file in DIRECTOR.files), key.path, "/etc/hostname", "/etc/vlab/apply.sh", "/etc/vlab/settings.json",
    }  # fmt: skip
    assert transition.load(seeded["/etc/vlab/settings.json"].content) == DIRECTOR
    assert seeded["/etc/hostname"].content == f"{DIRECTOR.hostname}\n"
    assert seeded[key.path].mode == 0o600
