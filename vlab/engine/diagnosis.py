"""``check``: gather the facts of a running lab, all places at once, and let the rules judge them. Changes nothing.

One round trip a guest. A guest that does not answer is no error here: it is told as unread, beside what was found elsewhere.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from vlab import run
from vlab.diagnosis import asking, reading, scene
from vlab.diagnosis.facts import Asked, Fabric, Facts, Guest
from vlab.diagnosis.reading import Questions
from vlab.diagnosis.rule import Finding, diagnose, passing
from vlab.diagnosis.rules.paths import wrapped
from vlab.engine.drivers import Drivers
from vlab.errors import GuestError, HostError, UsageError, VlabError
from vlab.guests.base import Channel
from vlab.host import links, neighbours, sysctls
from vlab.host.namespace import FOLDER, inside
from vlab.hypervisors.mark import Domain
from vlab.lvs.index import Role
from vlab.lvs.modes import mode
from vlab.topology.family import Address
from vlab.topology.lab import Lab, Network, Node, Service

THREADS = 8
TIMEOUT = 60.0
MORE_LOOKS = 2
"""How often what may be a passing moment is looked at again: guests on a busy host are late."""

MOST_ADDRESSES = 256
"""How many of a network's nodes are asked for by ARP and neighbour discovery."""

BRIDGE_CALLS = tuple(f"bridge/bridge-nf-call-{family}tables" for family in ("ip", "ip6", "arp"))


@dataclass(frozen=True, slots=True)
class Checked:
    """What ``check`` found in a lab; ``unread`` are the places that could not be looked at, and why."""

    lab: str
    findings: tuple[Finding, ...]
    unread: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return not self.findings and not self.unread


def check(drivers: Drivers, lab: Lab) -> Checked:
    """Raises ``UsageError`` when nothing of the lab runs. What may be a passing moment is looked at again."""
    found = _look(drivers, lab)
    for _ in range(MORE_LOOKS):
        if not (wait := passing(lab, found.findings)):
            break
        time.sleep(wait)
        found = _look(drivers, lab)
    return found


def _look(drivers: Drivers, lab: Lab) -> Checked:
    facts = gather(drivers, lab)
    return Checked(lab.name, tuple(diagnose(lab, facts)), facts.unread)


def gather(drivers: Drivers, lab: Lab) -> Facts:
    """Everything the rules look at."""
    domains = {domain.mark.node.name: domain for domain in drivers.hypervisors.domains(lab.name)}
    if not domains or lab.namespace not in links.namespaces():
        raise UsageError(f"lab {lab.name} does not run", hint=f"vlab up FILE --as {lab.name}")
    unread: dict[str, str] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        fabric = pool.submit(_fabric, drivers, lab, domains)
        asked = {s.name: pool.submit(_asked, drivers, lab, domains, s) for s in lab.services}
        guests = {node.name: pool.submit(_guest, drivers, lab, domains, node) for node in lab.nodes}
    read: dict[str, Guest] = {}
    for name, guest in guests.items():
        try:
            read[name] = guest.result()
        except VlabError as error:
            unread[name] = error.what
    answers = {name: result for name, future in asked.items() if (result := future.result())}
    return Facts(read, fabric.result(), answers, unread)


# guests


def questions(lab: Lab, node: Node) -> Questions:
    """What a node is asked, by the parts it plays. Pure."""
    roles = [role for role in scene.serving(lab) if role.node.name == node.name]
    returning = [role.service for role in roles if mode(role.service.mode).replies_through_director]
    clients = {address: None for service in returning for address in scene.client_addresses(lab, service)}
    directs = node in scene.directing(lab)
    six = any(nic.address6 for nic in node.nics)
    return Questions(tuple(clients), directs, tuple(_packets(lab, node)) if directs else (), six)


def _packets(lab: Lab, director: Node) -> Iterable[tuple[Address, int]]:
    """The largest packet that each real server is sent by tunnel."""
    sizes: dict[Address, int] = {}
    for role in scene.serving(lab):
        if scene.needs(role).tunnels and role.real_server and _directs(role, director):
            sizes[role.real_server.address] = wrapped(role, None)
    return sizes.items()


def _directs(role: Role, director: Node) -> bool:
    return role.service.director in (director.name, director.group)


def _guest(drivers: Drivers, lab: Lab, domains: Mapping[str, Domain], node: Node) -> Guest:
    if node.name not in domains:
        raise GuestError(f"{node.name} does not run", hint="vlab up makes it again")
    wanted = questions(lab, node)
    result = drivers.channel(domains[node.name]).run(reading.command(wanted), timeout=TIMEOUT)
    try:
        return reading.parse(wanted, result.text)
    except (ValueError, KeyError, IndexError) as error:
        said = (result.error_text or result.text).strip()[:200]
        raise GuestError(f"{node.name}: what it printed could not be read: {said}") from error


# clients


def _asked(drivers: Drivers, lab: Lab, domains: Mapping[str, Domain], service: Service) -> Asked | None:
    """None where nobody can ask: no web service, no client with curl, a client that does not answer (its own reading tells why)."""
    if service.protocol != "tcp" or not _is_web(drivers, lab, service):
        return None
    for node in scene.clients(lab, service)[:1]:
        if node.name not in domains:
            continue
        try:
            found = _answers(drivers.channel(domains[node.name]), node, service)
            return (
                _answers(drivers.channel(domains[node.name]), node, service)
                if found and asking.doubtful(found)
                else found
            )
        except (VlabError, ValueError):
            return None
    return None


def _answers(channel: Channel, node: Node, service: Service) -> Asked | None:
    """None where the node lacks curl."""
    result = channel.run(asking.command(service), timeout=TIMEOUT)
    return asking.parse(node.name, service, result.text) if result.code == 0 else None


def _is_web(drivers: Drivers, lab: Lab, service: Service) -> bool:
    images = {(lab.node(server.node).image, server.port or service.port) for server in service.real_servers}
    return bool(images) and all(dict(drivers.recipes[image].serves).get(port) == "http" for image, port in images)


# the host's side


def _fabric(drivers: Drivers, lab: Lab, domains: Mapping[str, Domain]) -> Fabric:
    try:
        answers = neighbours.who_has(lab.namespace, neighbour_questions(lab))
    except OSError as error:
        raise HostError(f"lab {lab.name}: a bridge is missing", hint="vlab up makes it again") from error
    return Fabric(
        inside(lab.namespace, lambda: sysctls.read(BRIDGE_CALLS)),
        _ruleset(lab.namespace),
        {name: found for name, domain in domains.items() if (found := filters(drivers.hypervisors.definition(domain)))},
        answers,
    )


def neighbour_questions(lab: Lab) -> list[neighbours.Questions]:
    """For each bridge the virtual addresses of its network, then its nodes' own. Pure."""
    return [_asked_on(lab, network) for network in lab.networks]


def _asked_on(lab: Lab, network: Network) -> neighbours.Questions:
    nics = [nic for node in lab.nodes for nic in node.nics if nic.network == network.name][:MOST_ADDRESSES]
    vips = [service.vip for service in lab.services if service.network == network.name]
    found = dict.fromkeys([*vips, *(own.ip for nic in nics for own in nic.addresses)])
    four = tuple(address for address in found if isinstance(address, IPv4Address))
    six = tuple(address for address in found if isinstance(address, IPv6Address))
    return neighbours.Questions(network.bridge, four, six, network.gateway6)


def filters(definition: str) -> tuple[str, ...]:
    """The network filters in a domain's XML."""
    return tuple(re.findall(r"<filterref filter='([^']+)'", definition))


def _ruleset(namespace: str) -> str:
    """What nft lists in the namespace; nothing on a host without nft, whose kernel then has no rules of it either."""
    try:
        return run.run(within(namespace, "nft", "list", "ruleset"), timeout=10, check=False).text
    except HostError:
        return ""


def within(namespace: str, *argv: str) -> list[str]:
    """``argv`` as a command in a network namespace."""
    return ["nsenter", f"--net={FOLDER / namespace}", "--", *argv]
