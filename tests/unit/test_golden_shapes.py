"""What a golden snapshot may be restored as: everything its memory depends on is in its name, and nothing that clones have of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.unit.guest_nodes import FRONT, TUNED, WEB1, nic
from vlab.engine.drivers import Drivers
from vlab.engine.golden import Shape, facts, shape
from vlab.engine.wanted import Shapes, targets, wanted
from vlab.hypervisors.connection import Hypervisors
from vlab.hypervisors.kind import kind
from vlab.images.artifact import Artifact
from vlab.images.recipe import Recipe, catalogue
from vlab.plan import NOTHING, Action, make
from vlab.state import Paths
from vlab.topology.addressing import complete
from vlab.topology.lab import Node
from vlab.topology.parse import Source, parse

IMAGES = Path("/state/images/web")


@dataclass(frozen=True)
class Stated(Drivers):
    """Drivers of a host without libvirt whose versions and recipes are given."""

    says: str = "libvirt 9000000, QEMU 7002000"
    recipes: Mapping[str, Recipe] = field(default_factory=catalogue)

    def versions(self, uri: str) -> str:
        return f"{uri} {self.says}"


DRIVERS = Stated(Paths(Path("/state")), Hypervisors())
WARM = replace(catalogue()["web"], warm="true")
NAMED = replace(catalogue()["web"], named=("nginx.service",))


def artifact(virt: str, digest: str = "e" * 64) -> Artifact:
    if kind(virt).form == "disk":
        return Artifact("web", "disk", digest, (), IMAGES / "disk.qcow2")
    return Artifact("web", "direct", digest, (), IMAGES / "disk.qcow2", IMAGES / "kernel", IMAGES / "initrd", "ro")


def of(node: Node = WEB1, drivers: Drivers = DRIVERS, *, accel: str = "tcg", boots: Artifact | None = None) -> Shape:
    return shape(drivers, node, accel, boots or artifact(node.virt))


@pytest.mark.parametrize(
    "change",
    [
        {"memory": 200 << 20},
        {"cpus": 2},
        {"virt": "emulated"},
        {"nics": ()},
        {"nics": (*WEB1.nics, nic(FRONT, 11))},
        {"nics": (replace(WEB1.nics[0], mtu=1400),)},
    ],
    ids=["memory", "cpus", "virt", "no-nic", "two-nics", "mtu"],
)
def test_other_hardware_is_another_golden(change: Mapping[str, object]) -> None:
    assert of(replace(WEB1, **change)).name != of().name  # type: ignore[arg-type]  # any field, on purpose


@pytest.mark.parametrize(
    "make",
    [
        lambda: of(boots=artifact("para", "f" * 64)),
        lambda: of(boots=replace(artifact("para"), cmdline="rw")),
        lambda: of(boots=replace(artifact("para"), kernel=IMAGES / "other")),
        lambda: of(accel="kvm"),
        lambda: of(drivers=replace(DRIVERS, says="libvirt 9000000, QEMU 8000000")),
        lambda: of(drivers=replace(DRIVERS, says="libvirt 9001000, QEMU 7002000")),
        lambda: of(drivers=replace(DRIVERS, recipes={**DRIVERS.recipes, "web": WARM})),
        lambda: of(drivers=replace(DRIVERS, recipes={**DRIVERS.recipes, "web": NAMED})),
    ],
    ids=["image", "cmdline", "kernel", "accelerator", "qemu", "libvirt", "warm", "named"],
)
def test_what_a_saved_machine_depends_on_is_another_golden(make: Callable[[], Shape]) -> None:
    assert make().name != of().name


@pytest.mark.parametrize(
    "change",
    [
        {"name": "db7", "group": "db"},
        {"uuid": "11111111-2222-4333-8444-555555555555", "machine_id": "b" * 32},
        {"cpu_shares": 512, "cpu_quota": 0.5},
        {"nics": (replace(WEB1.nics[0], mac="52:54:00:aa:bb:cc", device="vother", altname="db7.x", network="x"),)},
        {"nics": (replace(nic(FRONT, 77), mtu=WEB1.nics[0].mtu),)},
    ],
    ids=["names", "uuid", "weights", "mac", "address"],
)
def test_what_clones_have_of_their_own_is_not_in_a_golden(change: Mapping[str, object]) -> None:
    assert of(replace(WEB1, **change)) == of()  # type: ignore[arg-type]  # any field, on purpose


def test_the_stand_in_has_nothing_of_the_node_it_stands_for() -> None:
    stand_in = of(TUNED).node
    assert (stand_in.memory, stand_in.cpus, stand_in.virt) == (TUNED.memory, TUNED.cpus, TUNED.virt)
    assert {stand_in.name, stand_in.uuid, stand_in.machine_id}.isdisjoint({TUNED.name, TUNED.uuid, TUNED.machine_id})
    assert {n.mac for n in stand_in.nics}.isdisjoint(n.mac for n in TUNED.nics)
    assert len({n.device for n in stand_in.nics}) == len(TUNED.nics)
    assert all(len(n.device) <= 15 for n in stand_in.nics)
    assert (stand_in.cpu_shares, stand_in.cpu_quota) == (None, None)


def test_stand_ins_of_two_shapes_share_no_name_uuid_or_device() -> None:
    one, two = of().node, of(replace(WEB1, memory=200 << 20)).node
    assert one.name != two.name
    assert one.uuid != two.uuid
    assert one.nics[0].device != two.nics[0].device


def test_a_golden_says_what_it_is_of() -> None:
    said = facts(of(TUNED))
    assert said["image"] == "web"
    assert said["cpus"] == "2"
    assert said["memory"] == str(256 << 20)


def test_only_machines_have_shapes_and_none_when_cold() -> None:
    shapes = Shapes(DRIVERS, cold=False)
    assert shapes.of(WEB1, "tcg", artifact("para")) == of()
    assert shapes.of(replace(WEB1, name="web2"), "tcg", artifact("para")) is shapes.of(WEB1, "tcg", artifact("para"))
    assert shapes.of(replace(WEB1, virt="container"), "none", Artifact("web", "rootfs", "0")) is None
    assert Shapes(DRIVERS, cold=True).of(WEB1, "tcg", artifact("para")) is None


FILE = """\
vlab: 1
name: shop
networks: {net: {subnet: 10.9.0.0/24}}
groups:
  web: {count: 3, virt: para, image: web, networks: [net]}
  big: {virt: para, image: web, networks: [net], memory: 512 MiB}
  old: {virt: emulated, image: web, networks: [net]}
  box: {virt: container, image: web, networks: [net]}
"""


@pytest.mark.parametrize(("cold", "goldens"), [(False, 3), (True, 0)], ids=["warm", "cold"])
def test_a_whole_lab_has_one_golden_for_each_shape(cold: bool, goldens: int) -> None:  # noqa: FBT001 - a parameter of the test
    lab = complete(parse(Source("shop.yaml", FILE)))
    plan = make(wanted(lab, targets(DRIVERS, lab, "tcg", "", cold=cold), ()), NOTHING)
    started = {step.subject: step.action for step in plan.steps if step.action in (Action.BOOT, Action.RESTORE)}
    assert len([step for step in plan.steps if step.action is Action.ENSURE_GOLDEN]) == goldens
    assert started.pop("box1") is Action.BOOT
    assert set(started.values()) == {Action.BOOT if cold else Action.RESTORE}
    assert len(started) == 5
