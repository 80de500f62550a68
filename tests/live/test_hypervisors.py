"""The virt kinds, libvirt and the channels on real guests: two containers, a para VM and an emulated one, on one bridge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from uuid import NAMESPACE_DNS, uuid5

import pytest

from tests.live.harness import host, root_links, vlab
from vlab import state
from vlab.errors import ConflictError, GuestError, HostError, HypervisorError, WaitError
from vlab.events import silent
from vlab.guests import transition
from vlab.guests.base import Channel
from vlab.guests.settings import Address, Link, Settings, Sysctl
from vlab.host import links
from vlab.host.mounts import Mounts
from vlab.hypervisors import cgroups, xml
from vlab.hypervisors.connection import URIS, Hypervisors
from vlab.hypervisors.kind import kind
from vlab.hypervisors.mark import NAMESPACE, PREFIX, Domain, Mark
from vlab.images import build, clone
from vlab.images.artifact import Clone
from vlab.images.recipe import catalogue
from vlab.images.store import Store
from vlab.topology.lab import Lab, Network, Nic, Node

NAME = "t-hv"
NET = Network(
    "net", IPv4Network("10.77.0.0/24"), 1500, internet=False, gateway=IPv4Address("10.77.0.254"), bridge="vlabthv"
)


def node(name: str, virt: str, image: str, number: int) -> Node:
    uuid = uuid5(NAMESPACE_DNS, f"{name}.{NAME}")
    nic = Nic(
        "net",
        f"52:54:00:77:00:{number:02x}",
        IPv4Interface(f"10.77.0.{number}/24"),
        1500,
        f"vlabthv{number}",
        f"{name}.net",
    )
    return Node(name, name.rstrip("0123456789"), virt, image, 256 << 20, 1, None, None, str(uuid), uuid.hex, (nic,))


SMALL = replace(node("small1", "container", "web", 11), memory=64 << 20, cpu_quota=0.2)
NODES = (
    SMALL,
    node("web1", "container", "web", 12),
    node("para1", "para", "director", 13),
    node("emu1", "emulated", "director", 14),
)
LAB = Lab(NAME, NAME, (NET,), NODES, (), ())
EVERY = [node.name for node in NODES]


@dataclass(frozen=True)
class Started:
    """The lab with its guests up, and seconds from a domain's start to its first answer."""

    hypervisors: Hypervisors
    domains: dict[str, Domain]
    ready: dict[str, float]

    def channel(self, name: str) -> Channel:
        return kind(self.domains[name].mark.node.virt).channel(self.domains[name], self.hypervisors)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    hypervisors, mounts = Hypervisors(), Mounts()
    folder = Path(tmp_path_factory.mktemp("hypervisors"))
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)  # QEMU runs as libvirt's own user
    links.create_namespace(LAB.namespace)
    links.ensure_bridge(LAB.namespace, NAME, NET)
    try:
        with ThreadPoolExecutor() as pool:
            made = list(pool.map(lambda n: (n.name, *start(hypervisors, mounts, n, folder / n.name)), NODES))
        yield Started(hypervisors, {name: d for name, d, _ in made}, {name: seconds for name, _, seconds in made})
    finally:
        for domain in hypervisors.domains(NAME):
            hypervisors.destroy(domain)
        for item in NODES:
            clone.remove(folder / item.name, mounts)
        links.delete_namespace(LAB.namespace)


def start(hypervisors: Hypervisors, mounts: Mounts, node: Node, folder: Path) -> tuple[Domain, float]:
    virt, store = kind(node.virt), Store(state.paths().images)
    artifact = build.build(catalogue()[node.image], virt.form, store, silent)
    made = clone.make(artifact, folder, mounts)
    began = time.monotonic()
    domain = hypervisors.start(virt.uri, marked(node, made, folder, artifact.digest))
    nic = node.nics[0]
    links.adopt_all(LAB.namespace, [links.Port(nic.device, nic.altname, NET.bridge, nic.mtu, NAME)])
    virt.channel(domain, hypervisors).wait(240)
    return domain, time.monotonic() - began


def marked(node: Node, made: Clone, folder: Path, boot: str = "") -> str:
    virt = kind(node.virt)
    element = virt.domain(LAB, node, made, virt.accelerator("tcg"), folder)
    return xml.marked(element, Mark(NAME, NAME, node, virt.accelerator("tcg"), xml.digest(element, boot)))


def test_what_was_started_is_found_by_its_marks(lab: Started) -> None:
    found = {domain.mark.node.name: domain for domain in lab.hypervisors.domains(NAME)}
    assert found == lab.domains
    assert {domain.state for domain in found.values()} == {"running"}
    assert all(domain.pid and Path(f"/proc/{domain.pid}").exists() for domain in found.values())
    assert lab.hypervisors.domains("no-such-lab") == []


def test_a_container_answers_within_seconds(lab: Started) -> None:
    assert lab.ready["web1"] < 10


def test_a_mark_can_be_replaced_while_the_guest_runs(lab: Started) -> None:
    for name in ("web1", "para1"):
        mark = replace(lab.domains[name].mark, settings="s" * 64)
        lab.hypervisors.mark(lab.domains[name], mark)
        (found,) = [d for d in lab.hypervisors.domains(NAME) if d.mark.node.name == name]
        assert found.mark == mark
        lab.hypervisors.mark(lab.domains[name], lab.domains[name].mark)


def test_a_mark_of_another_version_is_in_the_way_of_its_own_lab_only(lab: Started) -> None:
    domain = lab.domains["small1"]
    mark = ["virsh", "-q", "-c", domain.uri, "metadata", domain.name, NAMESPACE, "--live", "--key", PREFIX, "--set"]
    host(*mark, f"<mark lab='{NAME}'><something>new</something></mark>")
    try:
        assert NAME in lab.hypervisors.labs()
        assert lab.hypervisors.domains("another") == []
        with pytest.raises(ConflictError, match=f"{domain.name} carries a mark"):
            lab.hypervisors.domains(NAME)
        listed = vlab("ls", "-o", "json")
        assert {each["lab"]: each["state"] for each in listed.json()}[NAME] == "unreadable"
        assert f"vlab down {NAME} removes" in listed.err
        left = vlab("audit", "-o", "json", check=False)
        assert {"kind": "unreadable lab", "name": NAME, "lab": NAME, "fix": f"vlab down {NAME}"} in left.json()
        assert left.code == 1
    finally:
        lab.hypervisors.mark(domain, domain.mark)
    assert domain in lab.hypervisors.domains(NAME)


@pytest.mark.parametrize("name", EVERY)
def test_run_gives_code_and_streams(lab: Started, name: str) -> None:
    result = lab.channel(name).run(["sh", "-c", "cat; echo no >&2; exit 3"], input=b"\0bin")
    assert (result.code, result.stdout, result.stderr) == (3, b"\0bin", b"no\n")
    assert lab.channel(name).run(["/no/such/program"]).code == 127
    assert lab.channel(name).run(["sh", "-c", "kill -9 $$"]).code == 137
    assert "HISTFILE" not in lab.channel(name).run(["env"]).text


@pytest.mark.parametrize("name", ["web1", "para1"])
def test_a_command_over_its_time_is_stopped(lab: Started, name: str) -> None:
    with pytest.raises(WaitError, match=name):
        lab.channel(name).run(["sleep", "4321"], timeout=1)
    time.sleep(0.5)
    assert "4321" not in lab.channel(name).run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).text.replace(
        "tr", ""
    )


@pytest.mark.parametrize("name", EVERY)
def test_files_come_and_go(lab: Started, name: str) -> None:
    channel, content = lab.channel(name), bytes(range(256)) * 800
    channel.put("/tmp/new/it's a file", content, mode=0o640)
    assert channel.get("/tmp/new/it's a file") == content
    assert channel.run(["stat", "-c", "%a %s", "/tmp/new/it's a file"]).text == f"640 {len(content)}\n"
    with pytest.raises(GuestError, match="cannot read"):
        channel.get("/no/such")


def test_a_link_in_a_container_does_not_reach_the_host(lab: Started, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's")
    lab.channel("web1").run(["ln", "-sf", str(tmp_path), "/tmp/way-out"])
    with pytest.raises(GuestError):
        lab.channel("web1").get("/tmp/way-out/secret")
    lab.channel("web1").run(["mkdir", "-p", str(tmp_path)])
    lab.channel("web1").put("/tmp/way-out/secret", b"the guest's")
    assert secret.read_text() == "the host's"


def test_an_answer_that_libvirt_cannot_carry_is_explained(lab: Started) -> None:
    with pytest.raises(GuestError, match="4 MiB"):
        lab.channel("para1").run(["head", "-c", "3500000", "/dev/zero"])
    assert lab.channel("para1").run(["true"]).code == 0


def test_settings_make_every_kind_reach_every_other(lab: Started) -> None:
    for item in NODES:
        nic = item.nics[0]
        settings = Settings(
            item.name, item.machine_id, (Link("eth0", nic.mac, 1500),), addresses=(Address("eth0", nic.address),),
            sysctls=(Sysctl("net/ipv4/conf/all/arp_ignore", "1", "0"), Sysctl("net/ipv4/conf/eth0/rp_filter", "0", "0")),
        )  # fmt: skip
        script = transition.script(None, settings).encode()
        result = lab.channel(item.name).run(["sh", "-s"], input=script)
        assert result.code == 0, f"{item.name}: {result.error_text}"
        assert transition.load(lab.channel(item.name).get(transition.SETTINGS_FILE).decode()) == settings
        assert lab.channel(item.name).run(["hostname"]).text == f"{item.name}\n"
    for one in ("web1", "para1"):
        for other in (item for item in NODES if item.name != one):
            assert answers(lab.channel(one), str(other.nics[0].address.ip)), f"{one} → {other.name}"


def answers(channel: Channel, address: str) -> bool:
    """Does the neighbour answer ARP? Every image has ip, not every one ping."""
    probe = f"exec 3<>/dev/udp/{address}/9; echo >&3; sleep 0.5; ip neigh show {address}"
    return "lladdr" in channel.run(["bash", "-c", probe]).text


def test_nothing_of_the_lab_is_in_the_hosts_own_namespace(lab: Started) -> None:
    assert lab.domains
    assert not [link for link in root_links() if "thv" in link]
    assert "vlabthv" not in host("ip", "-br", "link")


def test_a_container_gets_no_more_than_its_memory_and_processor(lab: Started) -> None:
    channel = lab.channel("small1")
    channel.put("/run/systemd/system/burn.service", b"[Service]\nExecStart=/bin/sh -c 'while :; do :; done'\n")
    channel.put(
        "/run/systemd/system/eat.service", b"[Service]\nExecStart=/bin/sh -c 'head -c 200M /dev/zero | tail -c 200M'\n"
    )
    channel.run(["systemctl", "daemon-reload"])
    channel.run(["systemctl", "start", "--no-block", "burn"])
    before, began = lab.hypervisors.statistics(lab.domains["small1"]), time.monotonic()
    time.sleep(3)
    after, ended = lab.hypervisors.statistics(lab.domains["small1"]), time.monotonic()
    used = (after.cpu_seconds - before.cpu_seconds) / (ended - began)
    assert 0.1 < used < 0.3
    channel.run(["systemctl", "stop", "burn"])
    channel.run(["systemctl", "start", "--no-block", "eat"])
    eventually_says(lambda: channel.run(["systemctl", "show", "-p", "ActiveState", "eat"]).text, "ActiveState=failed")
    limit = Path(f"/sys/fs/cgroup/memory{group_of(lab.domains['small1'])}/memory.max_usage_in_bytes")
    assert not limit.exists() or int(limit.read_text()) <= SMALL.memory


def test_a_container_is_alone_in_its_control_groups(lab: Started) -> None:
    """Containers that share /system.slice of the host stop each other's units, and leave the group that limits them."""
    lab.channel("small1").run(["systemctl", "stop", "nginx"])
    assert lab.channel("web1").run(["systemctl", "is-active", "nginx"]).text == "active\n"
    lab.channel("small1").run(["systemctl", "start", "nginx"])
    assert "Input/output error" not in lab.channel("small1").run(["journalctl", "--no-pager", "-b"]).text
    paths = [line.split(":", 2)[2] for line in Path(f"/proc/{lab.domains['web1'].pid}/cgroup").read_text().splitlines()]
    assert "/init.scope" not in paths


def group_of(domain: Domain) -> str:
    parent = Path(f"/proc/{domain.pid}/stat").read_text().rpartition(")")[2].split()[1]
    return cgroups.of_container(int(parent))


def eventually_says(look: Callable[[], str], wanted: str) -> None:
    deadline = time.monotonic() + 30
    while wanted not in (seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.3)


def test_a_name_that_is_taken_is_a_conflict(lab: Started, tmp_path: Path) -> None:
    item = NODES[1]
    made = Clone(build.build(catalogue()["web"], "rootfs", Store(state.paths().images), silent), root=tmp_path)
    with pytest.raises(ConflictError, match="there already"):
        lab.hypervisors.start("lxc:///system", marked(item, made, tmp_path))


def test_a_foreign_domain_with_our_name_is_never_touched(lab: Started, tmp_path: Path) -> None:
    foreign = "vlab-t-hv.foreign1"
    definition = tmp_path / "foreign.xml"
    definition.write_text(
        f"<domain type='qemu'><name>{foreign}</name><memory unit='MiB'>32</memory><os><type>hvm</type></os></domain>"
    )
    host("virsh", "-c", "qemu:///system", "define", str(definition))
    try:
        assert lab.hypervisors.unmarked([foreign, "vlab-t-hv.web1"]) == [foreign]
        item = replace(NODES[2], name="foreign1", uuid=str(uuid5(NAMESPACE_DNS, foreign)))
        artifact = build.build(catalogue()["director"], "direct", Store(state.paths().images), silent)
        with pytest.raises(ConflictError, match="not vlab's"):
            lab.hypervisors.start("qemu:///system", marked(item, clone.planned(artifact, tmp_path), tmp_path))
        assert foreign in host("virsh", "-c", "qemu:///system", "list", "--all", "--name")
    finally:
        host("virsh", "-c", "qemu:///system", "undefine", foreign)


def test_a_missing_driver_does_not_stop_the_others(lab: Started) -> None:
    half = Hypervisors((URIS[0], "nosuchdriver:///system"))
    assert {d.mark.node.name for d in half.domains(NAME)} == {"para1", "emu1"}
    assert list(half.unreachable) == ["nosuchdriver:///system"]
    with pytest.raises(HostError, match="does not answer"):
        Hypervisors(("nosuchdriver:///system",)).domains()
    assert lab.hypervisors.unreachable == {}


def test_what_cannot_start_says_why_and_leaves_nothing(lab: Started, tmp_path: Path) -> None:
    item = replace(NODES[1], name="broken1", uuid=str(uuid5(NAMESPACE_DNS, "broken")), nics=())
    made = Clone(
        build.build(catalogue()["web"], "rootfs", Store(state.paths().images), silent), root=tmp_path / "missing"
    )
    with pytest.raises(HypervisorError, match=r"cannot start vlab-t-hv\.broken1"):
        lab.hypervisors.start("lxc:///system", marked(item, made, tmp_path))
    assert "broken1" not in {d.mark.node.name for d in lab.hypervisors.domains(NAME)}


def test_what_is_destroyed_is_gone_and_may_be_destroyed_again(lab: Started) -> None:
    """Last: takes two guests away."""
    for name in ("small1", "emu1"):
        domain, channel = lab.domains[name], lab.channel(name)
        group = group_of(domain) if name == "small1" else ""
        began = time.monotonic()
        lab.hypervisors.destroy(domain)
        assert time.monotonic() - began < 5
        lab.hypervisors.destroy(domain)
        assert name not in {d.mark.node.name for d in lab.hypervisors.domains(NAME)}
        with pytest.raises((GuestError, HypervisorError), match="does not run any more"):
            channel.run(["true"])
        assert not group or not list(Path("/sys/fs/cgroup").glob(f"*{group}"))
