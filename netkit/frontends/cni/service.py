"""ADD, DEL, CHECK, GC and STATUS as use cases on networks and sandboxes.

Calls for one container follow each other; what ADD and DEL change is in `attaching`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from netkit import threads
from netkit.errors import Conflict, NetkitError, unexpected
from netkit.frontends.cni import conf as confs
from netkit.frontends.cni import environment, network, result
from netkit.frontends.cni.attaching import ENGINE, Attaching
from netkit.frontends.cni.attachments import READY, AttachmentStore
from netkit.frontends.cni.conf import Conf
from netkit.frontends.cni.environment import Call
from netkit.frontends.cni.errors import (
    CONFIGURATION,
    DEVIATION,
    INTERNAL,
    UNAVAILABLE,
    UNKNOWN_CONTAINER,
    CniError,
    as_cni,
)
from netkit.frontends.cni.namespaces import Namespaces
from netkit.locks import KeyedLocks
from netkit.network.controller import Controller
from netkit.spec import EndpointRecord, NetworkRecord, NetworkSpec, Sandbox

RESOLVER = "127.0.0.11"

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
        self._net, self._rows, self._namespaces = networks, rows, Namespaces(nsid)
        self._attaching = Attaching(
            networks, rows, self._namespaces,
            create=create, remove=remove, settle_names=settle_names,
        )  # fmt: skip
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

    def _add(self, call: Call, conf: Conf, seen: str) -> bytes:
        result.refuse_taken(conf, call)
        ports, nsid = confs.ports(conf), self._namespaces.of(call, seen)
        with self._locks.hold(call.container):
            endpoint, named = self._attaching.attach(call, conf, nsid, ports)
        resources = self._net.resources(endpoint).values()
        return result.success(conf, call, endpoint, resources, (RESOLVER,) if named else ())

    def _del(self, call: Call, name: str) -> None:
        """Remove it, also half-way there, and without its namespace; nothing to do if not there."""
        with self._locks.hold(call.container):
            for row in self._rows.of_container(call.container):
                if (row.name, row.ifname) == (name, call.ifname):
                    self._attaching.remove(row)

    def _check(self, call: Call, conf: Conf) -> None:
        with self._locks.hold(call.container):
            endpoint = self._endpoint(call, conf)
            result.check(conf, call, endpoint)
            box = self._net.sandbox(endpoint.sandbox)
            if box is None or not self._namespaces.lives(box):
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
                    self._attaching.remove(row)
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
        return {box.id: box for box in boxes if box.id in ready and self._namespaces.lives(box)}

    def recover(self) -> None:
        """After networks were restored: undo what was not acknowledged, forget what has ended."""
        there = {(e.sandbox, e.network) for e in self._net.endpoints()}
        for row in self._rows.all():
            if row.state != READY or (row.sandbox, row.network) not in there:
                threads.attempt(f"removing {row.ifname} of {row.container}",
                                partial(self._attaching.remove, row))  # fmt: skip


def _versions(version: str) -> bytes:
    return msgspec.json.encode({"cniVersion": version, "supportedVersions": confs.VERSIONS})
