"""Overlay options and mount tables, as text."""

from __future__ import annotations

from pathlib import Path

from vlab.host.mounts import Mount, overlay_options, parse_mountinfo

TABLE = r"""43 42 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
97 43 0:52 / /run/netns rw - tmpfs tmpfs rw
620 43 0:71 / /var/lib/vlab/labs/a\040b/clones/web1/root rw,relatime shared:12 master:3 - overlay vlab-0123456789ab rw,lowerdir=/x
621 43 0:72 / /odd\134name rw - overlay overlay\040two rw
"""


def test_layers_come_topmost_first_and_are_escaped() -> None:
    options = overlay_options([Path("/img/web:1"), Path("/img/base,\\x")], Path("/c/a,b:c/upper"), Path("/c/work"))
    assert options == r"lowerdir=/img/web\:1:/img/base\,\\x,upperdir=/c/a\,b:c/upper,workdir=/c/work"


def test_mountinfo_gives_targets_as_paths() -> None:
    table = parse_mountinfo(TABLE)
    assert table[0] == Mount(Path("/"), "ext4", "/dev/vda")
    assert table[2] == Mount(Path("/var/lib/vlab/labs/a b/clones/web1/root"), "overlay", "vlab-0123456789ab")
    assert table[3] == Mount(Path("/odd\\name"), "overlay", "overlay two")
