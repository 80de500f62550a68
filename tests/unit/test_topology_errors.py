"""Every broken topology of the corpus is refused in exactly the words that stand beside it, at once.

``VLAB_REGENERATE=1`` rewrites the expected texts; read the difference like code.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vlab.errors import TopologyError
from vlab.topology.document import LARGEST
from vlab.topology.parse import decode, parse

CORPUS = Path(__file__).parents[1] / "golden" / "errors"
CASES = sorted(CORPUS.glob("*.yaml"))
IMAGES = ("base", "client", "db", "director", "web")
LONGEST = 1.0
"""Seconds of CPU any refusal may take."""


def refused(file: str, content: bytes) -> str:
    """The words ``content`` is refused with; fails when it is not, or not fast."""
    start = time.process_time()
    with pytest.raises(TopologyError) as caught:
        parse(decode(file, content), IMAGES)
    assert time.process_time() - start < LONGEST
    return f"{caught.value}\n"


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_corpus(case: Path) -> None:
    found = refused(case.name, case.read_bytes())
    expected = case.with_suffix(".txt")
    if os.environ.get("VLAB_REGENERATE"):
        expected.write_text(found)
    assert found == expected.read_text()


def test_the_corpus_is_large_and_whole() -> None:
    assert len(CASES) >= 70
    assert {case.stem for case in CASES} == {text.stem for text in CORPUS.glob("*.txt")}


HEAD = b"vlab: 1\nname: lab\nnetworks: {front: {subnet: 10.20.0.0/24}}\n"

GENERATED: dict[str, tuple[bytes, str]] = {
    "ten-megabytes": (HEAD + b"# much\n" * 1_500_000, "f.yaml:1:1: the file is larger than 256 KiB"),
    "just-too-large": (b"#" * (LARGEST + 1), "f.yaml:1:1: the file is larger than 256 KiB"),
    "deep-list": (b"groups: " + b"[" * 100_000, "f.yaml:1:28: values are nested more than 20 deep"),
    "deep-mapping": (b"groups: " + b"{a: " * 50_000, "f.yaml:1:85: values are nested more than 20 deep"),
    "deep-dashes": (b"- " * 100_000, "f.yaml:1:41: values are nested more than 20 deep"),
    "many-values": (b"a: [" + b"1," * 120_000 + b"]", "f.yaml:1:24003: the file holds more than 12000 values"),
    "many-lines": (b"a\n" * 120_000, "f.yaml:1:1: a topology is keys and values"),
    "many-keys": (HEAD + b"".join(b"k%d: 1\n" % n for n in range(5900)), "and more problems from here on"),
    "aliases": (
        b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 10)) for n in range(98, 107)),
        "f.yaml:4:4: the file holds more than 12000 values",
    ),
    "alias-tower": (
        b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 2000)),
        "values are nested more than 20 deep",
    ),
    "one-long-word": (b"vlab: " + b"x" * 200_000, "f.yaml:1:7: vlab: must be a whole number, not 'xxx"),
    "one-long-number": (b"vlab: " + b"9" * 200_000, "f.yaml:1:7: vlab: must be a whole number, not '999"),
    "newlines": (b"\n" * 200_000, "f.yaml:1:1: the file holds no topology"),
    "binary": (
        bytes(range(256)) * 100,
        "f.yaml:2:118: this is not UTF-8 text: byte 0x80 (hint: save the file as UTF-8)",
    ),
    "nul": (b"vlab: 1\nname: a\0b\n", "f.yaml:2:8: character U+0000 cannot stand in a topology"),
    "utf-16": ("vlab: 1\n".encode("utf-16"), "f.yaml:1:1: this is not UTF-8 text: byte 0xff"),
    "latin-1": ("vlab: 1\nname: caf\xe9\n".encode("latin-1"), "f.yaml:2:10: this is not UTF-8 text: byte 0xe9"),
    "bad-escape": (b'vlab: 1\nname: "\\UFFFFFFFF"\n', "f.yaml:1:1: this is not YAML"),
    "escaped-surrogate": (b'vlab: 1\nname: "\\ud800"\n', "f.yaml:2:7: name: "),
    "other-yaml": (b"%YAML 9.9\n---\nvlab: 1\n", "%YAML"),
    "empty-file": (b"", "f.yaml:1:1: the file holds no topology (hint: start with vlab: 1"),
    "comments-only": (b"# nothing\n---\n", "the file holds no topology"),
}


@pytest.mark.parametrize("name", GENERATED)
def test_generated(name: str) -> None:
    content, expected = GENERATED[name]
    assert expected in refused("f.yaml", content)
