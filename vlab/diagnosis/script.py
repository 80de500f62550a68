"""Pieces of sh that break and mend. Pure."""

from __future__ import annotations

from vlab.lvs.settings import KEEPALIVED_CONF
from vlab.topology.family import Address, endpoint

FORGET = "rm -f /etc/vlab/settings.json\n"
"""A guest without a record of its settings gets all of them again the next time it is settled."""


def write(key: str, value: str) -> str:
    """Set a sysctl, in slash form."""
    return f"echo {value} >/proc/sys/{key}\n"


def rebuild(vip: Address, port: int) -> str:
    """The director's table made anew by keepalived, and 10 s at most for the service to be in it; it may have gone from the file meanwhile."""
    return (
        "systemctl restart keepalived.service\n"
        f"tries=0; until ipvsadm -Ln | grep -qF ' {endpoint(vip, port)} '; do\n"
        'tries=$((tries + 1)); [ "$tries" -lt 100 ] || break; sleep 0.1\ndone\n'
    )


def edit(expression: str, *, reload: bool) -> str:
    """keepalived.conf changed by sed, which must hit something; then, or not, read again by keepalived."""
    return (
        f"before=$(cksum <{KEEPALIVED_CONF})\nsed -i '{expression}' {KEEPALIVED_CONF}\n"
        f'[ "$before" != "$(cksum <{KEEPALIVED_CONF})" ] || {{ echo "nothing to change in {KEEPALIVED_CONF}" >&2; exit 1; }}\n'
        + ("systemctl reload keepalived.service\n" if reload else "")
    )
