"""May this lab start on this host, with which accelerator, and how many guests at once? Decided before anything starts."""

from __future__ import annotations

import os

from vlab.engine.drivers import Drivers
from vlab.errors import HostError
from vlab.events import Event, Sink, silent
from vlab.host import accel as host_accel
from vlab.host import memory, probes
from vlab.hypervisors.kind import kind
from vlab.images import build
from vlab.lvs.modes import mode
from vlab.plan import Observed
from vlab.topology.lab import Lab

NOT_ASKED = host_accel.Accel("tcg", "no guest of this lab asks for KVM")
CONTAINERS_AT_ONCE = 4


def refuse(lab: Lab, observed: Observed) -> None:
    """Raise ``HostError``, by name, for what this host cannot do; before anything is made."""
    lacks = [*_missing_features(lab), *_memory(lab, observed)]
    if lacks:
        raise HostError(
            f"lab {lab.name} cannot run on this host", details=lacks, hint="vlab doctor says what this host can do"
        )


def _missing_features(lab: Lab) -> list[str]:
    virt_of = {node.name: node.virt for node in lab.nodes}
    return [
        f"service {service.name}: mode {service.mode} needs the host kernel's {feature} for real server {server.node} ({virt_of[server.node]})"
        for service in lab.services
        for server in service.real_servers
        for feature in mode(service.mode).host_features(service)
        if kind(virt_of[server.node]).shares_host_kernel and not probes.kernel_has(feature)
    ]


def _memory(lab: Lab, observed: Observed) -> list[str]:
    """Guests that run already have their memory; the others need theirs."""
    needed = [kind(node.virt).cost(node) for node in lab.nodes if node.name not in observed.domains]
    return memory.refuse(needed)


def accelerator(drivers: Drivers, lab: Lab, sink: Sink = silent) -> host_accel.Accel:
    """What guests that want KVM get. Boots the lab's kernel under KVM once per host boot, kernel and QEMU."""
    if lab.accel == "tcg":
        return host_accel.Accel("tcg", "the topology says accel: tcg")
    if not any(kind(node.virt).wants_kvm for node in lab.nodes):
        return NOT_ASKED
    answer = host_accel.without_booting(drivers.paths.root) or _tried(drivers, lab, sink)
    if lab.accel == "kvm" and answer.name != "kvm":
        raise HostError(
            "the topology says accel: kvm, and KVM does not work here",
            details=[answer.why],
            hint="accel: auto runs under TCG instead",
        )
    return answer


def _tried(drivers: Drivers, lab: Lab, sink: Sink) -> host_accel.Accel:
    """Boot the kernel of the first guest that wants KVM, under KVM."""
    node = next(node for node in lab.nodes if kind(node.virt).wants_kvm)
    form = kind(node.virt).form
    build.build(drivers.recipes[node.image], form, drivers.store, sink)
    kernel = drivers.store.kernel(form)
    assert kernel is not None, "what wants KVM boots a kernel"
    sink(Event("accelerator", "started", "does KVM really work here?"))
    answer = host_accel.accelerator(kernel / "kernel", kernel / "initrd", drivers.paths.root)
    sink(Event("accelerator", "done", answer.why))
    return answer


def guess(drivers: Drivers, lab: Lab) -> str:
    """The accelerator for a preview: the cached answer, TCG where nobody has tried yet."""
    known = host_accel.without_booting(drivers.paths.root)
    return "tcg" if lab.accel == "tcg" or known is None else known.name


def limits(accel: str) -> dict[str, int]:
    """Boots at once. Under TCG a booting guest fills a core, and more boots than cores make the whole lab slower (design §10);
    under KVM boots wait for disks more than for cores."""
    cores = os.cpu_count() or 1
    return {"vm": cores if accel == "tcg" else 4 * cores, "container": max(CONTAINERS_AT_ONCE, cores)}
