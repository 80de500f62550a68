"""Internet access for networks with ``internet: true``: slirp4netns, one process a lab.

It carries the guests' connections as if it had opened them itself, so the host's firewall, routes and sysctls stay as they are. Routing
and masquerading (``routing``) happen inside the lab's namespace, for the networks that ask for it alone. The host's own 127.0.0.1 stays out of reach.
The process is the only record: it is found by its command line, which names the namespace.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from vlab import run
from vlab.errors import HostError
from vlab.host import routing
from vlab.host.namespace import FOLDER, PREFIX, inside, namespaces
from vlab.topology.lab import Lab, Network, namespace

PROGRAM = "slirp4netns"
DEVICE = routing.UPLINK
STARTS_WITHIN = 10.0
ENDS_WITHIN = 3.0
POLL = 0.02
CANDIDATES = (IPv4Network("10.0.2.0/24"), *IPv4Network("192.168.0.0/16").subnets(new_prefix=24))
GATEWAY, RESOLVER = 2, 3
"""Hosts of its subnet that slirp4netns answers for."""


def start(lab: Lab) -> None:
    """Give the lab's ``internet`` networks access; mends the rules when it runs already. Raises ``HostError`` when it cannot.

    The process is started last: once it runs, everything is in place.
    """
    online = [network for network in lab.networks if network.internet]
    routing.apply(lab.name, lab.networks)
    if lab.name not in running():
        _spawn(command(lab.namespace, min(network.mtu for network in online), uplink(lab.networks)), lab.name)


def stop(lab_name: str, staying: Sequence[Network] = ()) -> None:
    """Take the access away; nothing happens when there is none. What ``staying`` networks ask for goes on."""
    for pid in _processes(namespace(lab_name)):
        _end(pid, namespace(lab_name))
    if namespace(lab_name) in namespaces():
        routing.apply(lab_name, staying)


def running() -> dict[str, int]:
    """Lab name → pid of its slirp4netns."""
    found = ((name, pid) for pid in _pids() if (name := namespace_of(_words(pid))))
    return {name.removeprefix(PREFIX): pid for name, pid in found}


def serving(lab_name: str) -> frozenset[str]:
    """The bridges that have internet access now; the uplink's own device while it runs and serves none."""
    if lab_name not in running():
        return frozenset()
    listed = routing.nft(lab_name, f"list table ip {routing.TABLE}", check=False)
    return bridges_online(listed) or frozenset({DEVICE})


# decisions: pure


def bridges_online(listed: str) -> frozenset[str]:
    """The bridges that the listed rules let out, whether nft shows them as a set or, when there is one, alone."""
    lines = [line for line in listed.splitlines() if "iifname" in line and f'oifname "{DEVICE}"' in line]
    return frozenset(name for line in lines for name in re.findall(r'"([^"]+)"', line.split("oifname")[0]))


def resolver(lab: Lab) -> IPv4Address:
    """The address at which guests of ``internet`` networks find a name server (it hands on to the host's)."""
    return uplink(lab.networks)[RESOLVER]


def uplink(networks: Sequence[Network]) -> IPv4Network:
    """The first subnet for slirp4netns that overlaps none of the lab's. Raises ``HostError`` when all do."""
    taken = [network.subnet for network in networks]
    for candidate in CANDIDATES:
        if not any(candidate.overlaps(subnet) for subnet in taken):
            return candidate
    raise HostError("no private subnet is left for internet access", hint="give the lab's networks smaller subnets")


def command(namespace: str, mtu: int, subnet: IPv4Network) -> list[str]:
    """slirp4netns' argv."""
    return [
        PROGRAM, "--netns-type=path", "--configure", f"--mtu={mtu}", f"--cidr={subnet}", "--disable-host-loopback",
        str(FOLDER / namespace), DEVICE,
    ]  # fmt: skip


def namespace_of(argv: Sequence[str]) -> str | None:
    """The lab namespace that a process with this command line serves, None for any other process."""
    if len(argv) < 3 or Path(argv[0]).name != PROGRAM or argv[-1] != DEVICE:
        return None
    path = Path(argv[-2])
    return path.name if path.parent == FOLDER and path.name.startswith(PREFIX) else None


# deeds


def _spawn(argv: Sequence[str], lab: str) -> None:
    # The file is gone when this returns; the process writes on to what has no name any more.
    with tempfile.NamedTemporaryFile(prefix="vlab-") as log:
        run.spawn(argv, log_file=Path(log.name))
        deadline = time.monotonic() + STARTS_WITHIN
        while not _is_up(namespace(lab)):
            time.sleep(POLL)
            if time.monotonic() > deadline or lab not in running():
                said = Path(log.name).read_text(errors="replace").splitlines()[-5:]
                raise HostError(f"{PROGRAM} does not run for lab {lab}", details=said, hint="vlab doctor")


def _is_up(namespace: str) -> bool:
    return inside(namespace, lambda: DEVICE in {name for _, name in socket.if_nameindex()} and _has_route())


def _has_route() -> bool:
    return any(line.startswith(DEVICE) for line in Path("/proc/thread-self/net/route").read_text().splitlines())


def _end(pid: int, namespace: str) -> None:
    """A pidfd names one process for ever, so a pid used again in between is not hit."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if namespace_of(_words(pid)) != namespace:
                return
            for signum in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(handle, signum)
                if select.select([handle], [], [], ENDS_WITHIN)[0]:
                    return
        finally:
            os.close(handle)


def _processes(namespace: str) -> list[int]:
    return [pid for pid in _pids() if namespace_of(_words(pid)) == namespace]


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def _words(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone or a zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    return []
