"""The types of the language's values: how each is read, and its JSON schema for editors. Pure."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from vlab.topology import family, ports, service_values, units, values
from vlab.topology.mode_rules import MODE_SYNONYMS, ModeRules
from vlab.topology.tunnels import CHECKSUMS, TUNNEL_SYNONYMS, TUNNELS
from vlab.topology.vocabulary import (
    ACCELERATOR_SYNONYMS,
    ACCELERATORS,
    PROTOCOLS,
    SCHEDULER_FLAGS,
    SCHEDULER_SYNONYMS,
    SCHEDULERS,
    VIRT_KINDS,
    VIRT_SYNONYMS,
)

LAB_NAME, NAME = 32, 20
"""The longest names, in characters. A node's is a NAME and at most five digits, below the 32 it may have."""


@dataclass(frozen=True, slots=True)
class Read:
    """An annotation: ``read`` turns what YAML gave into the field's value or refuses it; ``schema`` describes what may be
    written."""

    read: Callable[[Any], object]
    schema: JsonSchemaValue = field(hash=False)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return copy.deepcopy(self.schema)


@dataclass(frozen=True, slots=True)
class Short:
    """An annotation on a model: a bare word stands for a mapping («tcp» for {tcp: true}). Any other word is taken for the value of
    key ``other``, where there is one, whose own words then refuse it."""

    forms: dict[str, dict[str, object]] = field(hash=False)
    other: str = ""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.expand, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": list(self.forms)}, handler(core)]}

    def expand(self, value: object) -> object:
        if not isinstance(value, str):
            return value
        return self.forms.get(value, {self.other: value} if self.other else value)


@dataclass(frozen=True, slots=True)
class Bare:
    """An annotation on a model: a value that is no mapping stands for one key of it (300 s for {timeout: 300 s})."""

    key: str
    read: Read

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def expand(value: object) -> object:
            return (
                value
                if isinstance(value, dict | source)
                else source.model_construct(**{self.key: self.read.read(value)})
            )

        return core_schema.no_info_before_validator_function(expand, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [copy.deepcopy(self.read.schema), handler(core)]}


def _name(longest: int) -> Read:
    return Read(values.name(longest), {"type": "string", "pattern": values.NAME_PATTERN, "maxLength": longest})


def _words(known: Iterable[str], synonyms: dict[str, str] | None = None) -> Read:
    known = list(known)
    return Read(values.choice(known, synonyms), {"enum": known})


def _whole(least: int, most: int, notes: dict[int, str] | None = None) -> Read:
    return Read(values.whole(least, most, notes), {"type": "integer", "minimum": least, "maximum": most})


def _only(wanted: int, message: str, hint: str) -> Read:
    return Read(values.only(wanted, message, hint), {"const": wanted})


def _with_unit(read: Callable[[object], object], names: Iterable[str], example: str) -> Read:
    pattern = rf"^\s*[0-9]+(\.[0-9]+)?\s*({'|'.join(names)})\s*$"
    return Read(read, {"type": "string", "pattern": pattern, "examples": [example]})


_NAMES: JsonSchemaValue = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_SUBNET: JsonSchemaValue = {"type": "string", "pattern": "^[0-9.]+/[0-9]{1,2}$"}
_SUBNET6: JsonSchemaValue = {"type": "string", "pattern": "^[0-9a-fA-F:.]+/[0-9]{1,3}$"}
_EITHER: JsonSchemaValue = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
_MAC: JsonSchemaValue = {"type": "string", "pattern": "^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$"}
_PORTS: JsonSchemaValue = {
    "type": "array",
    "items": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string", "pattern": r"^\s*[0-9]+\s*-\s*[0-9]+\s*$"}]},
    "minItems": 1,
    "maxItems": ports.MOST_ENTRIES,
}  # fmt: skip
_MARK: JsonSchemaValue = {
    "anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": service_values.LARGEST_MARK}]
}
_COMMAND: JsonSchemaValue = {"anyOf": [{"type": "string", "pattern": r"^\s*/"}, _NAMES]}
_PORT_NOTES = {0: "a service on every port at once is not in this version"}

Version = Annotated[int, _only(1, "is the language's version, and this vlab reads version 1, not {}", "write vlab: 1")]
LabName = Annotated[str, _name(LAB_NAME)]
Name = Annotated[str, _name(NAME)]
Names = Annotated[tuple[str, ...], Read(values.words, _NAMES)]
NameOrNames = Annotated[tuple[str, ...], Read(values.word_or_words, {"anyOf": [{"type": "string"}, _NAMES]})]
NodeName = Annotated[str, Read(service_values.node, {"type": "string"})]
Flag = Annotated[bool, Read(values.flag, {"type": "boolean"})]

Address = Annotated[IPv4Address, Read(values.address, {"type": "string", "format": "ipv4"})]
Subnet = Annotated[IPv4Network, Read(values.subnet, _SUBNET)]
Address6 = Annotated[IPv6Address, Read(values.address6, {"type": "string", "format": "ipv6"})]
Subnet6 = Annotated[IPv6Network, Read(values.subnet6, _SUBNET6)]
Vip = Annotated[family.Address, Read(values.vip, _EITHER)]
Mac = Annotated[str, Read(values.mac, _MAC)]
Mtu = Annotated[int, _whole(576, 9216)]
Port = Annotated[int, _whole(1, 65535, _PORT_NOTES)]

Ports = Annotated[tuple[ports.PortRange, ...], Read(ports.read, _PORTS)]
Mark = Annotated[int, Read(service_values.mark, _MARK)]

Virt = Annotated[str, _words(VIRT_KINDS, VIRT_SYNONYMS)]
Mode = Annotated[str, _words(ModeRules.known, MODE_SYNONYMS)]
Scheduler = Annotated[str, _words(SCHEDULERS, SCHEDULER_SYNONYMS)]
Accelerator = Annotated[str, _words(ACCELERATORS, ACCELERATOR_SYNONYMS)]
Protocol = Annotated[str, _words(PROTOCOLS)]
SchedulerFlags = Annotated[
    tuple[str, ...],
    Read(
        service_values.flags(SCHEDULER_FLAGS),
        {"type": "array", "items": {"enum": list(SCHEDULER_FLAGS)}, "minItems": 1, "uniqueItems": True},
    ),
]
TunnelType = Annotated[str, _words(TUNNELS, TUNNEL_SYNONYMS)]
UdpPort = Annotated[int, _whole(1, 65535)]
Checksum = Annotated[str, _words(CHECKSUMS)]

Count = Annotated[int, _whole(1, 10_000, {0: "remove the group instead"})]
DirectorCount = Annotated[int, _whole(1, 2, {0: "remove the director instead", 3: "two: one works, one stands by"})]
Vrid = Annotated[int, _whole(1, 255, {0: "leave it out, and it is derived"})]
Cpus = Annotated[int, _whole(1, 64)]
CpuShares = Annotated[int, _whole(2, 262_144, {1: "1024 is normal, 512 half of it"})]
CpuQuota = Annotated[float, Read(values.cores, {"type": "number", "minimum": 0.01, "maximum": 64})]
Weight = Annotated[int, _whole(0, 65_535)]
Threshold = Annotated[int, _whole(0, 1_000_000)]
Quorum = Annotated[int, _whole(1, 1_000_000, {0: "1, the default, wants one real server of weight 1 to be up"})]

Memory = Annotated[int, _with_unit(values.size(64 * units.MIB, 2**40), units.SIZES, "256 MiB")]
Every = Annotated[float, _with_unit(values.duration(0.5, 3600), units.DURATIONS, "2 s")]
Timeout = Annotated[float, _with_unit(values.duration(0.1, 600), units.DURATIONS, "3 s")]
_WHOLE_SECONDS = _with_unit(values.whole_seconds, units.DURATIONS, "300 s")
WholeSeconds = Annotated[int, _WHOLE_SECONDS]
Netmask = Annotated[int, _whole(1, 128, {0: "all clients would be one: use scheduler fo"})]
PersistenceForm = Bare("timeout", _WHOLE_SECONDS)
HttpPath = Annotated[str, Read(values.path, {"type": "string", "pattern": "^/"})]
Command = Annotated[tuple[str, ...], Read(service_values.arguments, _COMMAND)]
DnsName = Annotated[str, Read(service_values.dns_name, {"type": "string"})]
User = Annotated[str, Read(service_values.credential("user", 80), {"type": "string", "minLength": 1, "maxLength": 80})]
Password = Annotated[
    str, Read(service_values.credential("password", 200, empty=True), {"type": "string", "maxLength": 200})
]
Database = Annotated[
    str, Read(service_values.credential("database", 64), {"type": "string", "minLength": 1, "maxLength": 64})
]
