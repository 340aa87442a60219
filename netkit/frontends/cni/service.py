"""ADD, DEL, CHECK, GC and STATUS as use cases on networks and sandboxes.

A container's sandbox is opened by its first ADD and closed by its last DEL; the ones between
connect and disconnect.  A second interface on one network is a sandbox of its own, since a sandbox
is on a network once.  The row of an attachment is written before anything is made, and marked
ready before it is acknowledged: what was not, is undone at the next start.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import msgspec
from msgspec.structs import replace

from netkit import threads
from netkit.errors import Conflict, NetkitError, NotFound, unexpected
from netkit.frontends.cni import conf as confs
from netkit.frontends.cni import environment, network, result
from netkit.frontends.cni.attachments import READY, Attachment, AttachmentStore
from netkit.frontends.cni.conf import Conf
from netkit.frontends.cni.environment import Call
from netkit.frontends.cni.errors import (
    CONFIGURATION,
    DEVIATION,
    INTERNAL,
    OWN_NAMESPACE,
    TAKEN,
    UNAVAILABLE,
    UNKNOWN_CONTAINER,
    CniError,
    as_cni,
)
from netkit.locks import KeyedLocks
from netkit.network.controller import Controller
from netkit.network.endpoint import WITHOUT_DNS
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord, NetworkSpec, PortSpec, Sandbox

ENGINE = "cni"
RESOLVER = "127.0.0.11"
OWN_NS = "/proc/self/ns/net"
_SANDBOX_ID = re.compile(r"[0-9a-f]{64}")

log = logging.getLogger("netkit.cni")


class CniService:
    """Thread-safe.

    `nsid` is a namespace's "DEVICE:INODE" by its path, "" where there is none.  `settle_names`
    waits until names that were published are answered; None where nothing answers them.
    """

    def __init__(
        self,
        networks: Controller,
        rows: AttachmentStore,
        *,
        nsid: Callable[[str], str],
        create: Callable[[NetworkSpec], NetworkRecord],
        remove: Callable[[str], object],
        settle_names: Callable[[], None] | None,
    ) -> None:
        self._net, self._rows = networks, rows
        self._nsid, self._settle_names = nsid, settle_names
        self._create_network, self._remove_network = create, remove
        self._locks = KeyedLocks()

    def call(self, env: Mapping[str, str], text: str, nsid: str = "") -> tuple[int, bytes]:
        """(exit code, output) of one call with these CNI_ variables and this standard input.

        `nsid`: of CNI_NETNS as the caller sees it, which may be in another mount namespace.
        """
        version = confs.VERSIONS[-1]
        try:
            call = environment.parse(env)
            asked, name = confs.lenient(text)
            version = asked if asked in confs.VERSIONS else version
            if call.command == "VERSION":
                return 0, _versions(version)
            confs.check_version(asked)
            if call.command == "DEL":  # by name alone: the rest may have changed, and be wrong
                self._del(call, name)
                return 0, b""
            return 0, self._act(call, confs.parse(text), nsid)
        except CniError as error:
            return 1, error.rendered(version)
        except NetkitError as error:
            return 1, as_cni(error).rendered(version)
        except Exception as error:  # noqa: BLE001  the caller is shown it
            threads.report("a CNI call", error)
            return 1, CniError(INTERNAL, str(unexpected(error))).rendered(version)

    def _act(self, call: Call, conf: Conf, nsid: str) -> bytes:
        match call.command:
            case "ADD":
                return self._add(call, conf, nsid)
            case "CHECK":
                self._check(call, conf)
            case "GC":
                self._collect(conf)
            case "STATUS":
                self._status(conf)
        return b""

    # ADD

    def _add(self, call: Call, conf: Conf, nsid: str) -> bytes:
        result.refuse_taken(conf, call)
        ports, found = confs.ports(conf), self._namespace(call, nsid)
        with self._locks.hold(call.container):
            self._make_room(call, conf, found)
            record, made = network.ensure(self._net, conf, self._create_network)
            try:
                endpoint, named = self._join(call, conf, found, record, ports)
            except BaseException:
                if made:  # nothing is left of it, unless others are on it by now
                    with suppress(NetkitError):
                        self._remove_network(record.id)
                raise
        resources = self._net.resources(endpoint).values()
        return result.success(conf, call, endpoint, resources, (RESOLVER,) if named else ())

    def _join(
        self, call: Call, conf: Conf, nsid: str, record: NetworkRecord, ports: Sequence[PortSpec]
    ) -> tuple[EndpointRecord, bool]:
        """The endpoint, and whether the container's names are answered."""
        box, first = self._sandbox(call, nsid, record)
        before = self._net.endpoints(sandbox=box.id)
        want = self._wanted(call, conf, record, first=first, others=len(before))
        if ports and not want.default_route:
            ports = self._elsewhere(call, conf)
        row = Attachment(
            container=call.container, name=conf.name, ifname=call.ifname, network=record.id,
            sandbox=box.id, ports=tuple(ports),
        )  # fmt: skip
        self._rows.save(row)
        try:
            endpoint = self._attach(box, want, row, opened=bool(before))
            named = self._settle(record) if first else False
            self._rows.save(replace(row, state=READY))
        except BaseException as error:
            self._undo(row, error)
            raise
        return endpoint, named

    @staticmethod
    def _wanted(
        call: Call, conf: Conf, record: NetworkRecord, *, first: bool, others: int
    ) -> EndpointSpec:
        aliases, ips = confs.aliases(conf), confs.addresses(conf, call)
        return EndpointSpec(
            network=record.id,
            ip=ips[0] if ips else "",
            addresses=ips[1:],
            mac=confs.mac(conf, call),
            ifname=call.ifname,
            aliases=aliases if first else (),
            names=(call.called, *aliases, call.container[:12]) if first else (),
            driver_opts={} if first else {WITHOUT_DNS: "true"},
            gw_priority=-others,  # the first network keeps the default route
            default_route=first and conf.is_default_gateway,
        )

    def _attach(
        self, box: Sandbox, want: EndpointSpec, row: Attachment, *, opened: bool
    ) -> EndpointRecord:
        if not opened:
            (record,) = self._net.open(box, [want], row.ports)
            return record
        record = self._net.connect(box, want)
        if row.ports:
            self._net.publish(box.id, self._ports(row))
            record = next(r for r in self._net.endpoints(sandbox=box.id) if r.id == record.id)
        return record

    def _ports(self, of: Attachment) -> tuple[PortSpec, ...]:
        """All that the ADDs of a sandbox asked to publish: a runtime may repeat them in each."""
        rows = [r for r in self._rows.of_container(of.container) if r.sandbox == of.sandbox]
        return tuple(dict.fromkeys(port for row in rows for port in row.ports))

    def _settle(self, record: NetworkRecord) -> bool:
        """Whether the container's names are answered on this network, by the time of this call."""
        if self._settle_names is None or record.builtin:
            return False
        self._settle_names()
        return True

    def _undo(self, row: Attachment, error: BaseException) -> None:
        try:
            self._remove(row)
        except Exception as bad:  # noqa: BLE001  the first error is the one that matters
            error.add_note(f"could not clean up, DEL will try again: {bad}")

    def _namespace(self, call: Call, nsid: str) -> str:
        """The identity of the container's namespace.  CniError where there is none to be used."""
        found = self._nsid(call.netns)
        if not found:
            raise CniError(
                UNKNOWN_CONTAINER,
                f"no network namespace at {call.netns}"
                + (": netkitd does not see the mounts of who calls it" if nsid else ""),
            )
        if nsid and nsid != found:
            raise CniError(
                UNKNOWN_CONTAINER,
                f"{call.netns} is another namespace for netkitd than for who calls it",
            )
        if found == self._nsid(OWN_NS) and not call.any_netns:
            raise CniError(
                OWN_NAMESPACE, f"{call.netns} is the namespace of netkitd, not a container's"
            )
        return found

    def _make_room(self, call: Call, conf: Conf, nsid: str) -> None:
        """Refuse what is attached already; remove what an earlier run of the container left."""
        for row in self._rows.of_container(call.container):
            box = self._net.sandbox(row.sandbox)
            if row.state == READY and box is not None and self._lives(box):
                if box.nsid != nsid:
                    raise CniError(
                        TAKEN,
                        f"container {call.called} is attached in another network namespace, "
                        f"{box.ns}: DEL comes first",
                    )
                if (row.name, row.ifname) == (conf.name, call.ifname):
                    raise CniError(
                        TAKEN,
                        f"container {call.called} is on network {conf.name} by {call.ifname} "
                        "already: DEL comes first",
                    )
            else:
                self._remove(row)

    def _sandbox(self, call: Call, nsid: str, record: NetworkRecord) -> tuple[Sandbox, bool]:
        """That of the container, True; where it is on the network already another one, False."""
        first = sandbox_id(call.container)
        there = {e.network for e in self._net.endpoints(sandbox=first)}
        second = record.id in there
        id = sandbox_id(call.container, call.ifname) if second else first
        box = Sandbox(
            id=id,
            name=call.called,
            ns=call.netns,
            engine=ENGINE,
            foreign=True,
            binds_ports=True,
            nsid=nsid,
            container="" if id == call.container else call.container,
        )
        return box, not second

    def _elsewhere(self, call: Call, conf: Conf) -> tuple[()]:
        """Ports of a container that publishes them by another interface.  CniError 7: none does."""
        if not any(e.is_default for e in self._net.endpoints(sandbox=sandbox_id(call.container))):
            raise CniError(
                CONFIGURATION,
                f"portMappings of network {conf.name} cannot be reached: the container has no "
                "default route by netkit (isDefaultGateway is false)",
            )
        return ()

    # DEL

    def _del(self, call: Call, name: str) -> None:
        """Remove it, also half-way there, and without its namespace; nothing to do if not there."""
        with self._locks.hold(call.container):
            for row in self._rows.of_container(call.container):
                if (row.name, row.ifname) == (name, call.ifname):
                    self._remove(row)

    def _remove(self, row: Attachment) -> None:
        """Leave the network.  The container's lock is held."""
        box = self._net.sandbox(row.sandbox)
        others: list[EndpointRecord] = []
        if box is not None:
            others = [
                e for e in self._net.endpoints(sandbox=box.id) if e.network != row.network
            ]
            # Without its namespace nothing of the others is there either.
            if others and self._lives(box):
                with suppress(NotFound):
                    self._net.disconnect(box.id, row.network)
            else:
                self._net.close(box.id)
        self._rows.delete(row)
        if row.ports and others and box is not None and self._lives(box):
            self._net.publish(box.id, self._ports(row))

    def _lives(self, box: Sandbox) -> bool:
        return bool(box.nsid) and self._nsid(box.ns) == box.nsid

    # CHECK, GC, STATUS

    def _check(self, call: Call, conf: Conf) -> None:
        with self._locks.hold(call.container):
            endpoint = self._endpoint(call, conf)
            result.check(conf, call, endpoint)
            box = self._net.sandbox(endpoint.sandbox)
            if box is None or not self._lives(box):
                raise CniError(
                    DEVIATION, f"the network namespace {call.netns} is not that of ADD any more"
                )
            try:
                steps = self._net.deviations(endpoint)
            except Conflict as error:
                raise CniError(DEVIATION, str(error)) from None
        if steps:
            raise CniError(
                DEVIATION,
                f"container {call.called} on network {conf.name}: {len(steps)} "
                f"{'deviation' if len(steps) == 1 else 'deviations'} from what ADD made",
                "\n".join(steps),
            )

    def _endpoint(self, call: Call, conf: Conf) -> EndpointRecord:
        for row in self._rows.of_container(call.container):
            if (row.name, row.ifname, row.state) == (conf.name, call.ifname, READY):
                for endpoint in self._net.endpoints(sandbox=row.sandbox):
                    if endpoint.network == row.network:
                        return endpoint
        raise CniError(
            UNKNOWN_CONTAINER,
            f"container {call.called} is not on network {conf.name} by {call.ifname}",
        )

    def _collect(self, conf: Conf) -> None:
        """Remove what the runtime does not know any more.  All are tried; CniError if one fails."""
        if conf.valid is None and conf.valid_before is None:
            raise CniError(CONFIGURATION, "GC needs cni.dev/valid-attachments")
        known = (*(conf.valid or ()), *(conf.valid_before or ()))
        valid = {(each.container_id, each.ifname) for each in known}
        failed: list[str] = []
        for row in self._rows.of_name(conf.name):
            if (row.container, row.ifname) in valid:
                continue
            try:
                with self._locks.hold(row.container):
                    self._remove(row)
            except NetkitError as error:
                failed.append(f"{row.container} {row.ifname}: {error}")
            else:
                log.info("removed %s of container %s: no valid attachment", row.ifname,
                         row.container)  # fmt: skip
        if failed:
            raise CniError(INTERNAL, f"{len(failed)} could not be removed", "\n".join(failed))

    def _status(self, conf: Conf) -> None:
        """CniError 50 if an ADD would fail whatever the container."""
        try:
            network.usable(self._net, conf)
        except (NetkitError, CniError) as error:
            raise CniError(UNAVAILABLE, str(error)) from None

    # starts of netkitd

    def live(self) -> dict[str, Sandbox]:
        """Sandboxes of containers whose ADD was acknowledged, and whose namespace is there."""
        ready = {row.sandbox for row in self._rows.all() if row.state == READY}
        boxes = self._net.of_engine(ENGINE)
        return {box.id: box for box in boxes if box.id in ready and self._lives(box)}

    def recover(self) -> None:
        """After networks were restored: undo what was not acknowledged, forget what has ended."""
        there = {(e.sandbox, e.network) for e in self._net.endpoints()}
        for row in self._rows.all():
            if row.state != READY or (row.sandbox, row.network) not in there:
                threads.attempt(f"removing {row.ifname} of {row.container}",
                                partial(self._remove, row))  # fmt: skip


def sandbox_id(container: str, ifname: str = "") -> str:
    """64 hex digits.  The container's id where it has as many, so that its owner knows it."""
    if not ifname and _SANDBOX_ID.fullmatch(container):
        return container
    return hashlib.sha256(f"cni\0{container}\0{ifname}".encode()).hexdigest()


def _versions(version: str) -> bytes:
    return msgspec.json.encode({"cniVersion": version, "supportedVersions": confs.VERSIONS})
