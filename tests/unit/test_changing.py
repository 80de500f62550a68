"""A change asked for in words: judged as a whole file, told at the words, shown as a diff that patch takes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vlab.cli import changing
from vlab.cli.changing import Asked
from vlab.cli.verbs.lvs_set import asked
from vlab.engine.change import Proposal
from vlab.errors import UsageError
from vlab.lvs import resting
from vlab.topology.addressing import complete
from vlab.topology.edit import Change
from vlab.topology.lab import Lab
from vlab.topology.parse import Source, parse

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
      www:
        vip: 10.20.0.100
        port: 80
        mode: nat   # hidden
        real_servers: web
        weights: {web2: 4}"""


def lab(text: str = TEXT) -> Lab:
    return complete(parse(Source("shop.yaml", text)))


def proposed(weights: tuple[str, ...] = (), keys: tuple[str, ...] = (), text: str = TEXT, **words: str) -> Proposal:
    service = lab(text).services[0]
    return changing.propose(text, "shop", list(asked(service, words, list(weights), list(keys))))


def refused(weights: tuple[str, ...] = (), keys: tuple[str, ...] = (), **words: str) -> str:
    with pytest.raises(UsageError) as caught:
        proposed(weights, keys, **words)
    return str(caught.value)


def test_several_options_are_one_change() -> None:
    made = proposed(("web2=3", "web1=2", "5"), ("check.every=5 s",), scheduler="wrr", persistence="5 min")
    assert changing.difference(made).splitlines()[2:] == [
        "@@ -13,4 +13,8 @@",
        "         port: 80",
        "         mode: nat   # hidden",
        "         real_servers: web",
        "-        weights: {web2: 4}",
        "\\ No newline at end of file",
        "+        weights: {web2: 3, web1: 2}",
        "+        scheduler: wrr",
        "+        persistence: 5 min",
        "+        weight: 5",
        "+        check: {every: 5 s}",
        "\\ No newline at end of file",
    ]
    service = made.lab.services[0]
    assert [server.weight for server in service.real_servers] == [2, 3, 5]
    assert (service.scheduler, service.persistence, service.check.every) == ("wrr", 300, 5.0)


@pytest.mark.parametrize("end", ["", "\n", "\n\n# the end\n"])
def test_patch_takes_the_difference(end: str, tmp_path: Path) -> None:
    made = proposed(("web1=2",), scheduler="rr", text=TEXT + end)
    file = tmp_path / "shop.yaml"
    file.write_text(TEXT + end)
    subprocess.run(["patch", "-s", str(file)], input=changing.difference(made), text=True, check=True)
    assert file.read_text() == made.text


def test_none_takes_a_key_away_and_the_same_again_is_no_change() -> None:
    assert proposed(persistence="none").text == TEXT
    assert "persistence" not in proposed(persistence="off", text=f"{TEXT}\n        persistence: 300 s\n").text
    assert changing.difference(proposed(("web2=4",), mode="nat")) == ""
    assert "weights" not in proposed(keys=("weights=",)).text


def test_every_problem_is_told_at_its_words() -> None:
    assert refused(("web1=heavy", "-1"), scheduler="rx", mode="dsr", persistence="300") == (
        "lab shop cannot be changed so\n"
        "  --mode dsr: service 'www', mode: 'dsr' is not known (hint: did you mean 'dr'?)\n"
        "  --weight web1=heavy: service 'www', weights.web1: must be a whole number, not 'heavy'\n"
        "  --scheduler rx: service 'www', scheduler: 'rx' is not known (hint: known: rr, wrr, lc, wlc, fo, ovf, lblc, "
        "lblcr, dh, sh, mh, sed, nq, twos)\n"
        "  --persistence 300: service 'www', persistence: 300 has no unit (hint: write 300 s)\n"
        "  --weight -1: service 'www', weight: must be 0 to 65535, not -1"
    )


def test_cross_rules_are_told_too() -> None:
    assert refused(("web9=2",)) == (
        "lab shop cannot be changed so\n"
        "  --weight web9=2: service 'www', weights.web9: 'web9' is no real server of the service (hint: did you mean 'web3'?)"
    )
    assert refused(mode="dr").startswith(
        "lab shop cannot be changed so\n  --mode dr: service 'www', mode: dr real servers answer clients directly"
    )
    assert refused(keys=("sheduler=rr",)) == (
        "lab shop cannot be changed so\n"
        "  --set sheduler=rr: service 'www', sheduler: unknown key (hint: did you mean 'scheduler'?)"
    )


def test_what_another_place_refuses_is_told_there() -> None:
    text = TEXT.replace("port: 80\n", "port: 80\n        real_port: 8080\n")
    with pytest.raises(UsageError) as caught:
        proposed(mode="dr", text=text)
    assert [line.split(" (hint")[0] for line in caught.value.details] == [
        "shop (as it would be):14:20: service 'www', real_port: dr cannot change the port from 80 to 8080",
        "--mode dr: service 'www', mode: dr real servers answer clients directly, "
        "but 'web' is not on 'front', the VIP's network, and no router leads there",
    ]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("scheduler", "--set scheduler: what is to be set?"),
        ("=rr", "--set =rr: what is to be set?"),
        ("scheduler=[rr", "'[rr' is no value: "),
        ("scheduler=rr\nport: 2", "'rr\nport: 2' is no value: it says nothing"),
        ("scheduler=~", "'~' is no value: it says nothing"),
        ("scheduler=#", "'#' is no value: it says nothing"),
    ],
)
def test_words_that_are_no_value_are_refused(keys: str, said: str) -> None:
    assert said in refused(keys=(keys,))


def test_a_new_doubt_is_told_before_and_an_old_one_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    text = TEXT + "\n        scheduler: sh\n"
    service = lab(text).services[0]
    changing.propose(text, "shop", changing.with_words(resting.to_rest([service], "web2"), "drain web2"))
    assert capsys.readouterr().err == (
        "warning: service 'www', drained: sh goes on giving 'web2' its clients, and they are refused, because its weight is 0 "
        "(hint: write scheduler_flags: [sh-fallback], which moves them; or use wlc)\n"
    )
    rested = text.replace("port: 80\n", "port: 80\n        drained: web2\n")
    changing.propose(rested, "shop", [Asked(Change((*resting.path_of(service), "weight"), 2), "--weight 2")])
    assert capsys.readouterr().err == ""
