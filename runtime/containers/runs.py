"""One run of a container after another: its launch, its end, and what an end leads to.

Each container has one lock for operations; reads take none.  What a row says survives the
daemon: `pending` names an operation that has begun and not been acknowledged, so that the next
start of the daemon can undo it.  An end is noticed by the launcher and handled like any operation.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from netkit.errors import NetkitError
from runtime.clock import epoch_ns, rfc3339
from runtime.containers import restart
from runtime.containers.errors import StartFailed
from runtime.containers.launch import Launcher
from runtime.containers.model import Container, HealthState
from runtime.containers.store import ContainerStore
from runtime.containers.waiting import Waiters
from runtime.containers.watch import Ended
from runtime.ports.engine import Events
from runtime.timers import Timers

log = logging.getLogger(__name__)


class Runs:
    """Callers hold the container's lock, but for `emit` and `wait_end`; it may be taken again."""

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
        self._ended = threading.Condition()

    def lock(self, id: str) -> threading.RLock:
        return self._locks[id]

    def emit(self, c: Container, action: str, **attributes: str) -> None:
        labels = c.config.labels or {}
        self._events.emit(
            "container",
            action,
            c.id,
            {**labels, "image": c.config.image, "name": c.name, **attributes},
        )

    # launching

    def make(self, c: Container) -> None:
        """From nothing to "created"; on failure, or a kill half-way, there is no such container."""
        with self.lock(c.id):
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
            except BaseException:
                self._launcher.discard(c)
                self._store.remove(c)
                self._locks.pop(c.id, None)
                raise
        self.emit(c, "create")

    def launch(self, c: Container) -> None:
        """Raises what went wrong; the container is then as stopped as before, with the reason."""
        c.extra["pending"] = "start"
        self._store.save(c)
        try:
            pid = self._launcher.up(c, self.noticed)
        except BaseException as error:
            self._failed(c, error)
            raise
        c.extra.pop("pending", None)
        c.state.status = "running"
        c.state.pid = pid
        c.state.started_at = rfc3339()
        c.state.exit_code = 0
        c.state.error = ""
        c.state.oom_killed = False
        c.state.health = HealthState() if _has_health(c) else None
        c.boot_id = self._launcher.boot_id
        self._store.save(c)
        self.emit(c, "start")
        self._tell_started(c)

    def _failed(self, c: Container, error: BaseException) -> None:
        code = error.exit_code if isinstance(error, StartFailed) else 128
        c.extra.pop("pending", None)
        self._launcher.given_up(c)
        c.state.status = "exited" if c.state.ever_started else "created"
        c.state.error = str(error)
        c.state.exit_code = code
        c.state.pid = 0
        self._store.save(c)
        self.waiters.resolve(c.id, (code, str(error)), "next-exit", "not-running")
        self.emit(c, "die", exitCode=str(code), execDuration="0")
        if c.host_config.auto_remove and isinstance(error, NetkitError):
            self.drop(c)

    def adopt(self, c: Container) -> None:
        """A run that outlived the daemon before us goes on."""
        self._launcher.adopt(c, self.noticed)
        self._tell_started(c)

    def _tell_started(self, c: Container) -> None:
        for told in self.on_started:
            told(c)
        self._launcher.watch(c)

    # ends

    def noticed(self, id: str, ended: Ended) -> None:
        """From the launcher, on a thread of its own, when the first process is gone."""
        with self.lock(id):
            c = self._store.get(id)
            if c is None or not c.state.alive or c.state.pid != ended.pid:
                return
            self.finish(c, ended)

    @contextmanager
    def held(self, c: Container) -> Iterator[None]:
        """A user restarts it: an end meanwhile is no matter of its policy, nor of --rm."""
        self._held.add(c.id)
        try:
            yield
        finally:
            self._held.discard(c.id)

    def finish(self, c: Container, ended: Ended) -> None:
        """Account for an end: state, events, waiters, clean-up, and what comes next."""
        ran = max(0, ended.finished_ns - epoch_ns(c.state.started_at)) / 1e9
        held = c.id in self._held
        again = not held and restart.again(
            c.host_config.restart_policy,
            exit_code=ended.exit_code,
            stopped=c.manually_stopped,
            count=c.restart_count,
        )
        remove = c.host_config.auto_remove and not again and not held
        for told in self.on_ended:
            told(c)
        c.state.status = "restarting" if again else "exited"
        c.state.pid = 0
        c.state.exit_code = ended.exit_code
        c.state.oom_killed = ended.oom
        c.state.finished_at = rfc3339(ended.finished_ns)
        self._store.save(c)
        if ended.oom:
            self.emit(c, "oom")
        self.emit(c, "die", exitCode=str(ended.exit_code), execDuration=str(int(ran)))
        try:
            self._launcher.down(c, keep_network=again or held)
        except NetkitError as error:  # it has ended all the same; rows of its network remember
            log.error("could not clean up after container %s: %s", c.name, error)
        if remove:
            c.state.status = "removing"
            self._store.save(c)
        self._tell_ended(c, again)
        if again:
            self.launch_later(c, ran)
        elif remove:
            with suppress(NetkitError):  # `drop` told who waits
                self.drop(c)

    def _tell_ended(self, c: Container, again: bool) -> None:
        conditions = ("next-exit",) if again else ("next-exit", "not-running")
        self.waiters.resolve(c.id, (c.state.exit_code, c.state.error), *conditions)
        with self._ended:
            self._ended.notify_all()

    def wait_end(self, c: Container, run: int, limit: float | None) -> bool:
        """Until the run with this pid is over, at most `limit` seconds.  Without the lock."""

        def gone() -> bool:
            return not c.state.alive or c.state.pid != run

        with self._ended:
            return self._ended.wait_for(gone, limit)

    # restarts by policy

    def launch_later(self, c: Container, ran: float) -> None:
        """After the delay due to a run of `ran` seconds."""
        wait = restart.delay(self._delay.get(c.id, 0), ran)
        self._delay[c.id] = wait
        self.launch_in(c, wait)

    def launch_in(self, c: Container, seconds: float) -> None:
        self._timers.after(c.id, seconds, lambda: self._again(c.id))

    def afresh(self, c: Container) -> None:
        """A user starts it: no restart is due, and failures count from nothing."""
        self._timers.cancel(c.id)
        self._delay.pop(c.id, None)
        c.restart_count = 0
        c.manually_stopped = False

    def cancel_restart(self, c: Container) -> bool:
        """A container waiting to be restarted stays down.  True if it was waiting."""
        with self.lock(c.id):
            if c.state.status != "restarting":
                return False
            self._timers.cancel(c.id)
            c.manually_stopped = True
            c.state.status = "exited"
            self._store.save(c)
            self._launcher.down(c, keep_network=False)
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
            except NetkitError:
                if self._store.get(id) is None:
                    return
                policy = c.host_config.restart_policy
                if restart.again(policy, exit_code=c.state.exit_code, stopped=False,
                                 count=c.restart_count):  # fmt: skip
                    c.state.status = "restarting"
                    self._store.save(c)
                    self.launch_later(c, 0)
                else:
                    self._launcher.down(c, keep_network=False)

    # removal

    def drop(self, c: Container) -> None:
        """Remove it.  If that fails it is dead, with the reason, and can be removed again."""
        c.state.status = "removing"
        self._store.save(c)
        self._timers.cancel(c.id)
        try:
            self._launcher.discard(c)
        except NetkitError as error:
            log.error("could not remove container %s: %s", c.name, error)
            c.state.status, c.state.error = "dead", str(error)
            self._store.save(c)
            outcome = (c.state.exit_code, c.state.error)
            self.waiters.resolve(c.id, outcome, "next-exit", "not-running", "removed")
            raise
        self._store.remove(c)
        self._delay.pop(c.id, None)
        self.emit(c, "destroy")
        self.waiters.resolve(c.id, (c.state.exit_code, ""), "next-exit", "not-running", "removed")
        self._locks.pop(c.id, None)


def _has_health(c: Container) -> bool:
    test = c.config.healthcheck.test if c.config.healthcheck else None
    return bool(test) and test != ["NONE"]
