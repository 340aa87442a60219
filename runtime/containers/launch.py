"""Bringing a container up and taking it down: root file system, network, files, process.

The order is the promise: the namespace, its links and its policy are complete before the first
instruction of the container runs, and the address is released last.  Everything here can be
repeated after a crash at any point.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from netkit.errors import Conflict, NotFound
from netkit.service import NetworkService
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord, PortSpec, Sandbox
from runtime.containers import linking
from runtime.containers.bundle import Bundler
from runtime.containers.config import EndpointSettings
from runtime.containers.files import ContainerFiles
from runtime.containers.joining import dns_names, endpoint_spec
from runtime.containers.model import Container
from runtime.containers.portspec import parse_bindings
from runtime.containers.store import ContainerStore
from runtime.containers.watch import Ended, Watcher
from runtime.oci.shim import Shim
from runtime.paths import Paths
from runtime.ports.engine import Events
from runtime.rootfs.mounted import Mounted
from runtime.rootfs.snapshots import Snapshots
from runtime.undo import Undo, both

__all__ = ["Ended", "Launcher"]

Noticed = Callable[[str, Ended], None]
UNKNOWN_EXIT = 255  # nobody was there to see the exit status


class Launcher:
    def __init__(
        self,
        *,
        paths: Paths,
        store: ContainerStore,
        shim: Shim,
        snapshots: Snapshots,
        mounted: Mounted,
        networks: NetworkService,
        bundler: Bundler,
        files: ContainerFiles,
        watcher: Watcher,
        events: Events,
        boot_id: str,
    ) -> None:
        self.paths = paths
        self.store = store
        self.shim = shim
        self.snapshots = snapshots
        self.mounted = mounted
        self.networks = networks
        self.bundler = bundler
        self.files = files
        self.watcher = watcher
        self.events = events
        self.boot_id = boot_id
        self.before_start: Callable[[Container], None] = lambda c: None
        self.given_up: Callable[[Container], None] = lambda c: None
        self.settle_names: Callable[[], None] = lambda: None
        self._noticed: dict[str, Noticed] = {}

    # create and remove

    def prepare(self, c: Container) -> None:
        self.paths.container(c.id).mkdir(mode=0o700)
        self.snapshots.create(c.id, c.image)
        if self._own_network(c):
            self.networks.reserve(c.id, self._wishes(c))

    def discard(self, c: Container) -> None:
        """Nothing of the container is left but its row."""
        self.down(c, keep_network=False)
        self.networks.forget(c.id)
        self.snapshots.remove(c.id)
        shutil.rmtree(self.paths.container(c.id), ignore_errors=True)

    # up and down

    def up(self, c: Container, noticed: Noticed) -> int:
        """Run it; the pid of its first process.  On failure everything is as before."""
        with Undo() as undo:
            undo.push(self.mounted.let_go, c.id)
            root = self.mounted.hold(c.id)
            if self._own_network(c):
                undo.push(self.networks.close, c.id)
            joined = self._open_network(c)
            self.files.write(c, joined)
            undo.push(self.shim.delete, c.id)
            pid = self.bundler.create(c, root, self.namespace(c))
            self.settle_names()  # a resolver that had to be started was, meanwhile
            self.before_start(c)
            self.shim.start(c.id)
            undo.commit()
        self._noticed[c.id] = noticed
        for endpoint in joined:
            self._tell("connect", c, endpoint.network)
        return pid

    def watch(self, c: Container) -> None:
        """Call back when this run ends.  Apart from `up`, so that "start" is told before "die"."""
        noticed, run = self._noticed[c.id], c.state.pid

        def gone() -> None:
            if self.shim.exit_status(c.id) is None and self.shim.alive(c.id):
                self.watcher.watch(c.id, run, gone)  # conmon was killed, the container lives on
            else:
                noticed(c.id, self._ended(c.id, run))

        running = self.shim.running(c.id)
        monitor = running.monitor if running else None
        self.watcher.watch(c.id, monitor.pid if monitor and monitor.alive else run, gone)

    def adopt(self, c: Container, noticed: Noticed) -> None:
        """The container of a daemon before us goes on: only listen for its end."""
        self._noticed[c.id] = noticed
        self.mounted.hold(c.id)

    def check(self, c: Container) -> None:
        """Look whether it is gone, although nobody told us."""
        if not self.shim.alive(c.id) and (noticed := self._noticed.get(c.id)):
            noticed(c.id, self._ended(c.id, c.state.pid))

    def post_mortem(self, c: Container) -> Ended:
        """How it ended while no daemon was there."""
        return self._ended(c.id, c.state.pid)

    def _ended(self, id: str, run: int) -> Ended:
        status = self.shim.exit_status(id)
        if status is None:
            return Ended(pid=run, exit_code=UNKNOWN_EXIT, finished_ns=time.time_ns())
        return Ended(pid=run, exit_code=status.code, finished_ns=status.finished_ns, oom=status.oom)

    def down(self, c: Container, *, keep_network: bool) -> None:
        """Take away what `up` made; nothing to do if it is away already."""
        self.watcher.forget(c.id)
        self._noticed.pop(c.id, None)
        self.given_up(c)
        if keep_network or not self._own_network(c):
            self._end(c)
            return
        left = self.networks.endpoints(sandbox=c.id)
        if self.shim.alive(c.id) or self.shim.processes(c.id):
            self._end(c)  # not a packet of what still runs comes from an address given away
            self.networks.close(c.id)
        else:
            both(lambda: self._end(c), lambda: self.networks.close(c.id))
        for endpoint in left:
            self._tell("disconnect", c, endpoint.network)

    def _end(self, c: Container) -> None:
        self.shim.delete(c.id)
        self.mounted.let_go(c.id)

    def remains(self) -> set[str]:
        """Ids of which there is something that only a running container has."""
        return self.shim.leftovers() | {
            p.name for p in (self.paths.run / "rootfs").iterdir()
        }

    def abandon(self, c: Container) -> None:
        """A run that is not to be, or is over: whatever there is of it goes."""
        self.shim.abort(c.id)
        self.down(c, keep_network=False)

    def sweep(self, ids: set[str]) -> None:
        """Remove what belongs to containers that no longer exist."""
        for id in self.shim.leftovers() - ids:
            self.shim.abort(id)
        for folder in (self.paths.run / "rootfs", self.paths.root / "containers"):
            for path in folder.iterdir():
                if path.name not in ids:
                    self.snapshots.unmount(path)
                    shutil.rmtree(path, ignore_errors=True)
        for id in self.snapshots.known() - ids:
            self.snapshots.remove(id)

    # signals

    def signal(self, c: Container, number: int) -> bool:
        return self.shim.signal(c.id, number)

    def pause(self, c: Container) -> None:
        self.shim.pause(c.id)

    def resume(self, c: Container) -> None:
        self.shim.resume(c.id)

    # network

    def network(self, ref: str) -> NetworkRecord:
        return self.networks.find(ref)

    def _own_network(self, c: Container) -> bool:
        return not c.host_config.network_mode.startswith("container:")

    def namespace(self, c: Container) -> str:
        """Path of the network namespace the container lives in; "" the daemon's own.

        Conflict if it is that of another container which does not run.
        """
        mode = c.host_config.network_mode
        if mode == "host":
            return ""
        if not mode.startswith("container:"):
            return str(self.paths.namespace(c.id))
        other = self.store.find(mode.partition(":")[2])
        if other.id == c.id:
            raise Conflict(f"container {c.id} cannot share its own network namespace")
        if not other.state.alive:
            raise Conflict(
                f"cannot join network namespace of a non running container: container "
                f"{other.name} is {other.state.status}"
            )
        return self.namespace(other)

    def sandbox(self, c: Container) -> Sandbox:
        return Sandbox(id=c.id, name=c.name, ns=self.namespace(c))

    def _open_network(self, c: Container) -> list[EndpointRecord]:
        if not self._own_network(c):
            self.namespace(c)
            return []
        linking.children(c, self.store.find)  # they must run
        return self.networks.open(self.sandbox(c), self._wishes(c), self._ports(c))

    def _wishes(self, c: Container) -> list[EndpointSpec]:
        return [
            self._wish(c, settings, self.networks.find(name))
            for name, settings in c.networks.items()
        ]

    def _wish(
        self, c: Container, settings: EndpointSettings, record: NetworkRecord
    ) -> EndpointSpec:
        spec = endpoint_spec(c, settings, record)
        if record.builtin and (opens := linking.openings(c, self.store.find)):
            spec = replace(spec, opens=opens)
        return spec

    def _ports(self, c: Container) -> Sequence[PortSpec]:
        host = c.host_config
        if host.network_mode in {"host", "none"}:
            return ()
        exposed = list(c.config.exposed_ports or {})
        return parse_bindings(host.port_bindings, exposed, host.publish_all_ports)

    def joined(self, c: Container) -> tuple[list[EndpointRecord], Mapping[str, NetworkRecord], str]:
        """Live endpoints, the networks by id, and the namespace's path."""
        live = self.networks.endpoints(sandbox=c.id) if c.state.alive else []
        networks = {r.id: r for r in self.networks.all()}
        mode = c.host_config.network_mode
        shared = mode == "host" or mode.startswith("container:")
        return live, networks, "" if shared else str(self.paths.namespace(c.id))

    def connect(self, c: Container, record: NetworkRecord, settings: EndpointSettings) -> None:
        self.networks.connect(self.sandbox(c), self._wish(c, settings, record))
        self.files.write(c, self.networks.endpoints(sandbox=c.id))
        self.settle_names()
        self._tell("connect", c, record.id)

    def disconnect(self, c: Container, record: NetworkRecord) -> None:
        self.networks.disconnect(c.id, record.id)
        self.files.write(c, self.networks.endpoints(sandbox=c.id))
        self._tell("disconnect", c, record.id)

    def agree(self, c: Container) -> bool:
        """Joining or leaving was cut short between network and row: finish leaving, undo joining.

        True if the container's wishes changed.
        """
        if not self._own_network(c):
            return False
        live = {e.network for e in self.networks.endpoints(sandbox=c.id)}
        wished: set[str] = set()
        lost: list[str] = []
        for word in c.networks:
            try:
                record = self.networks.find(word)
            except NotFound:
                continue
            wished.add(record.id)
            if record.id not in live:
                lost.append(word)
        for id in live - wished:
            record = self.networks.find(id)
            if record.spec.driver != "null":  # stays when a container on `none` joins another
                self.networks.disconnect(c.id, id)
        for word in lost:
            del c.networks[word]
        return bool(lost)

    def relinked(self, c: Container) -> None:
        """A link of a container changed, or the address at the other end of it."""
        if not c.state.alive or not self._own_network(c):
            return
        live = self.networks.endpoints(sandbox=c.id)
        for endpoint in live:
            opens = linking.openings(c, self.store.find)
            if endpoint.spec.opens != opens and self.networks.find(endpoint.network).builtin:
                self.networks.reopen(c.id, endpoint.network, opens)
        self.files.write(c, live)

    def forget_endpoint(self, record: NetworkRecord, name: str) -> bool:
        """Drop the endpoint of a container that no longer exists; was there one?"""
        for endpoint in self.networks.endpoints(network=record.id):
            if name in {endpoint.owner_name, endpoint.sandbox}:
                self.networks.disconnect(endpoint.sandbox, record.id)
                return True
        return False

    def renamed(self, c: Container) -> None:
        names: dict[str, tuple[str, ...]] = {}
        for word, settings in c.networks.items():
            record = self.networks.find(word)
            if not record.builtin:
                names[record.id] = dns_names(c, settings)
        if c.state.alive and self._own_network(c):
            self.networks.rename(c.id, c.name, names)

    def _tell(self, action: str, c: Container, network: str) -> None:
        try:
            record = self.networks.find(network)
        except NotFound:
            return
        self.events.emit(
            "network",
            action,
            record.id,
            {"container": c.id, "name": record.spec.name, "type": record.spec.driver},
        )
