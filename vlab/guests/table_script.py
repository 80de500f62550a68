"""What keepalived leaves undone in ip_vs' table when it reads a changed file, as sh text. Pure; ``transition`` puts it around the signal.

Of a real server that it knew before it compares the way of forwarding and the weight, not the thresholds, and puts one whose way is another
into the table even if it is down: clear_diff_rs in ipwrapper.c, and ipvs_talk in ipvswrapper.c turns a change of what is not there into an
addition. Of a sorry server it compares the address only (clear_diff_s_srv). So in 2.2.7 and in the master branch of August 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vlab.guests.settings import Entry, Settings

UNIT = "keepalived.service"

PATIENCE = 10
"""Seconds that keepalived may take to read its file again."""

# ipvsadm goes on behind a line that fails, as does one about a server that is not in the table.
_EDIT = "ipvsadm -R 2>/dev/null <<'END' || :\n{lines}END\n"

_LOOK = """\
table=$(ipvsadm -Sn) absent=
while read -r way place; do
case $table in
*"-a $place "*) ;;
*) absent="$absent$way $place
" ;;
esac
done <<'END'
{lines}END
"""

# keepalived begins its checks a second after it has read its file (BOOTSTRAP_DELAY in check_api.c), so whoever is in the table sooner and
# in the new way was put there without one. Whoever is there in the old way has come up meanwhile.
_REMOVE = """\
read -r now rest </proc/uptime
end=$((${{now%.*}} + {patience}))
while [ -n "$absent" ] && [ "${{now%.*}}" -lt "$end" ]; do
table=$(ipvsadm -Sn) left=
while read -r way place; do
case $table in
*"-a $place $way "*) set -f; ipvsadm -d $place || :; set +f ;;
*"-a $place "*) ;;
*) [ -z "$place" ] || left="$left$way $place
" ;;
esac
done <<END
$absent
END
absent=$left
read -r now rest </proc/uptime
done
"""

NOBODY = "absent=\n"
"""Where keepalived is not told to read its file again but started: it checks everybody anew."""


def before(had: Settings, wanted: Settings) -> str:
    """What comes before the signal: new thresholds and another way for a sorry server, and a note of who is absent. Raises ``ValueError`` for
    an entry that cannot be one."""
    lines = "".join(f"{_plain(line)}\n" for line in _edits(had, wanted))
    redirected = "".join(f"{_plain(f'{entry.way[:2]} {entry.place}')}\n" for entry in _redirected(had, wanted))
    return (_EDIT.format(lines=lines) if lines else "") + (_LOOK.format(lines=redirected) if redirected else "")


def after(had: Settings, wanted: Settings) -> str:
    """What comes after it: those who were absent leave the table again."""
    return _REMOVE.format(patience=PATIENCE) if _redirected(had, wanted) else ""


def _edits(had: Settings, wanted: Settings) -> Iterator[str]:
    for old, new in _met(had, wanted):
        if (old.upper, old.lower) != (new.upper, new.lower) or (new.spare and old.way != new.way):
            yield f"-e {new.place} {new.way} -w {new.weight:d} -x {new.upper:d} -y {new.lower:d}"


def _redirected(had: Settings, wanted: Settings) -> Sequence[Entry]:
    return [new for old, new in _met(had, wanted) if old.way != new.way and not new.spare]


def _met(had: Settings, wanted: Settings) -> Iterator[tuple[Entry, Entry]]:
    """What was at a place in the table, and is to be there."""
    places = {(entry.place, entry.spare): entry for entry in had.entries}
    found = ((places.get((entry.place, entry.spare)), entry) for entry in wanted.entries)
    return ((old, new) for old, new in found if old is not None and old != new)


def _plain(line: str) -> str:
    """A line that is safe where there is no quoting to rely on."""
    if not re.fullmatch(r"[A-Za-z0-9.:\[\] -]+", line):
        raise ValueError(f"«{line}» cannot be a line for ipvsadm")
    return line
