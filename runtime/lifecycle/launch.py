"""Set up a container's run and tear it down: root file system, network, files, process.

The order is guaranteed: the namespace, its links and its policy are complete before the first
instruction of the container runs, and its address is released last.  The OCI runtime creates the
process, which then waits, while links and policy are made: it takes the longest and needs the
namespace alone.  Everything here can be repeated after a crash at any point.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from netkit import threads
from netkit.errors import NetkitError
from netkit.spec import EndpointRecord
from runtime.container.errors import NotRunning
from runtime.container.model import Container
from runtime.filetree.remove import remove_tree
from runtime.filetree.scoped_root import Root
from runtime.lifecycle.bundle import BundleBuilder
from runtime.lifecycle.exit_watcher import ExitInfo, ExitWatcher
from runtime.lifecycle.rootfs_mounts import (
    asks_for_folders,
    furnish,
    furnish_init,
    lacks,
    share_memory,
    unshare_memory,
)
from runtime.lifecycle.volumes import ContainerVolumes
from runtime.network.sandbox import ContainerNetwork
from runtime.oci.shim import ExitStatus, Shim
from runtime.paths import Paths
from runtime.rootfs.mount_refs import MountRefs
from runtime.rootfs.overlay import OverlaySnapshots
from runtime.undo import Undo, run_parallel

ExitCallback = Callable[[str, ExitInfo], None]
UNKNOWN_EXIT = 255  # reported when the exit status could not be determined
LOOK_AGAIN = (0.1, 1.0, 5.0)  # seconds between attempts to read an exit status


class Launcher:
    def __init__(
        self,
        *,
        paths: Paths,
        shim: Shim,
        snapshots: OverlaySnapshots,
        mounted: MountRefs,
        sandboxes: ContainerNetwork,
        volumes: ContainerVolumes,
        bundle_builder: BundleBuilder,
        watcher: ExitWatcher,
        boot_id: str,
        before_start: Callable[[Container], None],
        given_up: Callable[[Container], None],
    ) -> None:
        self._paths = paths
        self._shim = shim
        self._snapshots = snapshots
        self._mounted = mounted
        self._sandboxes = sandboxes
        self._volumes = volumes
        self._bundle_builder = bundle_builder
        self._watcher = watcher
        self.boot_id = boot_id
        self.abort_attach = given_up
        self._before_start = before_start
        self._noticed: dict[str, ExitCallback] = {}
        # ids of containers that wait for their restart, and were reported as disconnected
        self._between: set[str] = set()
        self._cleared: set[str] = set()  # ids of those of whose last run nothing is left

    # create and remove

    def prepare(self, c: Container) -> None:
        self._paths.container(c.id).mkdir(mode=0o700)
        synced = not c.host_config.auto_remove
        furnished = self._snapshots.create(c.id, c.image, synced=synced, furnished=True)
        self._volumes.create(c)
        if furnished:
            lacking = asks_for_folders(c) or self._volumes.fills(c)
        else:
            with self._mounted.initial(c.id) as root, Root(root) as inside:
                furnish_init(inside)
                self._volumes.fill(c, inside)
                lacking = lacks(c, inside)
        if lacking:
            with self._mounted.borrowed(c.id) as root, Root(root) as inside:
                if furnished:
                    self._volumes.fill(c, inside)
                furnish(c, inside)
        self._sandboxes.reserve(c)

    def discard(self, c: Container) -> None:
        """Remove everything of the container but its row."""
        if c.id not in self._cleared:
            self.down(c, keep_network=False)
        self._sandboxes.forget(c)
        made = c.extra.get("pending") == "create"
        anonymous = made or bool(c.extra.get("remove_volumes"))
        self._volumes.forget(c, anonymous=anonymous, made=made)
        self._mounted.remove(c.id)
        remove_tree(self._paths.container(c.id))
        self._cleared.discard(c.id)

    # up and down

    def up(self, c: Container, noticed: ExitCallback) -> int:
        """Start the container; the pid of its first process.  On failure everything is undone."""
        self._cleared.discard(c.id)
        # Each undo is pushed before its step, so that a step that fails half-way is undone, too.
        with Undo() as undo:
            # First, since the program that supervises it is loaded while all else is prepared.
            undo.push(self._shim.withdraw, c.id)
            self._bundle_builder.begin(c)
            undo.push(self._mounted.release, c.id)
            root = self._mounted.acquire(c.id)
            if not self._awaited(c):  # else other containers use the namespace: it stays
                undo.push(self._sandboxes.close, c)
            ahead = self._sandboxes.prepare(c)
            if c.host_config.ipc_mode == "shareable":
                undo.push(unshare_memory, self._paths.shared_memory(c.id))
                share_memory(self._paths.shared_memory(c.id), c.host_config.shm_size)
            undo.push(self._volumes.down, c)
            self._volumes.up(c)
            undo.push(self._shim.delete, c.id)
            joined, pid = self._join_and_create(c, root, at_once=ahead)
            # Only here: the resolver, if it had to be started, did so while runc created.
            self._sandboxes.settle_names()
            self._before_start(c)
            self._shim.start(c.id)
            undo.commit()
        self._between.discard(c.id)
        self._noticed[c.id] = noticed
        threads.attempt(f"events of {c.name}", lambda: self._sandboxes.tell_joined(c, joined))
        threads.attempt(f"volumes of {c.name}", lambda: self._volumes.tell_up(c))
        return pid

    def _join_and_create(
        self, c: Container, root: Path, *, at_once: bool
    ) -> tuple[list[EndpointRecord], int]:
        """Join its networks, and create its first process, which waits; (endpoints, pid).

        `at_once`: its namespace is there, and the runtime, which takes the longest, needs no more.
        """
        if not at_once:
            joined = self._sandboxes.open(c)
            return joined, self._bundle_builder.create(c, root, self._sandboxes.namespace(c))
        joined = []
        pid = self._bundle_builder.create(
            c, root, self._sandboxes.namespace(c), lambda: joined.extend(self._sandboxes.open(c))
        )
        return joined, pid

    def _awaited(self, c: Container) -> bool:
        """Is it about to restart while other containers run in its network namespace?

        Then the namespace is kept, also if this start fails.
        """
        return c.state.status == "restarting" and self._sandboxes.shared(c)

    def watch(self, c: Container) -> None:
        """Call back when this run ends.

        Separate from `up`, so that the event "start" is sent before "die".
        """
        gone = partial(self._gone, c, c.state.pid, self._noticed[c.id])
        running = self._shim.running(c.id)
        monitor = running.monitor if running else None
        self._watcher.watch(c.id, monitor.pid if monitor and monitor.alive else c.state.pid, gone)

    def _gone(self, c: Container, run: int, noticed: ExitCallback) -> None:
        ended = self._unseen(run)
        for pause in (*LOOK_AGAIN, None):
            try:
                status = self._shim.exit_status(c.id)
                if status is None and self._shim.alive(c.id):
                    # conmon was killed, the container runs on: watch its first process
                    self._watcher.watch(c.id, run, partial(self._gone, c, run, noticed))
                    return
                ended = self._ended(c.id, run) if status is None else _info(run, status)
                break
            except Exception as error:  # noqa: BLE001  reported and retried
                threads.report(f"reading the exit status of container {c.name}", error)
                if pause is not None:
                    time.sleep(pause)
        noticed(c.id, ended)

    def adopt(self, c: Container, noticed: ExitCallback) -> None:
        """Take over a container that an earlier daemon process started and that still runs."""
        self._noticed[c.id] = noticed
        self._cleared.discard(c.id)
        self._mounted.acquire(c.id)
        self._volumes.adopt(c)

    def check(self, c: Container) -> None:
        """Check whether it has exited without a notification, and handle that exit."""
        if not self._shim.alive(c.id) and (noticed := self._noticed.get(c.id)):
            noticed(c.id, self._ended(c.id, c.state.pid))

    def read_exit(self, c: Container) -> ExitInfo:
        """The exit of a container that ended while no daemon ran."""
        return self._ended(c.id, c.state.pid)

    def _ended(self, id: str, run: int) -> ExitInfo:
        status = self._shim.exit_status(id)
        return self._unseen(run) if status is None else _info(run, status)

    @staticmethod
    def _unseen(run: int) -> ExitInfo:
        return ExitInfo(pid=run, exit_code=UNKNOWN_EXIT, finished_ns=time.time_ns())

    def down(self, c: Container, *, keep_network: bool, last: bool = False) -> None:
        """Undo `up`; safe to repeat.

        `keep_network`: it will restart, so its endpoints stay; only its namespace is renewed.
        `last`: it is removed next, and its layer already now, while the kernel waits for links.
        """
        self._watcher.forget(c.id)
        self._noticed.pop(c.id, None)
        self.abort_attach(c)
        if c.host_config.network_of is not None:  # the network is another container's
            self._end(c, last)
            self._volumes.tell_down(c)
            self._cleared.add(c.id)
            return
        left = [] if c.id in self._between else self._sandboxes.endpoints(c)
        if keep_network:
            run_parallel(lambda: self._end(c), lambda: self._sandboxes.renew(c))
            self._sandboxes.tell_left(c, left)
            self._volumes.tell_down(c)
            self._between.add(c.id)
            return
        self._between.discard(c.id)
        if self._shim.alive(c.id) or self._shim.processes(c.id):
            # Processes first: none of them may send from an address that is allocated anew.
            self._end(c)
            self._sandboxes.close(c)
        else:  # no process is left: the order does not matter, and both take time
            run_parallel(lambda: self._end(c, last), lambda: self._sandboxes.close(c))
        self._cleared.add(c.id)
        self._sandboxes.tell_left(c, left)
        self._volumes.tell_down(c)

    def _end(self, c: Container, last: bool = False) -> None:
        self._shim.delete(c.id)
        self._volumes.down(c)
        self._mounted.release(c.id)
        unshare_memory(self._paths.shared_memory(c.id))
        if last:
            self._mounted.remove(c.id)

    def leftover_ids(self, c: Container) -> bool:
        """Is anything left on the host that only a running container has?"""
        held = (
            self._paths.rootfs(c.id), self._paths.shared_memory(c.id), self._paths.staged(c.id),
        )  # fmt: skip
        return self._shim.remains(c.id) or any(path.exists() for path in held)

    def leftovers(self) -> set[str]:
        """Ids of all containers of which anything is left that only a running one has."""
        places = (
            self._paths.rootfs(""), self._paths.shared_memory(""), self._paths.staged(""),
        )  # fmt: skip
        return self._shim.leftovers().union(*map(_names, places))

    def paused(self, c: Container) -> bool:
        return self._shim.paused(c.id)

    def abandon(self, c: Container) -> None:
        """Kill and clean up a run that was interrupted, failed or is over."""
        self._shim.abort(c.id)
        self.down(c, keep_network=self._awaited(c))

    def sweep(self, ids: set[str]) -> None:
        """Remove processes, files and layers of containers that no longer exist.

        What cannot be removed is reported, and tried again when the daemon next starts.
        """
        _each("processes", lambda: self._shim.leftovers() - ids, self._shim.abort)
        _each("mounts", lambda: _names(self._paths.staged("")) - ids, self._volumes.sweep)
        _each("files", partial(self._unknown, ids), self._sweep_folder)
        _each("layer", lambda: self._snapshots.known() - ids, self._snapshots.remove)

    def _unknown(self, ids: set[str]) -> set[str]:
        held = (self._paths.rootfs(""), self._paths.shared_memory(""), self._paths.container(""))
        return {str(p) for folder in held for p in folder.iterdir() if p.name not in ids}

    def _sweep_folder(self, path: str) -> None:
        self._snapshots.unmount(Path(path))
        remove_tree(Path(path))

    # signals

    def signal(self, c: Container, number: int) -> bool:
        return self._shim.signal(c.id, number)

    def pause(self, c: Container) -> None:
        """NotRunning if it ended just now, before its exit was handled."""
        try:
            self._shim.pause(c.id)
        except NetkitError:
            if not self._shim.alive(c.id):
                raise NotRunning(c.id) from None
            raise

    def resume(self, c: Container) -> None:
        self._shim.resume(c.id)


def _info(run: int, status: ExitStatus) -> ExitInfo:
    return ExitInfo(
        pid=run, exit_code=status.code, finished_ns=status.finished_ns, oom=status.oom
    )


def _names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def _each(what: str, find: Callable[[], set[str]], act: Callable[[str], object]) -> None:
    """Call `act` for each id found; failures are reported, and do not stop the others."""
    ids: set[str] = set()
    threads.attempt(f"listing {what} of removed containers", lambda: ids.update(find()))
    for id in sorted(ids):
        threads.attempt(f"removing {what} of removed containers, {id}", partial(act, id))
