"""The benchmarks' own decisions; what they measure is run by hand."""

from __future__ import annotations

from benchmarks.cases.containers import Containers


def test_a_size_that_up_would_refuse_is_not_tried() -> None:
    assert "5000 containers need 15000 inotify instances" in Containers().lacks(5000)


def test_a_size_that_fits_is() -> None:
    assert Containers().lacks(1) == ""
