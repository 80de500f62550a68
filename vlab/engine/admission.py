"""May this lab start on this host, and with which accelerator? Decided before anything starts; ``room`` says how many guests at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vlab.engine.drivers import Drivers
from vlab.errors import HostError
from vlab.events import Event, Sink, silent
from vlab.host import accel as host_accel
from vlab.host import inotify, memory, probes
from vlab.host.kernel import has_ipv6
from vlab.hypervisors.kind import kind
from vlab.images import build
from vlab.lvs.modes import mode
from vlab.plan import Observed
from vlab.topology.lab import Lab

NOT_ASKED = host_accel.Accel("tcg", "no guest of this lab asks for KVM")


def refuse(lab: Lab, observed: Observed) -> None:
    """Raise ``HostError``, by name, for what this host cannot do; before anything is made."""
    lacks = [
        *_missing_ipv6(lab),
        *_missing_features(lab),
        *_memory(lab, observed),
        *inotify.refuse(_containers(lab, observed.domains)),
    ]
    if lacks:
        raise HostError(
            f"lab {lab.name} cannot run on this host", details=lacks, hint="vlab doctor says what this host can do"
        )


def refuse_together(labs: Sequence[Lab], running: Collection[str]) -> None:
    """As ``refuse``, for labs that are to be started side by side; those whose names are ``running`` have their memory already."""
    needed = [kind(node.virt).cost(node) for lab in labs if lab.name not in running for node in lab.nodes]
    containers = sum(_containers(lab, ()) for lab in labs if lab.name not in running)
    if lacks := [*memory.refuse(needed), *inotify.refuse(containers)]:
        raise HostError(
            f"{len(labs)} labs do not fit on this host",
            details=lacks,
            hint="or start fewer copies",
        )


def _containers(lab: Lab, running: Collection[str]) -> int:
    """How many of the lab's guests that do not run yet share the host's kernel."""
    return sum(kind(node.virt).shares_host_kernel for node in lab.nodes if node.name not in running)


def _missing_ipv6(lab: Lab) -> list[str]:
    """The lab's own address on the network is the host kernel's, and so are those of containers."""
    lacking = [] if has_ipv6() else [network for network in lab.networks if network.subnet6]
    return [
        f"network {it.name}: subnet6 {it.subnet6} needs IPv6 in the host's kernel, which has none (/proc/sys/net/ipv6 is missing)"
        for it in lacking
    ]


def _missing_features(lab: Lab) -> list[str]:
    virt_of = {node.name: node.virt for node in lab.nodes}
    return [
        f"service {service.name}: mode {service.mode} needs the host kernel's {feature} for real server {server.node} ({virt_of[server.node]})"
        for service in lab.services
        for server in service.servers
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
