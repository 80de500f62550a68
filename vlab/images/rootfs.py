"""Root trees: the distribution's bare tree by mmdebstrap, and one overlay upper layer a recipe on top.

Every mount lives in a mount namespace of its own that dies with its process, and that process dies with vlab: nothing is left on
the host whatever kills the build. Packages are installed by the host's apt with dpkg running inside the tree, so the tree needs
no apt, no network and no settings of the host.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from vlab.images import apt
from vlab.images.apt import Apt
from vlab.images.recipe import ImageFile, Recipe
from vlab.run import run, stream

ALONE = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child=KILL", "--propagation=private", "--")
"""Run in mount, host name and process namespaces that vanish with the command."""

_EXCLUDE = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/lintian/*",
            "/usr/share/bug/*", "/lib/udev/hwdb.d/*", "/usr/lib/x86_64-linux-gnu/gconv/*")  # fmt: skip
DPKG_RULES = "".join(f"path-exclude={pattern}\n" for pattern in _EXCLUDE) + "path-include=/usr/share/doc/*/copyright\n"

# $1 root to be, $2 lower trees, $3 upper, $4 work, $5 package archives, $6 files to lay over, $7 script to run inside,
# $8 apt configuration, then packages.
_LAYER = """\
hostname vlab
root=$1 lower=$2 upper=$3 work=$4 archives=$5 files=$6 script=$7 configuration=$8
shift 8
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$work,redirect_dir=off,metacopy=off,index=off" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null zero full random urandom; do : >"$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
ln -s /proc/self/fd "$root/dev/fd"
for scratch in run tmp var/cache; do mount -t tmpfs -o mode=1777 scratch "$root/$scratch"; done
mkdir -p "$root/var/cache/apt/archives/partial" "$root/var/cache/debconf" "$root/var/lib/apt"
mount --bind "$archives" "$root/var/cache/apt/archives"
mkdir -p "$root/var/cache/apt/archives/partial"
printf '#!/bin/sh\\nexit 101\\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
if [ $# -gt 0 ]; then APT_CONFIG=$configuration apt-get install -- "$@"; fi
cp -a --remove-destination "$files/." "$root/"
cp "$script" "$root/run/build"
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \\
    DEBIAN_FRONTEND=noninteractive /bin/sh -eu /run/build
rm -rf "$root/usr/sbin/policy-rc.d" "$root/var/lib/apt" "$root/var/lib/dpkg/"*-old
"""

# $1 root to be, $2 lower trees, then a command. The mount point shows the stack read-only.
_MERGED = """\
root=$1 lower=$2
shift 2
mount -t overlay overlay -o "ro,lowerdir=$lower" "$root"
exec "$@"
"""


def bootstrap_argv(host: Apt, packages: Sequence[str], tree: Path, sources_list: Path, options: Path) -> list[str]:
    """mmdebstrap of the distribution's essential packages and ``packages``; ``options`` is a file of apt configuration."""
    return [
        *ALONE, "mmdebstrap", "--mode=root", "--variant=essential", "--format=directory", "--verbose",
        # usr-is-merged instead of usrmerge, which would bring perl.
        "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr", f"--include={','.join(('usr-is-merged', *packages))}",
        f"--aptopt={options}", *(f"--dpkgopt={rule}" for rule in DPKG_RULES.splitlines()),
        host.release.codename, str(tree), str(sources_list),
    ]  # fmt: skip


def bootstrap(host: Apt, packages: Sequence[str], tree: Path, scratch: Path, on_line: Callable[[str], None]) -> None:
    """Make the bare tree. What mmdebstrap keeps of the host (resolv.conf, apt settings) and host keys are removed from it."""
    sources_list, options = scratch / "sources.list", scratch / "apt.conf"
    sources_list.write_text(host.sources_list())
    options.write_text("\n".join((*host.acquire, 'Acquire::Languages "none";')) + "\n")
    stream(bootstrap_argv(host, packages, tree, sources_list, options), on_line)
    for leftover in ("etc/apt", "var/lib/apt", "var/cache/apt", "var/log/apt"):
        shutil.rmtree(tree / leftover, ignore_errors=True)
    leftovers = ("etc/resolv.conf", "etc/hostname", "var/log/dpkg.log", "var/log/bootstrap.log")
    for file in (*(tree / name for name in leftovers), *tree.glob("etc/ssh/ssh_host_*")):
        file.unlink(missing_ok=True)
    tree.chmod(0o755)


def layer(
    host: Apt,
    recipe: Recipe,
    lower: Sequence[Path],
    upper: Path,
    scratch: Path,
    archives: Path,
    on_line: Callable[[str], None],
) -> None:
    """Make a recipe's own layer in ``upper`` over ``lower`` (topmost first). ``archives`` keeps downloaded packages."""
    root, work, files = (_folder(scratch / name) for name in ("root", "work", "files"))
    upper.chmod(0o755)
    lay(recipe.files, files)
    (scratch / "build").write_text(script(recipe))
    sources_list = scratch / "sources.list"
    sources_list.write_text(host.sources_list())
    configuration = scratch / "apt.conf"
    configuration.write_text(apt.configuration(host, state=archives.parent, sources_list=sources_list, root=root))
    # The family's first recipe has its packages in the bare tree already.
    packages = recipe.packages if recipe.parent else ()
    stream(
        [*_alone(_LAYER, scratch / "layer.sh"), str(root), _stack(lower), str(upper), str(work), str(archives), str(files),
         str(scratch / "build"), str(configuration), *packages],
        on_line,
    )  # fmt: skip


def merged(lower: Sequence[Path], mountpoint: Path, scratch: Path, argv: Sequence[str]) -> None:
    """Run ``argv`` where ``mountpoint`` shows the stack ``lower`` (topmost first), read-only."""
    run([*_alone(_MERGED, scratch / "merged.sh"), str(mountpoint), _stack(lower), *argv])


# $1 root to be, $2 lower trees, $3 upper, $4 work, $5 kernel release.
_DEPMOD = """\
mount -t overlay overlay -o "lowerdir=$2,upperdir=$3,workdir=$4,redirect_dir=off,metacopy=off,index=off" "$1"
exec chroot "$1" /sbin/depmod "$5"
"""


def depmod(lower: Sequence[Path], tree: Path, scratch: Path, release: str) -> None:
    """Write the module indexes of kernel ``release`` into ``tree``, with the depmod of the stack ``lower``."""
    root, work = scratch / "root", scratch / "work"
    root.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    run([*_alone(_DEPMOD, scratch / "depmod.sh"), str(root), _stack(lower), str(tree), str(work), release])


def script(recipe: Recipe) -> str:
    """What runs inside the tree after its packages and files are there."""
    lines = [
        *([f"systemctl --quiet enable {shlex.join(recipe.enable)}"] if recipe.enable else []),
        *([f"systemctl --quiet mask {shlex.join(recipe.mask)}"] if recipe.mask else []),
        recipe.run,
    ]
    return "\n".join(lines) + "\n"


def lay(files: Sequence[ImageFile], folder: Path) -> None:
    """Write ``files`` under ``folder`` as they shall lie in the image."""
    for file in files:
        target = folder / file.path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        if file.link:
            target.symlink_to(file.link)
        else:
            target.write_bytes(file.content)
            target.chmod(file.mode)


def packages(status: str) -> dict[str, str]:
    """A dpkg status file as package → version of what is installed."""
    found = {}
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Status): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return found


def _alone(text: str, file: Path) -> list[str]:
    """The command that runs a script in namespaces of its own. A file, so that an error shows one line and not the script."""
    file.write_text(text)
    return [*ALONE, "sh", "-eu", str(file)]


def _stack(lower: Sequence[Path]) -> str:
    return ":".join(map(str, lower))


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o755)
    return path
