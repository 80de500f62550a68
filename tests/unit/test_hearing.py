"""Several directors asked at once: who answered, who did not and why, and what a table and JSON say of it."""

from __future__ import annotations

import json

import pytest

from vlab.cli import report, watching
from vlab.cli.app import Output
from vlab.cli.hearing import Silent, hear
from vlab.errors import GuestError


def answering() -> str:
    return "rows"


def broken() -> str:
    raise GuestError("lvs2: ipvsadm failed", details=["exit code 127"])


def silent() -> str:
    raise GuestError("lvs3: its guest agent does not answer", hint="vlab console lvs3")


def test_those_that_answer_are_heard_and_the_others_named_with_reason_and_next_step() -> None:
    heard = hear({"lvs1": answering, "lvs2": broken, "lvs3": silent}, "vlab status lab")
    assert heard.said == {"lvs1": "rows"}
    assert heard.silent == (
        Silent("lvs2", "lvs2: ipvsadm failed: exit code 127", "vlab status lab"),
        Silent("lvs3", "lvs3: its guest agent does not answer", "vlab console lvs3"),
    )
    assert str(heard.silent[1]) == (
        "lvs3 is not shown: lvs3: its guest agent does not answer\n(hint: vlab console lvs3)"
    )


def test_when_nobody_answers_it_is_the_first_ones_error() -> None:
    with pytest.raises(GuestError, match="lvs2: ipvsadm failed"):
        hear({"lvs2": broken, "lvs3": silent}, "vlab status lab")
    assert hear({}, "vlab status lab").silent == ()


def view(*lacks: str) -> watching.View:
    return watching.View("lab x", ("service",), [("www",)], {"silent": list(lacks)}, lacks)


def test_one_look_tells_what_it_lacks_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert watching.once(view(), Output.table)
    assert capsys.readouterr().err == ""
    assert not watching.once(view("lvs2 is not shown"), Output.table)
    shown = capsys.readouterr()
    assert ("www" in shown.out, shown.err) == (True, "lvs2 is not shown\n")


def test_of_several_looks_the_last_one_counts(capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter([view("lvs2 is not shown"), view()])
    assert watching.watch(lambda: next(looks), 0.1, 2, Output.json)
    assert [json.loads(line)["silent"] for line in capsys.readouterr().out.splitlines()] == [["lvs2 is not shown"], []]
    assert not watching.watch(lambda: view("lvs2 is not shown"), 0.1, 1, Output.table)
    assert report.plain(Silent("a", "b", "c")) == {"director": "a", "reason": "b", "hint": "c"}
