"""The host's package sources: only the distribution's own suites, nothing of the host in an image."""

from pathlib import Path

import pytest

from vlab.errors import HostError
from vlab.images import apt
from vlab.images.apt import Apt, Progress, Release, Source

BOOKWORM = Release("debian", "bookworm")

DEBIAN = """\
http://mirror.example/debian/|bookworm|bookworm|Debian|main
http://mirror.example/debian/|bookworm|bookworm|Debian|contrib
http://mirror.example/debian/|bookworm-updates|bookworm-updates|Debian|main
http://mirror.example/security/|bookworm-security|bookworm-security|Debian|main
http://mirror.example/debian/|bookworm-backports|bookworm-backports|Debian Backports|main
http://mirror.example/debian/|bookworm-backports|bookworm-backports|Debian|main
http://mirror.example/debian/|trixie|trixie|Debian|main
https://docker.example/linux/debian/|bookworm|bookworm|Docker|stable
https://node.example/node_20.x/|nodistro|nodistro|. nodistro|main
https://cloud.example/apt/|cloud-sdk-bookworm|cloud-sdk-bookworm|cloud-sdk-bookworm|main
"""


def test_only_the_distribution_counts() -> None:
    assert apt.distribution_sources(DEBIAN, BOOKWORM) == (
        Source("http://mirror.example/debian/", "bookworm", ("main", "contrib")),
        Source("http://mirror.example/debian/", "bookworm-updates", ("main",)),
        Source("http://mirror.example/security/", "bookworm-security", ("main",)),
    )


def test_a_suite_may_be_written_by_its_other_name() -> None:
    text = "http://m.example/debian/|stable|bookworm|Debian|main\n"
    assert apt.distribution_sources(text, BOOKWORM) == (Source("http://m.example/debian/", "stable", ("main",)),)


def test_ubuntu_pockets_share_a_codename() -> None:
    text = "".join(f"http://u.example/|{s}|noble|Ubuntu|main\n" for s in ("noble", "noble-updates", "noble-backports"))
    found = apt.distribution_sources(text, Release("ubuntu", "noble"))
    assert [source.suite for source in found] == ["noble", "noble-updates"]


def test_ways_to_mirrors_are_taken_and_nothing_else() -> None:
    dump = """\
APT::Update::Post-Invoke:: "rm -f /x";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::http::Proxy::internal.example "DIRECT";
Acquire::https "";
Acquire::https::CAInfo "/etc/ssl/corporate.pem";
Acquire::IndexTargets::deb::Packages::MetaKey "x";
Acquire::Check-Valid-Until "false";
DPkg::Post-Invoke:: "rm -f /y";
"""
    assert apt.acquire_options(dump) == (
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::http::Proxy::internal.example "DIRECT";',
        'Acquire::https::CAInfo "/etc/ssl/corporate.pem";',
        'Acquire::Check-Valid-Until "false";',
    )


HOST = Apt(BOOKWORM, (Source("http://m.example/", "bookworm", ("main",)),), ('Acquire::Retries "3";',), Path("/k.gpg"))


def test_sources_name_the_distributions_key() -> None:
    assert HOST.sources_list() == "deb [signed-by=/k.gpg] http://m.example/ bookworm main\n"


def test_configuration_installs_into_the_root_and_reads_no_host_hooks() -> None:
    lines = apt.configuration(HOST, state=Path("/s"), sources_list=Path("/l"), root=Path("/r")).splitlines()
    assert 'Acquire::Retries "3";' in lines
    assert 'Dir::Etc::parts "/dev/null";' in lines
    assert 'Dir::State::status "/r/var/lib/dpkg/status";' in lines
    assert 'DPkg::Chroot-Directory "/r";' in lines


def test_release(tmp_path: Path) -> None:
    file = tmp_path / "os-release"
    file.write_text('PRETTY_NAME="Debian 12"\nID=debian\nVERSION_CODENAME=bookworm\n')
    assert apt.read_release(file) == BOOKWORM
    file.write_text("ID=arch\n")
    with pytest.raises(HostError, match="names no release"):
        apt.read_release(file)


def test_progress_counts_unpacking_and_setting_up() -> None:
    progress = Progress()
    lines = [
        "0 upgraded, 2 newly installed, 0 to remove",
        "Unpacking a (1) ...",
        "Get:1 x",
        "Unpacking b (1) ...",
        "Setting up a (1)",
    ]
    assert [progress.feed(line) for line in lines] == [None, 0.25, None, 0.5, 0.75]


def test_progress_waits_for_packages_still_to_come() -> None:
    progress = Progress(expected=4)
    assert [progress.feed(line) for line in ("1 newly installed", "Unpacking a", "Setting up a")] == [None, 0.125, 0.25]
