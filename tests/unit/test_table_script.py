"""What keepalived leaves undone at a reload: the script around the signal, run by a real shell against a table that a stand-in ipvsadm keeps."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.service_key_labs import keys
from vlab.guests import table_script, transition
from vlab.guests.settings import Entry, File, Settings, Unit
from vlab.lvs.settings import before_servers, for_node
from vlab.run import run

CONF = "/etc/keepalived/keepalived.conf"
PLACE = "-t 10.20.0.100:80 -r 10.30.0.11:80"
OTHER = "-t 10.20.0.100:80 -r 10.30.0.12:80"
NAT = Settings("lvs1", "a" * 32, entries=(Entry(PLACE, "-m"), Entry(OTHER, "-m", weight=2)))
DR = replace(NAT, entries=(Entry(PLACE, "-g"), Entry(OTHER, "-g", weight=2)))

# Prints the first listing, then the second, and writes down what else it is asked for.
IPVSADM = """\
#!/bin/sh
cd "${0%/*}"
case $1 in
-Sn) cat now; [ ! -e next ] || mv next now ;;
-R) cat >>asked ;;
*) echo "$@" >>asked ;;
esac
"""


def asked(folder: Path, script: str, now: str, after: str = "") -> list[str]:
    """What a director whose table is ``now``, and ``after`` keepalived has read its file, is told by ``script``."""
    program = folder / "ipvsadm"
    program.write_text(IPVSADM)
    program.chmod(0o755)
    (folder / "now").write_text(now)
    if after:
        (folder / "next").write_text(after)
    path = f"{folder}:{os.environ['PATH']}"
    run(["sh", "-euc", f"PATH={path}\n{script}"])
    return (folder / "asked").read_text().splitlines() if (folder / "asked").exists() else []


def around(had: Settings, wanted: Settings) -> str:
    return table_script.before(had, wanted) + table_script.after(had, wanted)


def test_who_was_down_leaves_the_table_again(tmp_path: Path) -> None:
    now, after = f"-a {OTHER} -m -w 2\n", f"-a {PLACE} -g -w 1\n-a {OTHER} -g -w 2\n"
    assert asked(tmp_path, around(NAT, DR), now, after) == [f"-d {PLACE}"]


def test_who_came_up_before_keepalived_read_its_file_stays(tmp_path: Path) -> None:
    now, after = f"-a {OTHER} -m -w 2\n", f"-a {PLACE} -m -w 1\n-a {OTHER} -m -w 2\n"
    assert asked(tmp_path, around(NAT, DR), now, after) == []


def test_nobody_is_waited_for_where_all_are_up(tmp_path: Path) -> None:
    assert asked(tmp_path, around(NAT, DR), f"-a {PLACE} -m -w 1\n-a {OTHER} -m -w 2\n") == []


def test_nobody_leaves_where_keepalived_was_started_anew(tmp_path: Path) -> None:
    script = table_script.before(NAT, DR) + table_script.NOBODY + table_script.after(NAT, DR)
    assert asked(tmp_path, script, f"-a {OTHER} -m -w 2\n", f"-a {PLACE} -g -w 1\n") == []


def test_thresholds_are_changed_with_all_else_as_it_is_to_be(tmp_path: Path) -> None:
    limited = replace(NAT, entries=(Entry(PLACE, "-m"), Entry(OTHER, "-m", weight=2, upper=100, lower=80)))
    assert asked(tmp_path, around(NAT, limited), "") == [f"-e {OTHER} -m -w 2 -x 100 -y 80"]
    assert table_script.before(limited, NAT).splitlines()[1:-1] == [f"-e {OTHER} -m -w 2 -x 0 -y 0"]


def test_a_sorry_server_goes_over_to_the_new_way(tmp_path: Path) -> None:
    had, wanted = (Settings("", "", entries=(Entry(PLACE, way, spare=True),)) for way in ("-g", "-m"))
    assert asked(tmp_path, around(had, wanted), "") == [f"-e {PLACE} -m -w 1 -x 0 -y 0"]
    assert "absent" not in around(had, wanted), "keepalived does not add it"


@pytest.mark.parametrize(
    "wanted",
    [NAT, replace(NAT, entries=(Entry(PLACE, "-m", weight=3), NAT.entries[1])), replace(NAT, entries=()), replace(NAT, entries=DR.entries[:1])],
)  # fmt: skip
def test_what_keepalived_does_itself_costs_nothing(wanted: Settings) -> None:
    assert (around(NAT, wanted) == "") == (wanted.entries != DR.entries[:1])
    assert around(Settings("", ""), wanted) == ""


def test_the_note_is_taken_right_before_keepalived_is_told() -> None:
    units = (Unit("vlab-snat.service", ("/etc/vlab/snat.nft",)), Unit("keepalived.service", (CONF,)))
    had = replace(NAT, files=(File(CONF, "nat"), File("/etc/vlab/snat.nft", "one")), units=units)
    wanted = replace(DR, files=(File(CONF, "dr"), File("/etc/vlab/snat.nft", "two")), units=units)
    script = transition.script(had, wanted)
    marks = [
        "vlab-snat.pid",
        "table=$(ipvsadm -Sn) absent=",
        "/run/keepalived.pid",
        "  absent=\n",
        "ipvsadm -d",
        "settings.json",
    ]
    places = [script.rindex(mark) if mark == "settings.json" else script.index(mark) for mark in marks]
    assert places == sorted(places)
    assert script.count("  absent=\n") == 1, "of keepalived's signal only"


@pytest.mark.parametrize("place", [f"{PLACE}\nEND\nreboot", "$(reboot)", "-t 10.20.0.100:80 -r `reboot`"])
def test_a_line_cannot_smuggle_commands(place: str) -> None:
    had, wanted = (Settings("", "", entries=(Entry(place, way),)) for way in ("-m", "-g"))
    with pytest.raises(ValueError, match="cannot be a line for ipvsadm"):
        around(had, wanted)


def test_a_directors_entries_are_in_ipvsadms_words() -> None:
    lab = keys()
    entries = for_node(lab, lab.node("lvs1")).entries
    assert Entry("-t 10.20.0.100:443 -r 10.30.0.31:443", "-m") in entries
    assert Entry("-f 7 -r 10.30.0.91:0", "-m", spare=True) in entries
    assert [(e.upper, e.lower) for e in entries if e.place.startswith("-t 10.30.0.200:3306") and not e.spare] == [
        (100, 80),
        (50, 0),
    ]
    assert for_node(lab, lab.node("web1")).entries == before_servers(for_node(lab, lab.node("lvs1"))).entries == ()
