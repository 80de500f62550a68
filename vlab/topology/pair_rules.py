"""The rules of director pairs. Pure. (R numbers: the rules of the LVS research notes.)

A pair without ``inner_vip`` for its nat services (R7) is no mistake: the address is derived.
"""

from __future__ import annotations

from collections.abc import Iterator

from vlab.topology.finding import Finding, show
from vlab.topology.scope import Scope

MOST_PAIRS = 255

OF_PAIRS = {
    "sync": "connections are told to a second director",
    "preempt": "a director takes over from a second one",
    "vrid": "VRRP runs between two directors",
    "inner_vip": "an address floats between two directors",
    "inner_vip6": "an address floats between two directors",
}


def _keys_of_pairs(scope: Scope) -> Iterator[Finding]:
    for name, director in scope.topology.directors.items():
        for key, why in OF_PAIRS.items():
            if director.count == 1 and key in director.model_fields_set:
                yield Finding(("directors", name, key), f"{why}, and there is one", f"write count: 2, or remove {key}")


def _enough_vrids(scope: Scope) -> Iterator[Finding]:
    if (count := len(scope.pairs.directors)) > MOST_PAIRS:
        message = f"{count} of them are pairs; a VRRP router id is 1 to {MOST_PAIRS}"
        yield Finding(("directors",), message, "spread them over several labs")


def _macs_of_pairs(scope: Scope) -> Iterator[Finding]:
    for name in scope.pairs.directors:
        for network in scope.topology.directors[name].macs:
            message = f"a MAC is one node's, and {show(name)} has two"
            yield Finding(("directors", name, "macs", network), message, "remove it: MACs are derived, and stable")


def _one_vrid_a_bridge(scope: Scope) -> Iterator[Finding]:
    """R12: two pairs of one id on one network would take each other for their own second node."""
    seen: list[tuple[str, int, set[str]]] = []
    for name, director in scope.pairs.directors.items():
        if director.vrid is None:
            continue
        mine = set(director.networks)
        for other, vrid, networks in seen:
            if vrid == director.vrid and (shared := sorted(networks & mine)):
                message = f"director {show(other)} has {vrid} already, on network {show(shared[0])} too"
                yield Finding(("directors", name, "vrid"), message, "choose another, or remove it: it is derived")
        seen.append((name, director.vrid, mine))


RULES = (_keys_of_pairs, _enough_vrids, _macs_of_pairs, _one_vrid_a_bridge)
