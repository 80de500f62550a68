"""Which labs there are. Reads, never changes."""

from __future__ import annotations

from vlab.engine.drivers import Drivers
from vlab.host import internet
from vlab.host.namespace import PREFIX, half_made, namespaces
from vlab.hypervisors.mark import STAND_IN
from vlab.state import labs_on_disk


def lab_names(drivers: Drivers) -> list[str]:
    """Every lab of which anything exists: a domain, a namespace, an uplink or a folder."""
    found = drivers.hypervisors.labs() - {STAND_IN}
    found |= {name.removeprefix(PREFIX) for name in (*namespaces(), *half_made())}
    return sorted(found | set(labs_on_disk(drivers.paths)) | set(internet.running()))
