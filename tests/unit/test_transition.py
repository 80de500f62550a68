"""Transitions: valid sh whatever the values hold, nothing to do for equal settings, and the order that LVS needs."""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlab.guests import transition
from vlab.guests.settings import Address, File, Link, Route, Settings, Sysctl, Tunnel, Unit
from vlab.plain import hints
from vlab.run import run

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
IP = st.ip_addresses(v=4)
FIELDS: dict[str, st.SearchStrategy[Any]] = {"name": DEVICES, "device": DEVICES, "kind": st.just("ipip")}
SCALARS: dict[object, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(0, 0o777),
    IPv4Address: IP,
    IPv4Interface: IP.map(lambda ip: IPv4Interface(f"{ip}/24")),
    IPv4Network: IP.map(lambda ip: IPv4Network(f"{ip}/32")),
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
def test_settings_come_back_as_they_went(one: Settings) -> None:
    again = transition.load(transition.dump(one))
    assert again == one
    assert [link.why for link in again.links] == [link.why for link in one.links]


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
        f"printf '%s' '{transition.dump(same).strip()}", "' >/etc/vlab/settings.json.new",
        "mv -f /etc/vlab/settings.json.new /etc/vlab/settings.json",
        f"echo {transition.digest(same)} >/run/vlab-settled",
    ]  # fmt: skip


def test_the_vip_comes_after_the_arp_sysctls_and_leaves_before() -> None:
    to_dr, back = transition.script(PLAIN, DR), transition.script(DR, PLAIN)
    assert to_dr.index("1 >/proc/sys/net/ipv4/conf/all/arp_ignore") < to_dr.index(f"address replace {VIP} dev lo")
    assert back.index(f"address del {VIP} dev lo") < back.index("0 >/proc/sys/net/ipv4/conf/all/arp_ignore")
    assert "address replace 10.20.0.100" not in back


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


def test_the_first_configuration_calls_systemctl_twice() -> None:
    assert [call for call in calls(transition.script(None, DIRECTOR)) if "journald" not in call] == [
        "systemctl reload-or-restart -- keepalived.service", "systemctl start -- ipvs.service",
    ]  # fmt: skip


def test_a_unit_file_is_read_again_and_a_unit_that_goes_is_stopped() -> None:
    unit = "/etc/systemd/system/ipvs.service"
    own = replace(DIRECTOR, files=(File(unit, "[Service]"),), units=(Unit("ipvs.service", (unit,)),))
    assert calls(transition.script(DIRECTOR, own)) == [
        "systemctl stop -- keepalived.service", "systemctl daemon-reload", "systemctl reload-or-restart -- ipvs.service",
    ]  # fmt: skip


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
    return [line for line in commands(text) if line.startswith("systemctl") and "--no-block start" not in line]


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
