"""pcapng blocks, read back by a reader that shares nothing with the writer. (tcpdump reads a whole file in ``live/test_seeing.py``.)"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.wire import Capture, Read, read
from vlab.wire import pcapng

NOW = 1_795_000_000_123_456_789


def test_interfaces_packets_and_statistics_come_back() -> None:
    file = b"".join(
        [
            pcapng.section("vlab 1", "a comment"),
            pcapng.interface("web1.back", "v0123456789", 65536),
            pcapng.interface("bridge front", "b0123456789", 65536),
            pcapng.packet(0, NOW, b"seven b", 1500, pcapng.OUTBOUND),
            pcapng.packet(1, NOW + 1, b"", 0),
            pcapng.statistics(1, NOW + 2, 12, 3),
        ]
    )
    packets = [Read("web1.back", NOW, b"seven b", 1500, 2), Read("bridge front", NOW + 1, b"", 0, 0)]
    assert read(file) == Capture(["web1.back", "bridge front"], packets, {"bridge front": (12, 3)})


@given(st.lists(st.tuples(st.binary(max_size=70), st.integers(0, 2**63), st.integers(0, 2)), max_size=5))
def test_any_packets_come_back(packets: list[tuple[bytes, int, int]]) -> None:
    head = pcapng.section("vlab") + pcapng.interface("web1.back", "", 65536)
    blocks = [pcapng.packet(0, time, data, len(data), direction) for data, time, direction in packets]
    found = read(head + b"".join(blocks))
    assert [(p.data, p.time, p.direction) for p in found.packets] == packets
    assert found.left_over == 0


def test_a_file_that_ends_after_any_block_is_whole() -> None:
    blocks = [
        pcapng.section("vlab"),
        pcapng.interface("web1.back", "", 65536),
        *(pcapng.packet(0, NOW, bytes(n), n) for n in range(5)),
        pcapng.statistics(0, NOW, 5, 0),
    ]
    for end in range(1, len(blocks) + 1):
        found = read(b"".join(blocks[:end]))
        assert (len(found.packets), found.left_over) == (min(max(end - 2, 0), 5), 0)
