"""A topology's text edited: what was asked for changes, and not a character besides."""

from __future__ import annotations

from difflib import ndiff

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlab.errors import UsageError
from vlab.topology import document
from vlab.topology.document import Plain
from vlab.topology.edit import Change, edited

BLOCK = """\
vlab: 1

directors:
  lvs:
    services:   # two of them
      www:
        vip: 10.20.0.100    # what clients call
        port: 80
        scheduler:  "wrr"   # by weight
        real_servers: web
        weights:
          web1: 3   # the big one

          # the others are small
          web2: 1
        check: {http: /health,
                every: 2 s}   # often

      api: {vip: 10.20.0.101, port: 80, mode: dr,
            weights: {app1: 2}, scheduler: wlc }   # few
# the end"""

WWW = ("directors", "lvs", "services", "www")
API = ("directors", "lvs", "services", "api")


def difference(text: str, *changes: Change) -> list[str]:
    """The lines that went and came."""
    lines = ndiff(text.splitlines(), edited(text, changes).splitlines())
    return [line for line in lines if line[0] in "-+"]


def test_a_value_changes_where_it_stands() -> None:
    assert difference(BLOCK, Change((*WWW, "scheduler"), "rr")) == [
        '-         scheduler:  "wrr"   # by weight',
        "+         scheduler:  rr   # by weight",
    ]
    assert difference(BLOCK, Change((*API, "scheduler"), "rr")) == [
        "-             weights: {app1: 2}, scheduler: wlc }   # few",
        "+             weights: {app1: 2}, scheduler: rr }   # few",
    ]


def test_a_value_that_is_so_already_keeps_its_spelling() -> None:
    assert edited(BLOCK, [Change((*WWW, "scheduler"), "wrr"), Change((*WWW, "weights", "web1"), 3)]) == BLOCK


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((*WWW, "weights", "web1"), "+           web1: 7   # the big one"),
        ((*WWW, "weights", "web3"), "+           web3: 7"),
        ((*WWW, "weight"), "+         weight: 7"),
        ((*WWW, "check", "every"), "+                 every: 7}   # often"),
        ((*WWW, "check", "timeout"), "+                 every: 2 s, timeout: 7}   # often"),
        ((*API, "weights", "app1"), "+             weights: {app1: 7}, scheduler: wlc }   # few"),
        ((*API, "weights", "app2"), "+             weights: {app1: 2, app2: 7}, scheduler: wlc }   # few"),
        ((*API, "weight"), "+             weights: {app1: 2}, scheduler: wlc, weight: 7 }   # few"),
    ],
)
def test_numbers_new_and_known_in_block_and_flow(path: tuple[str, ...], line: str) -> None:
    assert [found for found in difference(BLOCK, Change(path, 7)) if found[0] == "+"] == [line]


def test_a_mapping_that_is_not_there_is_made() -> None:
    assert difference("a:\n  b: 1 # one\nc: 2\n", Change(("a", "w", "x"), 3)) == ["+   w: {x: 3}"]
    assert edited("{a: {b: 1}}", [Change(("a", "w", "x"), 3)]) == "{a: {b: 1, w: {x: 3}}}"
    assert edited("a: {b: 1, w: {}}\n", [Change(("a", "w", "x"), 3)]) == "a: {b: 1, w: {x: 3}}\n"


def test_a_list_is_written_in_brackets() -> None:
    assert difference(BLOCK, Change((*WWW, "drained"), ["web2", "web3"])) == ["+         drained: [web2, web3]"]
    block = "a:\n  d: # who\n  - x\n  - y # last\n  e: 1\n"
    assert edited(block, [Change(("a", "d"), ["x"])]) == "a:\n  d: [x] # who\n  e: 1\n"
    assert edited(block.replace("# who", "&d"), [Change(("a", "d"), ["x"])]) == "a:\n  d: [x] # last\n  e: 1\n"


def test_a_key_is_removed_with_its_line() -> None:
    assert difference(BLOCK, Change((*WWW, "scheduler"), None)) == ['-         scheduler:  "wrr"   # by weight']
    assert edited("a: {b: 1, c: 2, d: 3}", [Change(("a", "c"), None)]) == "a: {b: 1, d: 3}"
    assert edited("a: {b: 1, c: 2, d: 3}", [Change(("a", "d"), None)]) == "a: {b: 1, c: 2}"
    assert edited("a: {b: 1, c: 2, d: 3}", [Change(("a", "b"), None)]) == "a: {c: 2, d: 3}"
    assert edited("a:\n  b: 1\n  c: 2", [Change(("a", "c"), None)]) == "a:\n  b: 1\n"


def test_a_mapping_goes_with_its_last_key() -> None:
    assert edited("a: 1\nw:\n  x: 1\nb: 2\n", [Change(("w", "x"), None)]) == "a: 1\nb: 2\n"
    assert edited("a: {w: {x: 1}, b: 2}\n", [Change(("a", "w", "x"), None)]) == "a: {b: 2}\n"


def test_removing_what_is_not_there_changes_nothing() -> None:
    assert edited(BLOCK, [Change((*WWW, "persistence"), None), Change((*WWW, "drained", "x"), None)]) == BLOCK


def test_several_changes_are_one_text() -> None:
    made = edited(
        BLOCK, [Change((*WWW, "mode"), "tun"), Change((*WWW, "persistence"), "5 min"), Change((*WWW, "mode"), "dr")]
    )
    assert difference(BLOCK, Change((*WWW, "mode"), "dr"), Change((*WWW, "persistence"), "5 min")) == [
        "+         mode: dr",
        "+         persistence: 5 min",
    ]
    assert "tun" not in made


def test_an_alias_is_replaced_and_its_anchor_stays() -> None:
    assert edited("a: &s rr\nb: *s\n", [Change(("b",), "wlc")]) == "a: &s rr\nb: wlc\n"
    assert edited("a: &w {x: 1}\nb: *w\n", [Change(("b", "y"), 2)]) == "a: &w {x: 1}\nb: {x: 1, y: 2}\n"


def test_an_anchor_moves_to_its_next_user() -> None:
    assert edited("a: &s rr\nb: *s\nc: *s\n", [Change(("a",), "wlc")]) == "a: wlc\nb: &s rr\nc: *s\n"
    assert edited("a: &w {x: 1}\nb: *w\n", [Change(("a", "x"), 2)]) == "a: {x: 2}\nb: &w {x: 1}\n"
    assert edited("a: &s 3\nb: 1\nc: *s\n", [Change(("a",), None)]) == "b: 1\nc: &s 3\n"


def test_an_anchor_inside_an_anchored_mapping_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        edited("a: &w {x: &n 1}\nb: *n\nc: *w\n", [Change(("a", "x"), 2)])
    assert str(caught.value) == (
        "a.x: an anchor of the file ties it to other keys, so it cannot be changed alone\n"
        "(hint: write the keys out where the file has & and *)"
    )


WORDS = st.sampled_from(
    ["rr", "5 min", "300 s", "yes", "010", "1.5", "a: b", "x #y", "", "-", "[", "true", "~", "é", "*x", "a,b"]
)
VALUES = st.one_of(WORDS, st.integers(-9, 99999), st.booleans(), st.lists(WORDS, min_size=1, max_size=3))
PATHS = st.sampled_from(
    [(*WWW, "scheduler"), (*WWW, "weights", "web1"), (*WWW, "weights", "new"), (*WWW, "fresh"), (*API, "weights", "app1"), (*API, "new")]
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(path=PATHS, value=VALUES)
def test_the_value_can_be_read_again_and_taken_away(path: tuple[str, ...], value: Plain) -> None:
    made = edited(BLOCK, [Change(path, value)])
    assert read(made, path) == value
    without = edited(made, [Change(path, None)])
    assert read(without, path) is None
    assert without.count("#") == BLOCK.count("#") - (read(BLOCK, path) is not None and "#" in line_of(path))


def read(text: str, path: tuple[str, ...]) -> Plain:
    root = document.read(text).root
    data = document.plain(root) if root else None
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def line_of(path: tuple[str, ...]) -> str:
    """The line of BLOCK that a removal of ``path`` takes, empty in braces."""
    return "" if path[3] == "api" else next((line for line in BLOCK.splitlines() if f" {path[-1]}:" in line), "")
