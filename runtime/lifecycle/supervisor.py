"""Supervise the runs of containers: launch, exit, restart by policy, removal.

Each container has one lock for operations; reads take none.  The stored row survives the daemon:
`pending` names an operation that was started and not completed, so that the next start of the
daemon can undo it.  An exit is reported by the launcher and handled like any operation, except
that it cannot be refused: a step of it that fails is logged and retried (`owed`).
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from netkit import threads
from netkit.timestamps import epoch_ns, rfc3339
from runtime.container import restart_policy
from runtime.container.model import Container, HealthState
from runtime.container.store import ContainerStore
from runtime.events import Events
from runtime.lifecycle.exit_watcher import ExitInfo
from runtime.lifecycle.launch import Launcher
from runtime.lifecycle.retry import Owed
from runtime.lifecycle.waiters import Waiters
from runtime.oci.errors import StartFailed
from runtime.timers import Timers


class Supervisor:
    """Callers hold the container's lock (reentrant), except for `emit` and `wait_end`."""

    def __init__(
        self,
        store: ContainerStore,
        launcher: Launcher,
        waiters: Waiters,
        events: Events,
        timers: Timers,
    ) -> None:
        self.waiters = waiters
        self.on_started: list[Callable[[Container], None]] = []
        self.on_ended: list[Callable[[Container], None]] = []
        self._store = store
        self._launcher = launcher
        self._events = events
        self._timers = timers
        self._locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._delay: dict[str, float] = {}  # seconds waited before the latest restart by policy
        self._held: set[str] = set()
        self._doomed: dict[str, bool] = {}  # see `removing_by_user`
        self._ended = threading.Condition()
        self.owed = Owed(store, timers, self.lock)

    def lock(self, id: str) -> threading.RLock:
        return self._locks[id]

    def emit(self, c: Container, action: str, **attributes: str) -> None:
        labels = c.config.labels or {}
        what = {**labels, "image": c.config.image, "name": c.name, **attributes}
        threads.attempt(  # the operation is done: an event that fails must not undo it
            f"event {action} of container {c.name}",
            lambda: self._events.emit("container", action, c.id, what),
        )

    def pruned(self, freed: int) -> None:
        """Emit the end of a prune of containers, which freed that many bytes."""
        what = {"reclaimed": str(freed)}
        threads.attempt("event prune", lambda: self._events.emit("container", "prune", "", what))

    # launching

    def create(self, c: Container) -> None:
        """Create a container; if that fails or the daemon is killed meanwhile, none is left."""
        with self.lock(c.id):
            # The row comes before files and networks, so that recovery finds and removes a
            # container whose creation was cut short.
            c.extra["pending"] = "create"
            try:
                self._store.add(c)
            except BaseException:
                self._locks.pop(c.id, None)
                raise
            try:
                self._launcher.prepare(c)
                del c.extra["pending"]
                self._store.save(c)
                if any(point.type == "volume" for point in c.mounts):
                    self._store.flush()  # after a power cut: else they go with what was not created
            except BaseException as error:
                self._unmake(c, error)
                raise
        self.emit(c, "create")

    def _unmake(self, c: Container, error: BaseException) -> None:
        """Undo a failed creation; if that fails too the container stays, with status "dead"."""
        try:
            c.extra["pending"] = "create"  # its volumes go with it
            self._launcher.discard(c)
            self._store.remove(c)
            self._locks.pop(c.id, None)
        except Exception as bad:  # noqa: BLE001  the first error is raised
            error.add_note(f"could not remove container {c.name} again: {bad}")
            self._dead(c, error)

    def launch(self, c: Container) -> None:
        """Start the container.  On failure it is stopped with the reason in `state.error`."""
        # Saved before anything is set up: if the daemon is killed from here on, recovery undoes it.
        c.extra["pending"] = "start"
        try:
            self._store.save(c)
            pid = self._launcher.up(c, self.on_exit)
            self._up(c, pid)
        except BaseException as error:
            self._failed(c, error)
            raise
        self.emit(c, "start")
        self._tell_started(c)

    def _up(self, c: Container, pid: int) -> None:
        """Record that the container runs; if the row cannot be saved, stop it again.

        A container that runs and is stored as stopped would be lost to the next daemon.
        """
        c.extra.pop("pending", None)
        c.state.status = "running"
        c.state.pid = pid
        c.state.started_at = rfc3339()
        c.state.exit_code = 0
        c.state.error = ""
        c.state.oom_killed = False
        c.state.health = HealthState() if _has_health(c) else None
        c.boot_id = self._launcher.boot_id
        try:
            self._store.save(c)
        except BaseException:
            threads.attempt(f"aborting container {c.name}", lambda: self._launcher.abandon(c))
            raise

    def _failed(self, c: Container, error: BaseException) -> None:
        # As dockerd: 126 and 127 if the command cannot be run, 128 for any other failure.
        code = error.exit_code if isinstance(error, StartFailed) else 128
        c.extra.pop("pending", None)
        what = f"releasing clients attached to container {c.name}"
        threads.attempt(what, lambda: self._launcher.abort_attach(c))
        c.state.status = "exited" if c.state.ever_started else "created"
        c.state.error = str(error)
        c.state.exit_code = code
        c.state.pid = 0
        self.owed.save(c)
        # without the reason, which is the answer to the start: the stock client would print both
        self.waiters.resolve(c.id, (code, ""), "next-exit", "not-running")
        self.emit(c, "die", exitCode=str(code), execDuration="0")
        if c.host_config.auto_remove:  # whatever the reason: the client waits for the removal
            self._drop(c)

    def adopt(self, c: Container) -> None:
        """Supervise a container that was started by an earlier daemon process and still runs."""
        self._launcher.adopt(c, self.on_exit)
        self._tell_started(c)

    def _tell_started(self, c: Container) -> None:
        self._emit(c, "start", self.on_started)
        self.owed.attempt(c, "watching for the exit", lambda: self._watch(c))

    def _watch(self, c: Container) -> None:
        if c.state.alive:
            self._launcher.watch(c)

    @staticmethod
    def _emit(c: Container, what: str, listeners: Iterable[Callable[[Container], None]]) -> None:
        for listener in listeners:
            threads.attempt(f"after the {what} of container {c.name}", partial(listener, c))

    # ends

    def on_exit(self, id: str, ended: ExitInfo) -> None:
        """Handle the exit of a first process; called by the launcher on a worker thread."""
        # An operation that held the lock may have handled this exit already, or have started the
        # next run: the pid identifies the run that ended.
        with self.lock(id):
            c = self._store.get(id)
            if c is None or not c.state.alive or c.state.pid != ended.pid:
                return
            self.handle_exit(c, ended)

    @contextmanager
    def restarting_by_user(self, c: Container) -> Iterator[None]:
        """While a user restarts it: an exit triggers neither the restart policy nor --rm."""
        self._held.add(c.id)
        try:
            yield
        finally:
            self._held.discard(c.id)

    @contextmanager
    def removing_by_user(self, c: Container, *, volumes: bool) -> Iterator[None]:
        """While a user removes it by force: an exit leads to its removal at once, as with --rm.

        It may fail, and is retried; the caller removes what is still there.
        """
        self._doomed[c.id] = volumes
        try:
            yield
        finally:
            self._doomed.pop(c.id, None)

    def handle_exit(self, c: Container, ended: ExitInfo) -> None:
        """Handle an exit: state, events, clean-up, waiters, then restart or removal."""
        # Decide on the restart before anything else: the state shown to clients, --rm and whether
        # the network is kept all depend on it, and must agree.
        ran = max(0, ended.finished_ns - epoch_ns(c.state.started_at)) / 1e9
        held = c.id in self._held
        again = not held and restart_policy.should_restart(
            c.host_config.restart_policy,
            exit_code=ended.exit_code,
            stopped=c.manually_stopped,
            count=c.restart_count,
        )
        volumes = self._doomed.get(c.id)
        doomed = not again and not held and volumes is not None
        remove = (c.host_config.auto_remove or doomed) and not again and not held
        self._emit(c, "end", self.on_ended)
        c.state.status = "restarting" if again else "removing" if doomed else "exited"
        if doomed and volumes:
            c.extra["remove_volumes"] = True
        c.state.pid = 0
        c.state.exit_code = ended.exit_code
        c.state.oom_killed = ended.oom
        c.state.finished_at = rfc3339(ended.finished_ns)
        saved = self.owed.save(c)
        if ended.oom:
            self.emit(c, "oom")
        self.emit(c, "die", exitCode=str(ended.exit_code), execDuration=str(int(ran)))
        # Before waiters are resolved: a client that waited may reuse the ports and addresses.
        # `last`: only if the next daemon would complete the removal, which begins with its layer.
        last = remove and (saved or not doomed)
        self.owed.attempt(c, "cleaning up", partial(self._clean, c, again or held, last=last))
        if remove:
            c.state.status = "removing"  # saved by `remove`
        self._tell_ended(c)
        if again:
            self.launch_later(c, ran)
        elif remove:
            self._drop(c)

    def _clean(self, c: Container, keep_network: bool, *, last: bool = False) -> None:
        """Clean up after the run, unless the next one has started (clean-up may be a retry)."""
        if not c.state.alive:
            self._launcher.down(c, keep_network=keep_network, last=last)

    def _tell_ended(self, c: Container) -> None:
        # "not-running" also if it restarts, as Docker does: `attach` waits for that
        outcome = (c.state.exit_code, c.state.error)
        self.waiters.resolve(c.id, outcome, "next-exit", "not-running")
        with self._ended:
            self._ended.notify_all()

    def wait_end(self, c: Container, run: int, limit: float | None) -> bool:
        """Wait until the run with this pid has ended, at most `limit` seconds; did it?

        Callers do not hold the lock: the exit is handled on another thread, which takes it.
        """

        def gone() -> bool:
            return not c.state.alive or c.state.pid != run

        with self._ended:
            # Condition.wait raises OverflowError for more: treat that as no limit
            within = limit if limit is None or limit < threading.TIMEOUT_MAX / 2 else None
            return self._ended.wait_for(gone, within)

    # restarts by policy

    def launch_later(self, c: Container, ran: float) -> None:
        """Schedule a restart; a run of `ran` seconds determines the back-off."""
        wait = restart_policy.next_delay(self._delay.get(c.id, 0), ran)
        self._delay[c.id] = wait
        self.launch_in(c, wait)

    def launch_in(self, c: Container, seconds: float) -> None:
        self._timers.after(c.id, seconds, lambda: self._again(c.id))

    def reset_restart_state(self, c: Container) -> None:
        """Reset restart count and back-off, and cancel a scheduled restart: a user starts it."""
        self._timers.cancel(c.id)
        if c.state.status == "restarting":
            c.state.status = "exited"
        self._delay.pop(c.id, None)
        c.restart_count = 0
        c.manually_stopped = False

    def cancel_restart(self, c: Container) -> bool:
        """Cancel a scheduled restart; the container stays stopped.  False if none was scheduled."""
        with self.lock(c.id):
            if c.state.status != "restarting":
                return False
            self._timers.cancel(c.id)
            c.manually_stopped = True
            c.state.status = "exited"
            self.owed.save(c)
            self._down(c)
            self.waiters.resolve(c.id, (c.state.exit_code, ""), "not-running")
            return True

    def _again(self, id: str) -> None:
        with self.lock(id):
            c = self._store.get(id)
            if c is None or c.state.status != "restarting":
                return
            c.restart_count += 1
            try:
                self.launch(c)
            except Exception as error:  # noqa: BLE001  reported; its policy says what comes next
                threads.report(f"restarting container {c.name}", error)
                if self._store.get(id) is None:
                    return
                policy = c.host_config.restart_policy
                if restart_policy.should_restart(policy, exit_code=c.state.exit_code, stopped=False,
                                 count=c.restart_count):  # fmt: skip
                    c.state.status = "restarting"
                    self.owed.save(c)
                    self.launch_later(c, 0)
                else:
                    self._down(c)

    def _down(self, c: Container) -> None:
        """Clean up a container that will not restart by itself, its network included."""
        self.owed.attempt(c, "cleaning up", partial(self._clean, c, False))

    # removal

    def remove(self, c: Container, *, volumes: bool = False) -> None:
        """Remove the container.  If that fails its status is "dead"; removal can be repeated.

        `volumes`: with its anonymous volumes, which --rm removes in any case.
        """
        c.state.status = "removing"
        if volumes or c.host_config.auto_remove:
            c.extra["remove_volumes"] = True  # also when the next daemon completes it
        self._timers.cancel(c.id)
        try:
            self._store.save(c)  # first: recovery completes a removal that was cut short
            self._launcher.discard(c)
            self._store.remove(c)
        except BaseException as error:
            self._dead(c, error)
            raise
        self._delay.pop(c.id, None)
        self.emit(c, "destroy")
        self.waiters.resolve(c.id, (c.state.exit_code, ""), "next-exit", "not-running", "removed")
        self._locks.pop(c.id, None)  # the mapping would grow with each container otherwise

    def _drop(self, c: Container) -> None:
        """Remove the container without a client (--rm); retried until it succeeds."""
        self.owed.attempt(c, "removing", partial(self.remove, c))

    def _dead(self, c: Container, error: BaseException) -> None:
        """Set status "dead" after a failed removal: only removal is accepted from then on."""
        c.state.status, c.state.error = "dead", str(error)
        self.owed.save(c)
        outcome = (c.state.exit_code, c.state.error)
        self.waiters.resolve(c.id, outcome, "next-exit", "not-running", "removed")


def _has_health(c: Container) -> bool:
    test = c.config.healthcheck.test if c.config.healthcheck else None
    return bool(test) and test != ["NONE"]
