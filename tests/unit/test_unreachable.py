"""A libvirt driver that does not answer is not one without domains."""

from __future__ import annotations

import pytest

from vlab.errors import HostError
from vlab.hypervisors.connection import Hypervisors


def test_a_silent_driver_leaves_the_question_open() -> None:
    hypervisors = Hypervisors()
    hypervisors.unreachable = {"lxc:///system": "Failed to connect socket to '/run/libvirt/libvirt-sock'"}
    with pytest.raises(HostError, match="whether all is gone: a libvirt driver does not answer"):
        hypervisors.require_answers("whether all is gone")


def test_a_driver_that_is_not_installed_has_no_domains() -> None:
    hypervisors = Hypervisors()
    hypervisors.unreachable = {"lxc:///system": "no connection driver available for lxc:///system"}
    hypervisors.require_answers("whether all is gone")
