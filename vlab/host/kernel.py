"""What the host's kernel can do: built in, loaded, or loadable. Looks only at files; loads nothing.

The engine asks ``has`` before it starts a lab whose containers need a feature of the host's kernel; ``doctor`` lists them all.
"""

from __future__ import annotations

import functools
import gzip
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Feature:
    """``name`` is the kernel module's, ``symbol`` its configuration symbol; ``needed`` means that no lab runs without it."""

    name: str
    symbol: str
    use: str
    needed: bool = False


FEATURES = (
    Feature("bridge", "BRIDGE", "every network of a lab is a bridge", needed=True),
    Feature("veth", "VETH", "containers are on their networks through veth pairs", needed=True),
    Feature("tun", "TUN", "virtual machines are on their networks through taps", needed=True),
    Feature("overlay", "OVERLAY_FS", "containers have overlays as roots", needed=True),
    Feature("ipip", "NET_IPIP", "mode tun with container real servers"),
    Feature("ip_gre", "NET_IPGRE", "mode tun over GRE with container real servers"),
    Feature("fou", "NET_FOU", "mode tun over GUE with container real servers"),
    Feature("ip6_tunnel", "IPV6_TUNNEL", "mode tun with container real servers, for IPv6 services"),
    Feature("ip6_gre", "IPV6_GRE", "mode tun over GRE with container real servers, for IPv6 services"),
    Feature("sch_netem", "NET_SCH_NETEM", "delay and loss on links"),
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """What is known of a kernel: names of modules loaded, built in and loadable, and its configuration («BRIDGE» → «y»)."""

    present: frozenset[str]
    built_in: frozenset[str]
    loadable: frozenset[str]
    config: frozenset[tuple[str, str]]

    def has(self, name: str) -> bool:
        """Whether the feature works, or will as soon as it is asked for."""
        symbol = next((f.symbol for f in FEATURES if f.name == name), name.upper())
        return name in self.present | self.built_in | self.loadable or (symbol, "y") in self.config


def has(name: str) -> bool:
    """Whether the running kernel has ``name`` (a module's name: «ipip»)."""
    return running().has(name)


def has_ipv6(root: Path = Path("/")) -> bool:
    """Whether network namespaces of this host have IPv6; one that was booted with ipv6.disable=1 is built with it and has none."""
    return (root / "proc/sys/net/ipv6/conf/all").is_dir()


@functools.cache
def running() -> Kernel:
    """The kernel of this host, read once a process."""
    return read(
        Path("/"),
        platform.release(),
        loads_modules=shutil.which("modprobe", path="/usr/sbin:/sbin:/usr/bin:/bin") is not None,
    )


def read(root: Path, release: str, *, loads_modules: bool) -> Kernel:
    """The kernel whose files are under ``root``. Without ``modprobe`` nothing is loadable, whatever lies on the disk."""
    modules = root / "lib/modules" / release
    return Kernel(
        present=frozenset(entry.name for entry in _entries(root / "sys/module")),
        built_in=frozenset(map(module_name, _text(modules / "modules.builtin").splitlines())),
        loadable=frozenset(
            module_name(line.partition(":")[0]) for line in _text(modules / "modules.dep").splitlines() if loads_modules
        ),
        config=frozenset(parse_config(_config(root, release))),
    )


def module_name(path: str) -> str:
    """«kernel/net/ipv4/ipip.ko.xz» → «ipip». The kernel takes dashes in module names for underscores."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def parse_config(text: str) -> list[tuple[str, str]]:
    """Symbols without their prefix, and their values, from a kernel's configuration file."""
    lines = (line.removeprefix("CONFIG_").partition("=") for line in text.splitlines() if line.startswith("CONFIG_"))
    return [(symbol, value) for symbol, _, value in lines]


def _config(root: Path, release: str) -> str:
    packed = root / "proc/config.gz"
    if packed.exists():
        return gzip.decompress(packed.read_bytes()).decode(errors="replace")
    return _text(root / f"boot/config-{release}")


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
