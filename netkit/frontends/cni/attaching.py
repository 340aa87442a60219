"""Attach containers to networks, and detach them: what ADD and DEL change.

A container's sandbox is opened by its first ADD and closed by its last DEL; the ones between
connect and disconnect.  A second interface on one network is a sandbox of its own, since a sandbox
is on a network once.  The row of an attachment is written before anything is made, and marked
ready before it is acknowledged: what was not, is undone at the next start.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from contextlib import suppress

from msgspec.structs import replace

from netkit.errors import NetkitError, NotFound
from netkit.frontends.cni import conf as confs
from netkit.frontends.cni import network
from netkit.frontends.cni.attachments import READY, Attachment, AttachmentStore
from netkit.frontends.cni.conf import Conf
from netkit.frontends.cni.environment import Call
from netkit.frontends.cni.errors import CONFIGURATION, TAKEN, CniError
from netkit.frontends.cni.namespaces import Namespaces
from netkit.network.controller import Controller
from netkit.network.endpoint import WITHOUT_DNS
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord, NetworkSpec, PortSpec, Sandbox

ENGINE = "cni"
_SANDBOX_ID = re.compile(r"[0-9a-f]{64}")


class Attaching:
    """The caller holds a lock of the container; see `CniService` for the callables."""

    def __init__(
        self,
        networks: Controller,
        rows: AttachmentStore,
        namespaces: Namespaces,
        *,
        create: Callable[[NetworkSpec], NetworkRecord],
        remove: Callable[[str], object],
        settle_names: Callable[[], None] | None,
    ) -> None:
        self._net, self._rows, self._namespaces = networks, rows, namespaces
        self._create_network, self._remove_network = create, remove
        self._settle_names = settle_names

    def attach(
        self, call: Call, conf: Conf, nsid: str, ports: Sequence[PortSpec]
    ) -> tuple[EndpointRecord, bool]:
        """The endpoint, and whether the container's names are answered.

        `nsid`: the identity of the container's namespace.  CniError or NetkitError, then undone.
        """
        self._make_room(call, conf, nsid)
        record, made = network.ensure(self._net, conf, self._create_network)
        try:
            return self._join(call, conf, nsid, record, ports)
        except BaseException:
            if made:  # nothing is left of it, unless others are on it by now
                with suppress(NetkitError):
                    self._remove_network(record.id)
            raise

    def _make_room(self, call: Call, conf: Conf, nsid: str) -> None:
        """Refuse what is attached already; remove what an earlier run of the container left."""
        for row in self._rows.of_container(call.container):
            box = self._net.sandbox(row.sandbox)
            if row.state == READY and box is not None and self._namespaces.lives(box):
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
                self.remove(row)

    def _join(
        self, call: Call, conf: Conf, nsid: str, record: NetworkRecord, ports: Sequence[PortSpec]
    ) -> tuple[EndpointRecord, bool]:
        box, first = self._sandbox(call, nsid, record)
        before = self._net.endpoints(sandbox=box.id)
        want = _wanted(call, conf, record, first=first, others=len(before))
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
            self.remove(row)
        except Exception as bad:  # noqa: BLE001  the first error is the one that matters
            error.add_note(f"could not clean up, DEL will try again: {bad}")

    def remove(self, row: Attachment) -> None:
        """Leave the network, and close the sandbox with the last one."""
        box = self._net.sandbox(row.sandbox)
        others: list[EndpointRecord] = []
        if box is not None:
            others = [
                e for e in self._net.endpoints(sandbox=box.id) if e.network != row.network
            ]
            # Without its namespace nothing of the others is there either.
            if others and self._namespaces.lives(box):
                with suppress(NotFound):
                    self._net.disconnect(box.id, row.network)
            else:
                self._net.close(box.id)
        self._rows.delete(row)
        if row.ports and others and box is not None and self._namespaces.lives(box):
            self._net.publish(box.id, self._ports(row))


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


def sandbox_id(container: str, ifname: str = "") -> str:
    """64 hex digits.  The container's id where it has as many, so that its owner knows it."""
    if not ifname and _SANDBOX_ID.fullmatch(container):
        return container
    return hashlib.sha256(f"cni\0{container}\0{ifname}".encode()).hexdigest()
