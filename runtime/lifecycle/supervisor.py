"""One run of a container after another: its launch, its end, and what an end leads to.

Each container has one lock for operations; reads take none.  What a row says survives the
daemon: `pending` names an operation that has begun and not been acknowledged, so that the next
start of the daemon can undo it.  An end is noticed by the launcher and handled like any operation,
but that it always succeeds: what of it fails is logged, and done later (`owed`).
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
from runtime.lifecycle.exit_watcher import Ended
from runtime.lifecycle.launch import Launcher
from runtime.lifecycle.retry import Owed
from runtime.lifecycle.waiters import Waiters
from runtime.oci.errors import StartFailed
from runtime.timers import Timers


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
        self.owed = Owed(store, timers, self.lock)

    def lock(self, id: str) -> threading.RLock:
        return self._locks[id]

    def emit(self, c: Container, action: str, **attributes: str) -> None:
        labels = c.config.labels or {}
        what = {**labels, "image": c.config.image, "name": c.name, **attributes}
        threads.attempt(  # what happened has happened, whether or not the event can be sent
            f"event {action} of container {c.name}",
            lambda: self._events.emit("container", action, c.id, what),
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
            except BaseException as error:
                self._unmake(c, error)
                raise
        self.emit(c, "create")

    def _unmake(self, c: Container, error: BaseException) -> None:
        """Creation failed; what cannot be taken away again stays as a dead container."""
        try:
            self._launcher.discard(c)
            self._store.remove(c)
            self._locks.pop(c.id, None)
        except Exception as bad:  # noqa: BLE001  the first error is raised
            error.add_note(f"could not remove container {c.name} again: {bad}")
            self._dead(c, error)

    def launch(self, c: Container) -> None:
        """Raises what went wrong; the container is then as stopped as before, with the reason."""
        # On disk first: a kill from here on is undone by the next daemon.
        c.extra["pending"] = "start"
        try:
            self._store.save(c)
            pid = self._launcher.up(c, self.noticed)
            self._up(c, pid)
        except BaseException as error:
            self._failed(c, error)
            raise
        self.emit(c, "start")
        self._tell_started(c)

    def _up(self, c: Container, pid: int) -> None:
        """The row of what runs.  Where it cannot be written nothing may run."""
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
            threads.attempt(f"ending container {c.name}", lambda: self._launcher.abandon(c))
            raise

    def _failed(self, c: Container, error: BaseException) -> None:
        code = error.exit_code if isinstance(error, StartFailed) else 128
        c.extra.pop("pending", None)
        threads.attempt(f"giving up {c.name}", lambda: self._launcher.given_up(c))
        c.state.status = "exited" if c.state.ever_started else "created"
        c.state.error = str(error)
        c.state.exit_code = code
        c.state.pid = 0
        self.owed.save(c)
        # without the reason, which is the answer to the start: the stock client would print both
        self.waiters.resolve(c.id, (code, ""), "next-exit", "not-running")
        self.emit(c, "die", exitCode=str(code), execDuration="0")
        if c.host_config.auto_remove:
            self._drop(c)

    def adopt(self, c: Container) -> None:
        """A run that outlived the daemon before us goes on."""
        self._launcher.adopt(c, self.noticed)
        self._tell_started(c)

    def _tell_started(self, c: Container) -> None:
        self._tell(c, "start", self.on_started)
        self.owed.attempt(c, "watching for the end", lambda: self._watch(c))

    def _watch(self, c: Container) -> None:
        if c.state.alive:
            self._launcher.watch(c)

    @staticmethod
    def _tell(c: Container, what: str, listeners: Iterable[Callable[[Container], None]]) -> None:
        for listener in listeners:
            threads.attempt(f"after the {what} of container {c.name}", partial(listener, c))

    # ends

    def noticed(self, id: str, ended: Ended) -> None:
        """From the launcher, on a thread of its own, when the first process is gone."""
        # A user's stop or restart holds the lock, and may have accounted for this end by itself or
        # have begun the next run by now: the pid says which run is meant.
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
        # Whether it starts again is decided before anything else: the state that clients see, --rm,
        # and whether the network stays all follow from it, and must agree.
        ran = max(0, ended.finished_ns - epoch_ns(c.state.started_at)) / 1e9
        held = c.id in self._held
        again = not held and restart_policy.again(
            c.host_config.restart_policy,
            exit_code=ended.exit_code,
            stopped=c.manually_stopped,
            count=c.restart_count,
        )
        remove = c.host_config.auto_remove and not again and not held
        self._tell(c, "end", self.on_ended)
        c.state.status = "restarting" if again else "exited"
        c.state.pid = 0
        c.state.exit_code = ended.exit_code
        c.state.oom_killed = ended.oom
        c.state.finished_at = rfc3339(ended.finished_ns)
        self.owed.save(c)
        if ended.oom:
            self.emit(c, "oom")
        self.emit(c, "die", exitCode=str(ended.exit_code), execDuration=str(int(ran)))
        # Before clients are answered: whoever waited for the end finds ports and addresses free.
        self.owed.attempt(c, "cleaning up", partial(self._clean, c, again or held))
        if remove:
            c.state.status = "removing"
            self.owed.save(c)
        self._tell_ended(c)
        if again:
            self.launch_later(c, ran)
        elif remove:
            self._drop(c)

    def _clean(self, c: Container, keep_network: bool) -> None:
        """Take the ended run down, unless another one has begun."""
        if not c.state.alive:
            self._launcher.down(c, keep_network=keep_network)

    def _tell_ended(self, c: Container) -> None:
        # "not-running" as well if it starts again, as Docker: `attach` waits for that
        outcome = (c.state.exit_code, c.state.error)
        self.waiters.resolve(c.id, outcome, "next-exit", "not-running")
        with self._ended:
            self._ended.notify_all()

    def wait_end(self, c: Container, run: int, limit: float | None) -> bool:
        """Until the run with this pid is over, at most `limit` seconds.  Without the lock."""

        def gone() -> bool:
            return not c.state.alive or c.state.pid != run

        with self._ended:
            # a longer one overflows the lock's clock: it is none
            within = limit if limit is None or limit < threading.TIMEOUT_MAX / 2 else None
            return self._ended.wait_for(gone, within)

    # restarts by policy

    def launch_later(self, c: Container, ran: float) -> None:
        """After the delay due to a run of `ran` seconds."""
        wait = restart_policy.delay(self._delay.get(c.id, 0), ran)
        self._delay[c.id] = wait
        self.launch_in(c, wait)

    def launch_in(self, c: Container, seconds: float) -> None:
        self._timers.after(c.id, seconds, lambda: self._again(c.id))

    def afresh(self, c: Container) -> None:
        """A user starts it: no restart is due, and failures count from nothing."""
        self._timers.cancel(c.id)
        if c.state.status == "restarting":
            c.state.status = "exited"
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
                if restart_policy.again(policy, exit_code=c.state.exit_code, stopped=False,
                                 count=c.restart_count):  # fmt: skip
                    c.state.status = "restarting"
                    self.owed.save(c)
                    self.launch_later(c, 0)
                else:
                    self._down(c)

    def _down(self, c: Container) -> None:
        """Nothing runs, and nothing will by itself: its network goes, too."""
        self.owed.attempt(c, "cleaning up", partial(self._clean, c, False))

    # removal

    def drop(self, c: Container) -> None:
        """Remove it.  If that fails it is dead, with the reason, and can be removed again."""
        c.state.status = "removing"
        self._timers.cancel(c.id)
        try:
            self._store.save(c)
            self._launcher.discard(c)
            self._store.remove(c)
        except BaseException as error:
            self._dead(c, error)
            raise
        self._delay.pop(c.id, None)
        self.emit(c, "destroy")
        self.waiters.resolve(c.id, (c.state.exit_code, ""), "next-exit", "not-running", "removed")
        self._locks.pop(c.id, None)

    def _drop(self, c: Container) -> None:
        """By itself: it is tried again if that fails."""
        self.owed.attempt(c, "removing", partial(self.drop, c))

    def _dead(self, c: Container, error: BaseException) -> None:
        """It cannot be removed now: only that may be asked of it again."""
        c.state.status, c.state.error = "dead", str(error)
        self.owed.save(c)
        outcome = (c.state.exit_code, c.state.error)
        self.waiters.resolve(c.id, outcome, "next-exit", "not-running", "removed")


def _has_health(c: Container) -> bool:
    test = c.config.healthcheck.test if c.config.healthcheck else None
    return bool(test) and test != ["NONE"]
