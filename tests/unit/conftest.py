"""Unit tests need no privileges and no libvirt; run as root, they have neither."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.unit.unprivileged import without_libvirt, without_privileges


@pytest.fixture(scope="package", autouse=True)
def nobody_special() -> Iterator[None]:
    with ExitStack() as stack:
        if os.geteuid() == 0:
            stack.enter_context(without_libvirt())
            stack.enter_context(without_privileges())
        yield
