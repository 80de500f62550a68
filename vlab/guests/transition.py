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
from dataclasses import fields, replace
from functools import lru_cache
from shlex import quote
from typing import Any

from vlab.guests import network_script, table_script
from vlab.guests.settings import File, Settings, Unit
from vlab.plain import from_plain, to_plain

SETTINGS_FILE = "/etc/vlab/settings.json"
SETTLED_FILE = "/run/vlab-settled"
"""Digest of the settings that took effect in this boot; written last, so it is the proof that all of them did."""
BOOT_SCRIPT = "/etc/vlab/apply.sh"
_DEFINITIONS = "/etc/systemd/system/"

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

# What systemctl would do, in words of the shell: systemctl itself takes an emulated CPU half a second. The file of a program that is gone may
# have the number of another.
_HANGUP = """\
if {{ read -r pid <{file} && read -r program <"/proc/$pid/comm"; }} 2>/dev/null && [ "$program" = {program} ]; then
  kill -HUP "$pid"
else
  {reload}fi
"""


def script(found: Settings | None, wanted: Settings, *, extra: Sequence[File] = ()) -> str:
    """The script that brings a guest from ``found`` (None: nothing set yet) to ``wanted``.

    ``extra`` files are written too but not recorded: SSH host keys at the first configuration. It exits non-zero at the
    first thing that fails, with that command's words on stderr. Raises ``ValueError`` for a device name that cannot be one.
    """
    had = found or NOTHING
    changed = [file for file in wanted.files if file not in had.files]
    gone = sorted({file.path for file in had.files} - {file.path for file in wanted.files})
    touched = {*gone, *(file.path for file in changed)}
    defining = [path for path in gone if path.startswith(_DEFINITIONS)]
    body = [
        network_script.change(had, wanted),
        _remove(defining),
        *_write([*changed, *extra, *_boot_file(had, wanted)], had.files),
        _identity(had, wanted),
        *_units(had, wanted, touched),
        _remove([path for path in gone if path not in defining]),  # now that nobody reads them any more
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
        File(BOOT_SCRIPT, boot_script(wanted)),
        File(SETTINGS_FILE, dump(wanted)),
    )
    return (*wanted.files, *extra, *own)


def digest(settings: Settings) -> str:
    """SHA-256 of the settings; the reasons do not count."""
    brief = replace(settings, files=tuple(_brief(file) for file in settings.files))
    told = "\0".join(_told(getattr(brief, field.name)) for field in fields(brief))
    return hashlib.sha256(told.encode()).hexdigest()


# Both are kept, because thousands of nodes have equal items and files: items compare without their reasons, as digests do, and
# /etc/hosts, which all nodes share, is as long as the lab is large.


@lru_cache(maxsize=64)
def _brief(file: File) -> File:
    """The file with the SHA-256 of its content instead of it."""
    return replace(file, content=hashlib.sha256(file.content.encode()).hexdigest())


@lru_cache(maxsize=256)
def _told(value: object) -> str:
    """One field of the settings as JSON text, without reasons."""
    return json.dumps(_without_reasons(to_plain(value)), sort_keys=True)


def dump(settings: Settings) -> str:
    """The settings as JSON text without their reasons, for ``load``: every byte of it passes through an emulated serial port."""
    return json.dumps(_without_reasons(to_plain(settings)), separators=(",", ":")) + "\n"


def load(text: str) -> Settings:
    """What ``dump`` wrote. Raises ``ValueError``, ``TypeError`` or ``KeyError`` for anything else."""
    return from_plain(Settings, json.loads(text))


def _without_reasons(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _without_reasons(value) for key, value in plain.items() if key != "why"}
    return [_without_reasons(item) for item in plain] if isinstance(plain, list) else plain


def _boot_file(had: Settings, wanted: Settings) -> list[File]:
    wanted_text = boot_script(wanted)
    return [] if had is not NOTHING and boot_script(had) == wanted_text else [File(BOOT_SCRIPT, wanted_text)]


def _remove(paths: Sequence[str]) -> str:
    return f"rm -f -- {_words(paths)}\n" if paths else ""


def _write(files: Sequence[File], had: Sequence[File]) -> Iterator[str]:
    """Folders, then contents under a umask that shows nobody a secret. A process is needed only for modes that no umask gives, and where a
    file was there with another mode."""
    for folder in sorted({posixpath.dirname(file.path) for file in files}):
        yield f"[ -d {quote(folder)} ] || mkdir -p -- {quote(folder)}\n"
    modes = {file.path: file.mode for file in had}
    for file in files:
        yield from _written(file, modes.get(file.path, file.mode))
    if any(file.mode == _SECRET for file in files):
        yield "umask 022\n"


_SECRET, _PLAIN = 0o600, 0o644


def _written(file: File, mode: int) -> Iterator[str]:
    path, chmod = quote(file.path), f"chmod {file.mode:o} -- {quote(file.path)}\n"
    if file.mode == _SECRET:
        yield f"umask 077\n[ ! -e {path} ] || {chmod}"
        yield f"printf '%s' {quote(file.content)} >{path}\n"
    else:
        yield f"umask 022\nprintf '%s' {quote(file.content)} >{path}\n"
        if file.mode != _PLAIN or mode != file.mode:
            yield chmod


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
    if any(path.startswith(_DEFINITIONS) for path in touched):
        yield "systemctl daemon-reload\n"
    redefined = [unit for unit in wanted.units if any(path.startswith(_definition(unit)) for path in touched)]
    reloaded = [unit for unit in wanted.units if touched.intersection(unit.watches) and unit not in redefined]
    yield _systemctl("restart", _names(redefined))
    if reloaded:  # keepalived (2.2.7: SO_LINGER in layer4.c) would close each health check under way for 5 s before it reads its file
        yield network_script.abandon(had, wanted)
    yield from (_told_anew(unit.name, had, wanted) for unit in reloaded)
    told = [*redefined, *reloaded]
    yield _systemctl("start", _names(u for u in wanted.units if u.name not in known and u not in told))


def _told_anew(unit: str, had: Settings, wanted: Settings) -> str:
    if unit != table_script.UNIT:
        return _hangup(unit)
    before, after = table_script.before(had, wanted), table_script.after(had, wanted)
    return f"{before}{_hangup(unit, table_script.NOBODY if after else '')}{after}"


def _hangup(unit: str, otherwise: str = "") -> str:
    """``otherwise`` is sh that is run too where the program cannot be told."""
    program = unit.partition(".")[0]
    reload = f"{otherwise}{_systemctl('reload-or-restart', [unit])}"
    return _HANGUP.format(file=quote(f"/run/{program}.pid"), program=quote(program), reload=reload)


def _definition(unit: Unit) -> str:
    """What the paths of a unit's own file and of its drop-ins begin with: a running unit takes these up only by a restart."""
    return f"{_DEFINITIONS}{unit.name}"


def _names(units: Iterable[Unit]) -> list[str]:
    return [unit.name for unit in units]


def _systemctl(verb: str, units: Sequence[str]) -> str:
    return f"systemctl {verb} -- {_words(units)}\n" if units else ""


def _record(wanted: Settings) -> str:
    return f"printf '%s' {quote(dump(wanted))} >{SETTINGS_FILE}\necho {digest(wanted)} >{SETTLED_FILE}\n"


def _words(items: Iterable[str]) -> str:
    return " ".join(quote(item) for item in items)
