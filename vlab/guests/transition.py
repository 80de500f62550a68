"""From the settings a guest has to those it is to have: one POSIX sh script. Pure; ``settle`` runs it.

The script takes away what was set and is not wanted any more, then makes what is wanted, in the order that LVS needs: a VIP
leaves ``lo`` before the ARP sysctls are reset, and comes after they are set. It can be run again after any interruption:
everything is replaced rather than added, and the record of what was applied is written last. Under TCG each process costs
10–50 ms, so the shell's own words do most of the work and ``ip``, ``chmod`` and ``systemctl`` are called once for many things.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from shlex import quote
from typing import Any

from vlab.guests import network_script
from vlab.guests.settings import File, Settings, Unit
from vlab.plain import from_plain, to_plain

SETTINGS_FILE = "/etc/vlab/settings.json"
SETTLED_FILE = "/run/vlab-settled"
"""Digest of the settings that took effect in this boot; written last, so it is the proof that all of them did."""
BOOT_SCRIPT = "/etc/vlab/apply.sh"

NOTHING = Settings("", "")

_HEADER = """\
#!/bin/sh
# Written by vlab.
set -eu
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""

_IDENTITY = """\
printf '%s\\n' {name} >/etc/hostname
read -r found </proc/sys/kernel/hostname
if [ "$found" != {name} ]; then
  hostname {name}
{told}fi
found=
[ ! -e /etc/machine-id ] || read -r found </etc/machine-id || :
if [ "$found" != {machine_id} ]; then
  printf '%s\\n' {machine_id} >/etc/machine-id
  [ ! -d /run/systemd/system ] || systemctl --no-block restart systemd-journald.service
fi
"""
# The journal is kept in a folder named after the machine id: after a change journald must be told, or journalctl finds nothing.


def script(found: Settings | None, wanted: Settings, *, extra: Sequence[File] = ()) -> str:
    """The script that brings a guest from ``found`` (None: nothing set yet) to ``wanted``.

    ``extra`` files are written too but not recorded: SSH host keys at the first configuration. It exits non-zero at the
    first thing that fails, with that command's words on stderr. Raises ``ValueError`` for a device name that cannot be one.
    """
    had = found or NOTHING
    changed = [file for file in wanted.files if file not in had.files]
    gone = sorted({file.path for file in had.files} - {file.path for file in wanted.files})
    touched = {*gone, *(file.path for file in changed)}
    body = [
        network_script.removal(had, wanted),
        network_script.setup(had, wanted),
        _remove(gone),
        *_write([*changed, *extra, *_boot_file(had, wanted)]),
        _identity(had, wanted),
        *_units(had, wanted, touched),
        _record(wanted),
    ]
    # A function: the whole script is read before any of it runs, and no command can read the rest of it from its stdin.
    return f"{_HEADER}vlab_settle() {{\n{''.join(body)}}}\nvlab_settle </dev/null\n"


def boot_script(wanted: Settings) -> str:
    """What a boot needs besides the files: the network. ``vlab-settings.service`` runs it before the units that serve, which
    are enabled in their images, so nothing is started here. How it ended is left in ``SETTLED_FILE``."""
    report = f"trap '[ $? = 0 ] || echo failed >{SETTLED_FILE}' EXIT\n"
    return f"{_HEADER}{report}{network_script.setup(NOTHING, wanted)}echo {digest(wanted)} >{SETTLED_FILE}\n"


def seed(wanted: Settings, extra: Sequence[File] = ()) -> tuple[File, ...]:
    """The files that give a guest ``wanted`` at its first boot, laid into its clone before it starts: then nothing needs to be
    run in it afterwards."""
    own = (
        File("/etc/hostname", f"{wanted.hostname}\n"),
        File(BOOT_SCRIPT, boot_script(wanted), 0o755),
        File(SETTINGS_FILE, dump(wanted)),
    )
    return (*wanted.files, *extra, *own)


def digest(settings: Settings) -> str:
    """SHA-256 of the settings; the reasons do not count."""
    plain = json.dumps(_without_reasons(to_plain(settings)), sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()


def dump(settings: Settings) -> str:
    """The settings as JSON text, reasons included, for ``load`` and for people."""
    return json.dumps(to_plain(settings), separators=(",", ":")) + "\n"


def load(text: str) -> Settings:
    """What ``dump`` wrote. Raises ``ValueError``, ``TypeError`` or ``KeyError`` for anything else."""
    return from_plain(Settings, json.loads(text))


def _without_reasons(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _without_reasons(value) for key, value in plain.items() if key != "why"}
    return [_without_reasons(item) for item in plain] if isinstance(plain, list) else plain


def _boot_file(had: Settings, wanted: Settings) -> list[File]:
    wanted_text = boot_script(wanted)
    return [] if had is not NOTHING and boot_script(had) == wanted_text else [File(BOOT_SCRIPT, wanted_text, 0o755)]


def _remove(paths: Sequence[str]) -> str:
    return f"rm -f -- {_words(paths)}\n" if paths else ""


def _write(files: Sequence[File]) -> Iterator[str]:
    """Folders, then contents under a umask that shows nobody a secret, then one ``chmod`` for each mode."""
    for folder in sorted({posixpath.dirname(file.path) for file in files}):
        yield f"[ -d {quote(folder)} ] || mkdir -p -- {quote(folder)}\n"
    if files:
        yield "umask 077\n"
    for file in files:
        yield f"printf '%s' {quote(file.content)} >{quote(file.path)}\n"
    if files:
        yield "umask 022\n"
    for mode in sorted({file.mode for file in files}):
        yield f"chmod {mode:o} -- {_words(file.path for file in files if file.mode == mode)}\n"


def _identity(had: Settings, wanted: Settings) -> str:
    if (had.hostname, had.machine_id) == (wanted.hostname, wanted.machine_id):
        return ""
    readers = [unit.name for unit in wanted.units if "/etc/hostname" in unit.watches]
    told = f"  {line}" if (line := _systemctl("try-restart", readers)) else ""
    return _IDENTITY.format(name=quote(wanted.hostname), machine_id=quote(wanted.machine_id), told=told)


def _units(had: Settings, wanted: Settings, touched: set[str]) -> Iterator[str]:
    names = {unit.name for unit in wanted.units}
    known = {unit.name for unit in had.units}
    yield _systemctl("stop", [unit.name for unit in had.units if unit.name not in names])
    if any(path.startswith("/etc/systemd/system/") for path in touched):
        yield "systemctl daemon-reload\n"
    reloaded = [unit for unit in wanted.units if touched.intersection(unit.watches)]
    yield _systemctl("reload-or-restart", _names(reloaded))
    yield _systemctl("start", _names(u for u in wanted.units if u.name not in known and u not in reloaded))


def _names(units: Iterable[Unit]) -> list[str]:
    return [unit.name for unit in units]


def _systemctl(verb: str, units: Sequence[str]) -> str:
    return f"systemctl {verb} -- {_words(units)}\n" if units else ""


def _record(wanted: Settings) -> str:
    beside = f"{SETTINGS_FILE}.new"
    keep = f"printf '%s' {quote(dump(wanted))} >{beside}\nmv -f {beside} {SETTINGS_FILE}\n"
    return f"{keep}echo {digest(wanted)} >{SETTLED_FILE}\n"


def _words(items: Iterable[str]) -> str:
    return " ".join(quote(item) for item in items)
