"""What ``up`` would do. Touches nothing, and imports nothing that does."""

from __future__ import annotations

from vlab import plan
from vlab.engine.drivers import Drivers
from vlab.engine.observe import observe
from vlab.engine.wanted import targets, wanted
from vlab.errors import HostError
from vlab.guests import keys
from vlab.host import accel
from vlab.plan import Plan
from vlab.topology.lab import Lab


def preview(drivers: Drivers, lab: Lab) -> Plan:
    """The plan of ``up`` without touching anything; without libvirt or privileges everything counts as absent."""
    try:
        observed = observe(drivers, lab.name)
    except HostError:
        observed = plan.NOTHING
    made = targets(drivers, lab, guess(drivers, lab), keys.known_public_key(drivers.paths.root))
    return plan.make(wanted(lab, made, observed.domains), observed)


def guess(drivers: Drivers, lab: Lab) -> str:
    """The accelerator of those who want KVM: the cached answer, TCG where nobody has tried yet."""
    known = accel.without_booting(drivers.paths.root)
    return "tcg" if lab.accel == "tcg" or known is None else known.name
