"""The host's own package sources, made usable for building images: which of them are the distribution's, and an apt
configuration that installs into another root. Pure but for ``read_host``.

Proxies, certificates and passwords of the host's apt are used while building and never copied into an image. Third-party
repositories of the host are left out: an image holds the distribution's packages only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import HostError
from vlab.run import run

_FORMAT = "$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(ORIGIN)|$(COMPONENT)"
_ALLOWED_SUITES = ("", "-updates", "-security")
# What only describes indexes or media says nothing about how to reach a mirror.
_NOT_FOR_IMAGES = ("Acquire::IndexTargets", "Acquire::CompressionTypes", "Acquire::cdrom", "Acquire::Changelogs")


@dataclass(frozen=True, slots=True)
class Release:
    """The host's distribution («debian») and its release («bookworm»)."""

    distribution: str
    codename: str


@dataclass(frozen=True, slots=True)
class Source:
    """One suite of a package archive."""

    uri: str
    suite: str
    components: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Apt:
    """What image builds take from the host: its release, the distribution's sources, how to reach them, which key signs them."""

    release: Release
    sources: tuple[Source, ...]
    acquire: tuple[str, ...]
    keyring: Path | None

    def sources_list(self) -> str:
        """The sources in one-line format."""
        option = f"[signed-by={self.keyring}] " if self.keyring else ""
        return "".join(f"deb {option}{s.uri} {s.suite} {' '.join(s.components)}\n" for s in self.sources)


def read_release(path: Path = Path("/etc/os-release")) -> Release:
    """The host's release. Raises ``HostError`` on a host that is neither Debian nor Ubuntu nor made from them."""
    fields = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', path.read_text(), re.MULTILINE))
    if "VERSION_CODENAME" not in fields:
        raise HostError(f"{path} names no release", hint="vlab builds images on Debian 12 and Ubuntu")
    return Release(fields["ID"], fields["VERSION_CODENAME"])


def read_host() -> Apt:
    """Ask the host's apt. Raises ``HostError`` when it knows no source of the host's own distribution."""
    release = read_release()
    targets = run(["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"]).text
    found = distribution_sources(targets, release)
    if not found:
        raise HostError(
            f"apt knows no package lists of {release.distribution} {release.codename}", hint="run apt-get update"
        )
    keyring = Path(f"/usr/share/keyrings/{release.distribution}-archive-keyring.gpg")
    return Apt(release, found, acquire_options(run(["apt-config", "dump"]).text), keyring if keyring.exists() else None)


def distribution_sources(targets: str, release: Release) -> tuple[Source, ...]:
    """The sources in ``apt-get indextargets`` output that carry the distribution's own signature of origin and are the release
    itself, its updates or its security fixes."""
    wanted = {release.codename + suffix for suffix in _ALLOWED_SUITES}
    components: dict[tuple[str, str], list[str]] = {}
    for line in targets.splitlines():
        uri, suite, codename, origin, component = line.split("|")
        # Ubuntu's Release files give «noble» as codename of every pocket: the suite tells them apart.
        if origin.lower() == release.distribution and codename in wanted and _is_plain(suite, codename, release):
            components.setdefault((uri, suite), []).append(component)
    return tuple(Source(uri, suite, tuple(dict.fromkeys(names))) for (uri, suite), names in components.items())


def _is_plain(suite: str, codename: str, release: Release) -> bool:
    return (
        not suite.startswith(release.codename)
        or suite in {release.codename + s for s in _ALLOWED_SUITES}
        or suite == codename
    )


def acquire_options(dump: str) -> tuple[str, ...]:
    """The lines of ``apt-config dump`` that say how to reach a mirror (proxies, certificates, retries, date checks)."""
    return tuple(
        line
        for line in dump.splitlines()
        if line.startswith("Acquire::") and not line.startswith(_NOT_FOR_IMAGES) and not line.endswith(' "";')
    )


def configuration(host: Apt, *, state: Path, sources_list: Path, root: Path | None = None) -> str:
    """An apt configuration that sees only ``sources_list`` and keeps its lists in ``state``; with ``root`` it installs into it.

    The host's hooks are not in it: they belong to the host. Passwords (auth.conf) are read from the host's own place.
    """
    lines = [
        *host.acquire,
        'Acquire::Languages "none";',
        'APT::Install-Recommends "false";',
        'APT::Sandbox::User "root";',
        'APT::Get::Assume-Yes "true";',
        'Dir::Etc::main "/dev/null";',
        'Dir::Etc::parts "/dev/null";',
        'Dir::Etc::preferences "/dev/null";',
        'Dir::Etc::preferencesparts "/dev/null";',
        f'Dir::Etc::sourcelist "{sources_list}";',
        'Dir::Etc::sourceparts "/dev/null";',
        'Dir::Log "/dev/null";',
        f'Dir::State "{state}";',
        *(_into(root) if root else [f'Dir::State::status "{state}/status";', f'Dir::Cache "{state}/cache";']),
    ]
    return "\n".join(lines) + "\n"


def _into(root: Path) -> Sequence[str]:
    return [
        f'Dir::State::status "{root}/var/lib/dpkg/status";',
        f'Dir::State::extended_states "{root}/var/lib/apt/extended_states";',
        # dpkg runs inside the root and must see the archives there, by the same path less the root.
        f'Dir::Cache "{root}/var/cache/apt";',
        f'DPkg::Chroot-Directory "{root}";',
        'DPkg::Use-Pty "false";',
        'DPkg::Options:: "--force-confold";',
        'DPkg::Options:: "--force-unsafe-io";',
        'DPkg::Install::Recursive "false";',
    ]


def outside(host: Apt, state: Path) -> dict[str, str]:
    """Write the configuration of an apt that touches only ``state`` and return the environment that selects it."""
    for folder in (state / "lists" / "partial", state / "cache", state / "archives" / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    sources_list, written = state / "sources.list", state / "apt.conf"
    sources_list.write_text(host.sources_list())
    written.write_text(configuration(host, state=state, sources_list=sources_list))
    # It may hold a proxy's password.
    written.chmod(0o600)
    return {"APT_CONFIG": str(written)}


class Progress:
    """How far apt is, from its own lines: each package is unpacked once and set up once.

    ``expected`` packages keep the fraction from reaching 1 between the runs of apt that one build is made of.
    """

    def __init__(self, expected: int = 0) -> None:
        self.expected = expected
        self.planned = 0
        self.done = 0

    def feed(self, line: str) -> float | None:
        """The fraction done after ``line``, None when the line says nothing about it."""
        if planned := re.search(r"(\d+) newly installed", line):
            self.planned += int(planned[1])
        elif line.startswith(("Unpacking ", "Setting up ")):
            self.done += 1
            return min(1.0, self.done / max(1, 2 * max(self.planned, self.expected)))
        return None
