"""libvirt, and the only module that imports it: what runs and carries our mark, start, destroy, agent commands.

Opened at first use and safe for threads: libvirtd serves a client only a few calls at once (``max_client_requests``, 5), and
a call to a guest agent may take seconds, so each thread has connections of its own. libvirt's errors come out as
``HypervisorError`` with its code and words, or as what they mean: ``HostError``, ``ConflictError``, ``GuestError``.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlab.errors import ConflictError, GuestError, HostError, HypervisorError
from vlab.guests.agent import AgentRefused
from vlab.hypervisors import marktext, processes, saveimage
from vlab.hypervisors.mark import NAMESPACE, PREFIX, Domain, Mark, Unreadable
from vlab.hypervisors.saveimage import SaveImage
from vlab.topology.lab import domain_name

if TYPE_CHECKING:
    import libvirt

URIS = processes.URIS
HINT = "run ./bootstrap, which installs libvirt and makes sure that it answers"


@dataclass(frozen=True, slots=True)
class Statistics:
    """``cpu_seconds`` since the start; ``memory`` is what the guest takes of the host now, in bytes."""

    cpu_seconds: float
    memory: int


NOT_INSTALLED = "no connection driver available"
"""libvirt's words for a driver that it has not."""


class Hypervisors:
    """Both libvirt drivers. ``unreachable`` says, by URI, which did not answer and why."""

    def __init__(self, uris: Sequence[str] = URIS) -> None:
        self._uris = tuple(uris)
        self._thread = threading.local()
        self.unreachable: dict[str, str] = {}

    def require_answers(self, what: str) -> None:
        """Raise ``HostError`` when a driver did not answer the last look, so ``what`` cannot be known. A driver that libvirt was
        installed without has no domains, and is none of these."""
        silent = [f"{uri}: {why}" for uri, why in self.unreachable.items() if NOT_INSTALLED not in why]
        if silent:
            raise HostError(f"{what}: a libvirt driver does not answer", details=silent, hint=HINT)

    def versions(self, uri: str) -> str:
        """libvirt's version and its hypervisor's, as libvirt numbers them. Raises ``HostError`` when it does not answer."""
        connection = self._connection(uri)
        with _translated("libvirt does not tell its version"):
            return f"libvirt {connection.getLibVersion()}, {connection.getType()} {connection.getVersion()}"

    # what runs

    def domains(self, lab: str | None = None) -> list[Domain]:
        """Every domain with our mark, of one lab or of all, running or not, in order of name.

        A driver that does not answer has none, as it may not be installed; ``HostError`` when neither does.
        ``ConflictError`` for a mark that another version of vlab wrote."""
        found, unreadable = self.survey(lab)
        for domain in unreadable:
            raise domain.error()
        return found

    def survey(self, lab: str | None = None) -> tuple[list[Domain], list[Unreadable]]:
        """As ``domains``, with those beside them whose mark another version of vlab wrote."""
        found = [domain for handle, uri in self._handles() if (domain := _ours(handle, uri, lab))]
        found.sort(key=lambda domain: domain.name)
        return [it for it in found if isinstance(it, Domain)], [it for it in found if isinstance(it, Unreadable)]

    def labs(self) -> set[str]:
        """The labs of all domains with a mark, whichever version of vlab wrote it."""
        with _translated("libvirt cannot describe a domain"):
            texts = [_mark_text(handle) for handle, _ in self._handles()]
        return {marktext.lab_of(text) for text in texts if text}

    def unmarked(self, names: Collection[str]) -> list[str]:
        """Those of ``names`` that are taken by domains without our mark."""
        return sorted(
            name for handle, _ in self._handles() if (name := handle.name()) in names and _mark_text(handle) is None
        )

    def _handles(self) -> Iterator[tuple[libvirt.virDomain, str]]:
        for uri in self._reachable():
            with _translated("libvirt cannot list its domains"):
                handles = self._connection(uri).listAllDomains(0)
            yield from ((handle, uri) for handle in handles)

    def _reachable(self) -> list[str]:
        refused: dict[str, str] = {}
        for uri in self._uris:
            try:
                self._connection(uri)
            except HostError as error:
                refused[uri] = " ".join(error.details)
        self.unreachable = refused
        if len(refused) == len(self._uris):
            raise HostError("libvirt does not answer", details=[f"{u}: {why}" for u, why in refused.items()], hint=HINT)
        return [uri for uri in self._uris if uri not in refused]

    # deeds

    def start(self, uri: str, xml: str, *, brief: bool = False) -> Domain:
        """Start a transient domain from XML that holds a mark. Raises ``ConflictError`` when its name or UUID is taken.

        A ``brief`` one is destroyed by libvirt when this thread ends, whatever ends it."""
        import libvirt

        flags = libvirt.VIR_DOMAIN_START_AUTODESTROY if brief else 0
        return self._bring_up(uri, xml, "start", lambda connection: connection.createXML(xml, flags))

    def restore(self, uri: str, xml: str, image: SaveImage) -> Domain:
        """Start a transient domain from XML that holds a mark, with the memory and devices of ``image``, running. Raises as ``start``."""

        def restored(connection: libvirt.virConnect) -> libvirt.virDomain:
            with saveimage.stream(image, xml) as path:
                connection.restore(path)
            return connection.lookupByName(_name_and_uuid(xml)[0])

        return self._bring_up(uri, xml, "restore", restored)

    def suspend(self, domain: Domain) -> None:
        """Stop the guest's processors; its image files are as the guest left them then."""
        with _translated(f"libvirt cannot pause {domain.name}"):
            self._handle(domain).suspend()

    def resume(self, domain: Domain) -> None:
        """Let a paused guest go on; fine when it is not paused."""
        with contextlib.suppress(_Gone), _translated(f"libvirt cannot resume {domain.name}"):
            self._handle(domain).resume()

    def capture(self, domain: Domain, path: Path, disk: str) -> None:
        """Write a paused guest's memory and devices, without its ``disk``, to ``path``; it stays as it is."""
        import libvirt

        from vlab.hypervisors import xml

        with _translated(f"libvirt cannot save the memory of {domain.name}"):
            self._handle(domain).snapshotCreateXML(
                xml.text(xml.memory_snapshot(path, disk)), libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
            )

    def save(self, domain: Domain, path: Path) -> None:
        """Stop the guest and write its memory and devices to ``path``."""
        with _translated(f"libvirt cannot save {domain.name}"):
            self._handle(domain).save(str(path))

    def _bring_up(
        self, uri: str, xml: str, verb: str, deed: Callable[[libvirt.virConnect], libvirt.virDomain]
    ) -> Domain:
        connection = self._connection(uri)
        name, uuid = _name_and_uuid(xml)
        _refuse_taken(connection, name, uuid)
        with _translated(f"libvirt cannot {verb} {name}"):
            handle = deed(connection)
        try:
            domain = _ours(handle, uri, None)
            assert not isinstance(domain, Unreadable), "we wrote its mark"
        except BaseException:
            handle.destroy()  # nobody would know of it
            raise
        if domain is None:
            raise HypervisorError(
                f"{name} stopped as soon as it was started", hint=f"see /var/log/libvirt/*/{name}.log"
            )
        return domain

    def destroy(self, domain: Domain | Unreadable) -> None:
        """Take the guest's power away; fine when it is gone already."""
        with contextlib.suppress(_Gone), _translated(f"libvirt cannot stop {domain.name}"):
            handle = self._handle(domain)
            with processes.killed(domain.name, domain.uri, handle.ID()):
                handle.destroy()

    def mark(self, domain: Domain, mark: Mark) -> None:
        """Replace the mark of a running domain."""
        import libvirt

        with _translated(f"libvirt cannot mark {domain.name}"):
            self._handle(domain).setMetadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                marktext.written(mark),
                PREFIX,
                NAMESPACE,
                libvirt.VIR_DOMAIN_AFFECT_LIVE,
            )

    def agent(self, domain: Domain, command: Mapping[str, object], timeout: float) -> Any:
        """Send one command to the guest agent and return its answer's «return»; ``timeout`` in seconds, at least one.

        Raises ``GuestError`` when it does not answer, ``AgentRefused`` when it answers with an error, and
        ``HypervisorError`` when the domain does not run."""
        import libvirt_qemu

        with _translated(f"{domain.mark.node.name} does not run any more", agent=domain.mark.node.name):
            handle = self._handle(domain)
            answer = libvirt_qemu.qemuAgentCommand(handle, json.dumps(command), max(1, round(timeout)), 0)
        return json.loads(answer)["return"]

    def definition(self, domain: Domain) -> str:
        """The domain's XML as libvirt has it."""
        with _translated(f"libvirt cannot describe {domain.name}"):
            return str(self._handle(domain).XMLDesc(0))

    def statistics(self, domain: Domain) -> Statistics:
        """What the guest has used. Raises ``HypervisorError`` when it does not run."""
        with _translated(f"libvirt cannot measure {domain.name}"):
            handle = self._handle(domain)
            _, _, current, _, cpu_time = handle.info()
            resident = handle.memoryStats().get("rss", current)
        return Statistics(cpu_time / 1e9, resident * 1024)

    # connections

    def _handle(self, domain: Domain | Unreadable) -> libvirt.virDomain:
        return self._connection(domain.uri).lookupByName(domain.name)

    def _connection(self, uri: str) -> libvirt.virConnect:
        opened: dict[str, libvirt.virConnect] = self._thread.__dict__.setdefault("opened", {})
        if uri not in opened or not opened[uri].isAlive():
            opened[uri] = _open(uri)
        return opened[uri]


class _Gone(HypervisorError):
    """The domain is not there, or does not run."""


def _open(uri: str) -> libvirt.virConnect:
    import libvirt

    libvirt.registerErrorHandler(lambda _context, _error: None, None)  # its own prints every error to stderr
    try:
        return libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise HostError(f"libvirt does not answer on {uri}", details=[_words(error)], hint=HINT) from error


def _ours(handle: libvirt.virDomain, uri: str, lab: str | None) -> Domain | Unreadable | None:
    """The domain as data; None without our mark, of another lab, or gone meanwhile."""
    import libvirt

    name = handle.name()
    if lab is not None and not name.startswith(domain_name(lab, "")):
        return None  # without a question: thirty labs have hundreds of domains
    try:
        text = _mark_text(handle)
        if text is None:
            return None
        if lab is not None and marktext.lab_of(text) != lab:
            return None
        state = _STATES[handle.state()[0]]
        mark = marktext.read(text)
        if isinstance(mark, Mark):
            return Domain(name, uri, state, processes.guest(name, uri, handle.ID()), mark)
        return Unreadable(name, uri, state, marktext.lab_of(text), marktext.image_of(text), mark)
    except libvirt.libvirtError as error:
        if error.get_error_code() in _gone_codes():
            return None
        raise HypervisorError("libvirt cannot describe a domain", details=[_words(error)]) from error


def _mark_text(handle: libvirt.virDomain) -> str | None:
    import libvirt

    try:
        return str(handle.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE))
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, *_gone_codes()):
            return None
        raise


_STATES = ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended")
"""libvirt's words, by its numbers."""


def _name_and_uuid(xml: str) -> tuple[str, str]:
    from lxml import etree

    element = etree.fromstring(xml)
    return element.findtext("name", ""), element.findtext("uuid", "")


def _refuse_taken(connection: libvirt.virConnect, name: str, uuid: str) -> None:
    """libvirt would start our XML as the next life of a defined domain with the same name and UUID, whoever made that."""
    for look, word in ((connection.lookupByName, name), (connection.lookupByUUIDString, uuid)):
        with contextlib.suppress(_Gone), _translated(f"libvirt cannot look {name} up"):
            taken = look(word)
            if _mark_text(taken) is None:
                raise ConflictError(
                    f"domain {taken.name()} is not vlab's, and in the way of {name}",
                    hint=f"rename or remove it: virsh domrename {taken.name()} …",
                )
            raise ConflictError(f"domain {taken.name()} is there already", hint="vlab status; vlab up converges")


@contextlib.contextmanager
def _translated(what: str, *, agent: str = "") -> Iterator[None]:
    """libvirt's errors as ours. ``agent`` is the guest whose agent is spoken to."""
    import libvirt

    try:
        yield
    except libvirt.libvirtError as error:
        code, words = error.get_error_code(), _words(error)
        if code in _gone_codes():
            raise _Gone(what, details=[words]) from error
        if agent:
            raise _agent_error(agent, error.get_error_message() or "", words) from error
        raise HypervisorError(what, details=[words]) from error


def _agent_error(node: str, message: str, words: str) -> GuestError:
    _, marker, said = message.partition("Guest agent command failed, error was ")
    if not marker:
        _, marker, said = message.partition("unable to execute QEMU agent command ")
    if marker:
        return AgentRefused(f"{node}: its guest agent refused: {said}")
    if "encode message payload" in message:
        return GuestError(
            f"{node}: the answer is longer than the 4 MiB that libvirt carries",
            hint=f"write it to a file in the guest, then: vlab get {node} FILE",
        )
    return GuestError(f"{node}: its guest agent does not answer", details=[words], hint=f"vlab console {node}")


def _gone_codes() -> tuple[int, ...]:
    import libvirt

    return libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID


def _words(error: libvirt.libvirtError) -> str:
    return f"libvirt error {error.get_error_code()}: {error.get_error_message()}"
