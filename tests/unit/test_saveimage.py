"""Save images: heads are read as they were written, and a stream is the golden's byte for byte, whoever reads it and however."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vlab.errors import HypervisorError
from vlab.hypervisors import saveimage
from vlab.hypervisors.saveimage import SaveImage

XML = "<domain type='qemu'><name>vlab-shop.web1</name><title>«»</title></domain>"
COOKIE = b"<qemuSaveCookie><cpu/></qemuSaveCookie>"
VERSION, COMPRESSION = 16, 16 + 3 * 4
"""Where in the head the two words are."""
LARGE = 5 << 20
CHUNK = 64 << 10


def image(folder: Path, stream: bytes, cookie: bytes = COOKIE) -> Path:
    path = folder / "memory"
    path.write_bytes(saveimage.head(XML, cookie) + stream)
    return path


def patched(path: Path, at: int, value: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[at : at + len(value)] = value
    path.write_bytes(content)
    return path


def all_of(path: str, pause: float = 0.0) -> bytes:
    """All that a reader of ``path`` gets, resting ``pause`` seconds after each piece."""
    pieces = []
    with Path(path).open("rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            pieces.append(piece)
            time.sleep(pause)
    return b"".join(pieces)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(autouse=True)
def _no_sender_stays() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "vlab-restore"] == []


@pytest.mark.parametrize("cookie", [COOKIE, b""], ids=["cookie", "no-cookie"])
def test_what_head_writes_read_reads(cookie: bytes, tmp_path: Path) -> None:
    path = image(tmp_path, b"QEVM", cookie)
    found = saveimage.read(path)
    assert found == SaveImage(path, cookie, path.stat().st_size - 4, path.stat().st_size)


def test_a_head_says_running_and_uncompressed() -> None:
    words = struct.unpack("<16s19I", saveimage.head(XML, COOKIE)[:92])
    text = len(XML.encode()) + 1
    assert words[:6] == (b"LibvirtQemudSave", 2, text + len(COOKIE) + 1, 1, 0, text)
    assert set(words[6:]) == {0}


@pytest.mark.parametrize("size", [0, 15, 91], ids=["empty", "in-the-magic", "in-the-words"])
def test_a_head_cut_short_is_no_save_image(size: int, tmp_path: Path) -> None:
    path = image(tmp_path, b"QEVM")
    os.truncate(path, size)
    with pytest.raises(HypervisorError, match="memory is not a save image"):
        saveimage.read(path)


def test_an_xml_cut_short_is_refused(tmp_path: Path) -> None:
    path = image(tmp_path, b"")
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(HypervisorError, match="cut short"):
        saveimage.read(path)


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (0, b"LibvirtQemudPart", "is not a save image"),  # what libvirt itself has not finished
        (0, b"\x7fELF", "is not a save image"),
        (VERSION, b"\x01", "version 1, compression 0"),
        (VERSION, b"\x03", "version 3, compression 0"),
        (COMPRESSION, b"\x02", "version 2, compression 2"),
        (COMPRESSION + 4, b"\xff\xff\xff\x7f", "cut short"),  # a cookie behind the end
    ],
)
def test_what_cannot_be_rewritten_is_refused(at: int, value: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(HypervisorError, match=words):
        saveimage.read(patched(image(tmp_path, b"QEVM"), at, value))


@pytest.mark.parametrize("pause", [0.0, 0.005], ids=["fast", "slow"])
def test_a_stream_is_another_head_and_the_same_bytes(pause: float, tmp_path: Path) -> None:
    body = os.urandom(LARGE)
    golden = saveimage.read(image(tmp_path, body))
    with saveimage.stream(golden, "<domain/>") as path:
        found = all_of(path, pause)
    assert found == saveimage.head("<domain/>", COOKIE) + body


def test_a_head_longer_than_a_pipe_is_sent_whole(tmp_path: Path) -> None:
    golden = saveimage.read(image(tmp_path, b"QEVM"))
    long = f"<domain>{'x' * (3 << 20)}</domain>"
    with saveimage.stream(golden, long) as path:
        assert all_of(path) == saveimage.head(long, COOKIE) + b"QEVM"


def test_many_streams_of_one_image_at_once(tmp_path: Path) -> None:
    body = os.urandom(LARGE)
    golden = saveimage.read(image(tmp_path, body))
    same: list[bool] = []

    def restore(number: int) -> None:
        with saveimage.stream(golden, f"<domain>{number}</domain>") as path:
            same.append(all_of(path) == saveimage.head(f"<domain>{number}</domain>", COOKIE) + body)

    threads = [threading.Thread(target=restore, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert same == [True] * 8


@pytest.mark.timeout(30)
@pytest.mark.parametrize("pieces", [0, 1, 20])
def test_a_reader_that_goes_early_hurts_nobody(pieces: int, tmp_path: Path) -> None:
    """libvirt refuses, or its QEMU dies, before all was read: leaving the block ends the sender, without an exception in its thread."""
    golden = saveimage.read(image(tmp_path, os.urandom(LARGE)))
    with saveimage.stream(golden, XML) as path, Path(path).open("rb", buffering=0) as file:
        for _ in range(pieces):
            file.read(CHUNK)


@pytest.mark.timeout(30)
def test_nobody_ever_reads(tmp_path: Path) -> None:
    golden = saveimage.read(image(tmp_path, os.urandom(LARGE)))
    with saveimage.stream(golden, XML):
        time.sleep(0.05)


@pytest.mark.timeout(30)
def test_an_exception_in_the_block_comes_out_and_ends_the_sender(tmp_path: Path) -> None:
    golden = saveimage.read(image(tmp_path, os.urandom(LARGE)))
    with pytest.raises(HypervisorError, match="refused"), saveimage.stream(golden, XML):
        raise HypervisorError("refused")


@pytest.mark.timeout(30)
def test_an_image_that_is_gone_is_said_before_anybody_reads(tmp_path: Path) -> None:
    golden = saveimage.read(image(tmp_path, b"QEVM"))
    golden.path.unlink()
    with pytest.raises(HypervisorError, match="cannot be read: No such file"), saveimage.stream(golden, XML) as path:
        all_of(path)
    with pytest.raises(HypervisorError, match="cannot be read: No such file"):
        saveimage.read(golden.path)


@pytest.mark.timeout(30)
def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    golden = saveimage.read(image(tmp_path, os.urandom(CHUNK)))
    before = open_descriptors()
    for _ in range(5):
        with saveimage.stream(golden, XML) as path:
            all_of(path)
    assert open_descriptors() == before
