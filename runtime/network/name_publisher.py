"""Publish names of containers on user-defined networks to the resolver.

Endpoints are added and removed on many threads; one thread updates the resolver, with all pending
changes in one batch.  A container is not started before its own view is in place.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from netkit import threads
from netkit.dns import zones
from netkit.dns.client import Resolver
from netkit.dns.control import BESIDE
from netkit.dns.zones import Domain, ResolverView
from netkit.errors import KernelError, NetkitError, unexpected
from netkit.kernel import netns
from netkit.network.controller import Controller
from netkit.spec import EndpointRecord, NetworkRecord, Sandbox
from runtime.container.model import Container
from runtime.container.store import ContainerStore
from runtime.network.container_files import EtcFiles
from runtime.network.everyone import by_container
from runtime.paths import Paths

Endpoints = list[EndpointRecord]

log = logging.getLogger("netkit.naming")
AGAIN = 1.0  # seconds until failed updates are retried
IDLE = 1.0  # seconds the resolver runs on without containers, in case one starts


class DnsPublisher:
    """Implements netkit.network.api.NamePublisher."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._resolver: Resolver | None = None
        self._one = threading.Lock()  # of two, one would start the resolver again for ever
        self._wake = threading.Condition()
        self._changed: set[str] = set()  # network ids
        self._left: set[str] = set()  # ids of sandboxes whose views may have to be removed
        self._waiting: list[Future[None]] = []
        self._closed = False
        self._busy = False
        self._views = 0
        self._failed: tuple[set[str], set[str]] = (set(), set())  # to retry, as above
        self._gathering = False  # whether changes wait for `restore`
        self._mixed = False  # whether other engines' containers have been seen
        self._trouble = ""  # the last error, so that it is logged once
        self._thread = threads.looping("netkit-names", self._loop, over=lambda: self._closed)

    def connect(self, networks: Controller, store: ContainerStore, files: EtcFiles) -> None:
        self._networks = networks
        self._store = store
        self._files = files
        self._thread.start()

    def publish(self, joined: Sequence[EndpointRecord], left: Sequence[EndpointRecord]) -> None:
        # As in Docker, containers have no DNS names on the default network.
        named = [e for e in (*joined, *left) if self._named(e.network)]
        if not named:
            return
        with self._wake:
            self._mixed = self._mixed or any(e.engine for e in named)
            self._changed |= {e.network for e in named}
            self._left |= {e.sandbox for e in by_container(left)}
            self._wake.notify()

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """What is published meanwhile waits for the next flush or `restore`.

        For a start of the daemon: else each network is read and sent again for each of its
        containers, beside the thread that restores them.
        """
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False

    def refresh(self, network: str) -> None:
        """See `publish`."""
        with self._wake:
            self._changed.add(network)
            self._wake.notify()

    def flush(self) -> None:
        """Wait until the resolver has everything that was published before.

        KernelError if that fails, or netkit is shutting down.
        """
        done: Future[None] = Future()
        with self._wake:
            if self._closed:
                raise KernelError("netkit is shutting down: names are no longer published")
            if not (self._changed or self._left or self._waiting or self._busy):
                return
            self._waiting.append(done)
            self._wake.notify()
        done.result()

    def restore(self) -> None:
        """Reconcile a resolver that an earlier daemon process left running."""
        with self._wake:
            if self._paths.dns.exists():
                # All of them: one may have lost its last endpoint when the other daemon was killed.
                self._left |= self._ensure_resolver().known()
            self._changed |= {
                e.network for e in self._networks.endpoints() if self._named(e.network)
            }
            self._wake.notify()
        if self._left or self._changed:
            self.flush()

    def close(self) -> None:
        """Stop publishing; the resolver's process runs on while containers need it."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(10)
        if self._resolver is not None:
            self._resolver.close(stop=not self._views)

    def _ensure_resolver(self) -> Resolver:
        with self._one:  # `restore` and the thread, which may have names already
            if self._resolver is None:
                self._resolver = Resolver(self._paths.dns, netns.open_socket)
            return self._resolver

    def _stop_resolver(self) -> None:
        """Stop the resolver and remove its files: no container needs it."""
        if self._resolver is not None:
            self._resolver.close(stop=True)
            self._resolver = None
        shutil.rmtree(self._paths.dns, ignore_errors=True)

    def _named(self, network: str) -> bool:
        try:
            return not self._networks.find(network).builtin
        except NetkitError:
            return True  # just removed: an update without need does no harm

    def _loop(self) -> None:
        while True:
            with self._wake:
                self._busy = False
                while not (self._due() or self._waiting or self._closed):
                    # evaluated after each wake-up: `restore` may have found a resolver
                    idle = self._resolver is not None and not self._views
                    failed = any(self._failed)
                    if not self._wake.wait(AGAIN if failed else IDLE if idle else None):
                        if failed:
                            break
                        self._stop_resolver()
                if self._closed and not self._waiting:
                    return
                self._busy = True
                changed, self._changed = self._changed, set()
                left, self._left = self._left, set()
                waiting, self._waiting = self._waiting, []
                if not waiting:  # a start must not wait for earlier failures
                    changed, left = changed | self._failed[0], left | self._failed[1]
                    self._failed = (set(), set())
            error: BaseException | None = None
            gone: set[str] = set()
            try:
                gone = self._update_resolver(changed, left)
            except BaseException as bad:  # noqa: BLE001  passed to the waiting threads
                error = bad if isinstance(bad, NetkitError) else unexpected(bad)
                self._failed = (self._failed[0] | changed, self._failed[1] | left)
                if str(error) != self._trouble:
                    threads.report("updating names in the resolver", bad)
            self._trouble = "" if error is None else str(error)
            for done in waiting:
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
            if error is None and (changed or left):
                # After that: callers that wait need the names, and no count of them.
                threads.attempt("counting the resolver's views", partial(self._count_views, gone))

    def _due(self) -> bool:
        return bool(self._changed or self._left) and not self._gathering

    def _update_resolver(self, changed: set[str], left: set[str]) -> set[str]:
        """Return the ids of sandboxes, or of dockerd's containers, that have no endpoint now."""
        own, others = self._read(changed, left)
        records = {r.id: r for r in self._networks.all()}
        by_sandbox: dict[str, list[EndpointRecord]] = {id: [] for id in left}
        for e in own:
            by_sandbox.setdefault(e.sandbox, []).append(e)
        host = self._files.host_text() if own else ""
        servers = {
            id: self._servers(id, found, host) if found else ()
            for id, found in by_sandbox.items()
        }
        domains = self._domains({e.network for e in own}, records)
        elsewhere = self._networks.global_networks.remote_endpoints()
        everywhere = [*own, *others, *(e for e in elsewhere if e.network not in domains)]
        views = zones.build_views(servers, everywhere, records, domains)
        for id in sorted(by_sandbox):
            if id in views:
                self._set(id, views[id])
            elif self._resolver is not None:
                self._resolver.remove(id)
        return {id for id, found in by_sandbox.items() if not found}

    def _read(self, changed: set[str], left: set[str]) -> tuple[Endpoints, Endpoints]:
        """Read all endpoints of sandboxes on networks that changed, and of those that `left`; and
        the others on their networks.
        """
        if not self._mixed:
            own = self._networks.endpoints_around(changed, left)
            self._mixed = any(e.engine for e in own)
        if self._mixed:
            # One that dockerd runs has a view once it is known which container it is of: its
            # sandboxes are in one namespace.
            every = by_container(self._networks.endpoints())
            concerned = {e.sandbox for e in every if e.network in changed} | left
            return ([e for e in every if e.sandbox in concerned],
                    [e for e in every if e.sandbox not in concerned])  # fmt: skip
        here = {e.sandbox for e in own}
        further = sorted(id for id in {e.network for e in own} - changed if self._named(id))
        found = (e for id in further for e in self._networks.endpoints(network=id))
        return own, [e for e in found if e.sandbox not in here]

    def _count_views(self, gone: set[str]) -> None:
        """Note how many sandboxes the resolver has; of these, those that are `gone` are to be
        removed once more: the answer to the removal was lost.
        """
        known = self._resolver.known() if self._resolver is not None else frozenset()
        self._views = len(known)
        self._failed = (self._failed[0], self._failed[1] | (known & gone))

    def _domains(
        self, networks: Iterable[str], records: Mapping[str, NetworkRecord]
    ) -> dict[str, Domain]:
        """Of those of these networks that have one."""
        found = {}
        for record in (records[id] for id in networks if id in records):
            name = self._networks.traits(record).domain
            if name:
                found[record.id] = Domain(
                    name=name, home=record.spec.name == record.spec.driver,
                    published=self._networks.overlay_members.published(record.id),
                )  # fmt: skip
        return found

    def _set(self, id: str, view: ResolverView) -> None:
        place = self._paths.namespace_file(id)
        other = self._of_engine(id) if self._store.get(id) is None else None
        if other is not None:
            place = other.ns
            if other.handover and other.container != id:
                # It was not known of which container it is when the endpoints were read.  Its view
                # has the container's id, as soon as that is published: one of the sandbox's, too,
                # would hold the port in the same namespace, and never be removed.
                return
            if other.handover:
                view = replace(view, address=BESIDE)
        try:
            self._ensure_resolver().set(id, place, view)
        except KernelError:
            if os.path.exists(place):
                raise
            log.debug("sandbox %s was closed before its names were published", id)

    def _of_engine(self, id: str) -> Sandbox | None:
        """A sandbox of another engine's container, by its id or that engine's id; or none."""
        found = self._networks.sandbox(id)
        if found is None:
            joined = self._networks.endpoints(sandbox=id)
            found = self._networks.sandbox(joined[0].sandbox) if joined else None
        return found if found is not None and found.foreign else None

    def _servers(self, id: str, joined: Sequence[EndpointRecord], host: str) -> Sequence[str]:
        c: Container | None = self._store.get(id)
        if c is not None:
            return self._files.resolver(c, joined, host)[1]
        return self._files.host_servers() if any(e.engine for e in joined) else ()
