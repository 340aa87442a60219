"""The life of containers: start, stop, ends, restarts, removal.

Each container has one lock for operations; reads take none.  What a row says survives the
daemon: `pending` names an operation that has begun and not been acknowledged, so that the next
start of the daemon can undo it.  An end is noticed by the launcher and handled like any operation.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress

from netkit.errors import Conflict, NetkitError
from runtime.clock import epoch_ns, rfc3339
from runtime.containers import restart
from runtime.containers.errors import NotRunning, Paused, StartFailed
from runtime.containers.launch import Ended, Launcher
from runtime.containers.model import Container, HealthState
from runtime.containers.signals import number
from runtime.containers.store import ContainerStore
from runtime.containers.waiting import Waiters
from runtime.ports.engine import Events
from runtime.timers import Timers

log = logging.getLogger(__name__)

STOP_TIMEOUT = 10  # seconds, as Docker
KILL_WAIT = 10.0  # seconds to see the end after SIGKILL


class Lifecycle:
    def __init__(
        self,
        store: ContainerStore,
        launcher: Launcher,
        waiters: Waiters,
        events: Events,
        timers: Timers,
    ) -> None:
        self.store = store
        self.launcher = launcher
        self.waiters = waiters
        self.events = events
        self.timers = timers
        self.on_started: list[Callable[[Container], None]] = []
        self.on_ended: list[Callable[[Container], None]] = []
        self._locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._delay: dict[str, float] = {}
        self._held: set[str] = set()  # being restarted by a user: no policy, no auto-remove
        self._ended = threading.Condition()

    def lock(self, id: str) -> threading.RLock:
        return self._locks[id]

    def emit(self, c: Container, action: str, **attributes: str) -> None:
        labels = c.config.labels or {}
        self.events.emit(
            "container",
            action,
            c.id,
            {**labels, "image": c.config.image, "name": c.name, **attributes},
        )

    # making

    def make(self, c: Container) -> None:
        """From nothing to "created"; on failure, or a kill half-way, there is no such container."""
        with self.lock(c.id):
            c.extra["pending"] = "create"
            try:
                self.store.add(c)
            except BaseException:
                self._locks.pop(c.id, None)
                raise
            try:
                self.launcher.prepare(c)
                del c.extra["pending"]
                self.store.save(c)
            except BaseException:
                self.launcher.discard(c)
                self.store.remove(c)
                self._locks.pop(c.id, None)
                raise
        self.emit(c, "create")

    # starting

    def start(self, ref: str) -> bool:
        c = self.store.find(ref)
        with self.lock(c.id):
            self._must_exist(c)
            if c.state.status == "paused":
                raise Conflict("cannot start a paused container, try unpause instead")
            if c.state.status == "running":
                return False
            self.timers.cancel(c.id)
            self._delay.pop(c.id, None)
            c.restart_count = 0
            c.manually_stopped = False
            self._launch(c)
            return True

    def _launch(self, c: Container) -> None:
        """Raises what went wrong; the container is then as stopped as before, with the reason."""
        c.extra["pending"] = "start"
        self.store.save(c)
        try:
            pid = self.launcher.up(c, self._noticed)
        except BaseException as error:
            code = error.exit_code if isinstance(error, StartFailed) else 128
            c.extra.pop("pending", None)
            self.launcher.given_up(c)
            c.state.status = "exited" if c.state.started_at[:4] != "0001" else "created"
            c.state.error = str(error)
            c.state.exit_code = code
            c.state.pid = 0
            self.store.save(c)
            self.waiters.resolve(c.id, (code, str(error)), "next-exit", "not-running")
            self.emit(c, "die", exitCode=str(code), execDuration="0")
            if c.host_config.auto_remove and isinstance(error, NetkitError):
                self._remove(c)
            raise
        c.extra.pop("pending", None)
        c.state.status = "running"
        c.state.pid = pid
        c.state.started_at = rfc3339()
        c.state.exit_code = 0
        c.state.error = ""
        c.state.oom_killed = False
        c.state.health = HealthState() if self._has_health(c) else None
        c.boot_id = self.launcher.boot_id
        self.store.save(c)
        self.emit(c, "start")
        for told in self.on_started:
            told(c)
        self.launcher.watch(c)

    @staticmethod
    def _has_health(c: Container) -> bool:
        test = c.config.healthcheck.test if c.config.healthcheck else None
        return bool(test) and test != ["NONE"]

    # ends

    def _noticed(self, id: str, ended: Ended) -> None:
        """From the launcher, on a thread of its own, when the first process is gone."""
        with self.lock(id):
            c = self.store.get(id)
            if c is None or not c.state.alive or c.state.pid != ended.pid:
                return
            self.finish(c, ended)

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
        self.store.save(c)
        if ended.oom:
            self.emit(c, "oom")
        self.emit(c, "die", exitCode=str(ended.exit_code), execDuration=str(int(ran)))
        try:
            self.launcher.down(c, keep_network=again or held)
        except NetkitError as error:  # it has ended all the same; rows of its network remember
            log.error("could not clean up after container %s: %s", c.name, error)
        if remove:
            c.state.status = "removing"
            self.store.save(c)
        outcome = (ended.exit_code, c.state.error)
        conditions = ("next-exit",) if again else ("next-exit", "not-running")
        self.waiters.resolve(c.id, outcome, *conditions)
        with self._ended:
            self._ended.notify_all()
        if again:
            self._again_later(c, ran)
        elif remove:
            with suppress(NetkitError):  # `_remove` told who waits
                self._remove(c)

    def _again_later(self, c: Container, ran: float) -> None:
        wait = restart.delay(self._delay.get(c.id, 0), ran)
        self._delay[c.id] = wait
        self.timers.after(c.id, wait, lambda: self._again(c.id))

    def _again(self, id: str) -> None:
        with self.lock(id):
            c = self.store.get(id)
            if c is None or c.state.status != "restarting":
                return
            c.restart_count += 1
            try:
                self._launch(c)
            except NetkitError:
                policy = c.host_config.restart_policy
                if self.store.get(id) is None:
                    return
                if restart.again(policy, exit_code=c.state.exit_code, stopped=False,
                                 count=c.restart_count):  # fmt: skip
                    c.state.status = "restarting"
                    self.store.save(c)
                    self._again_later(c, 0)
                else:
                    self.launcher.down(c, keep_network=False)

    # ending

    def stop(self, ref: str, timeout: int | None = None, signal: str | None = None) -> bool:
        c = self.store.find(ref)
        if not self._cancel_restart(c) and not c.state.alive:
            return False
        with self.lock(c.id):
            if not c.state.alive:
                return True
            c.manually_stopped = True
            self.store.save(c)
        self._stop(c, timeout, signal)
        self.emit(c, "stop")
        return True

    def _cancel_restart(self, c: Container) -> bool:
        """A container waiting to be restarted stays down.  True if it was waiting."""
        with self.lock(c.id):
            if c.state.status != "restarting":
                return False
            self.timers.cancel(c.id)
            c.manually_stopped = True
            c.state.status = "exited"
            self.store.save(c)
            self.launcher.down(c, keep_network=False)
            self.waiters.resolve(c.id, (c.state.exit_code, ""), "not-running")
            return True

    def _stop(self, c: Container, timeout: int | None, signal: str | None) -> None:
        wish = signal or c.config.stop_signal or "TERM"
        if timeout is None:
            timeout = c.config.stop_timeout if c.config.stop_timeout is not None else STOP_TIMEOUT
        run = c.state.pid
        if self._signal(c, number(wish)):
            if c.state.status == "paused":
                self._unpause(c)
            limit = None if timeout < 0 else float(timeout)
            if self._wait_end(c, run, limit):
                return
        if c.state.status == "paused":
            self._signal(c, 9)
            self._unpause(c)
        elif c.state.alive and c.state.pid == run:
            self._signal(c, 9)
        if not self._wait_end(c, run, KILL_WAIT):
            self.launcher.check(c)
            if not self._wait_end(c, run, KILL_WAIT):
                raise Conflict(f"container {c.id} did not end within {KILL_WAIT:.0f} s of SIGKILL")

    def _signal(self, c: Container, signal: int) -> bool:
        """False if there is nobody to signal any more."""
        sent = self.launcher.signal(c, signal)
        if sent:
            self.emit(c, "kill", signal=str(signal))
        return sent

    def _wait_end(self, c: Container, run: int, limit: float | None) -> bool:
        def gone() -> bool:
            return not c.state.alive or c.state.pid != run

        with self._ended:
            return self._ended.wait_for(gone, limit)

    def restart(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        c = self.store.find(ref)
        with self.lock(c.id):
            self._must_exist(c)
        if c.state.alive:
            self._held.add(c.id)
            try:
                self._stop(c, timeout, signal)
            finally:
                self._held.discard(c.id)
        self._cancel_restart(c)
        self.start(c.id)
        self.emit(c, "restart")

    def kill(self, ref: str, signal: str = "KILL") -> None:
        c = self.store.find(ref)
        wish = number(signal or "KILL")
        self._cancel_restart(c) if wish == 9 else None
        with self.lock(c.id):
            if not c.state.alive:
                raise Conflict(f"cannot kill container: {ref}: container {c.id} is not running")
            run = c.state.pid
            if wish in {9, number(c.config.stop_signal or "TERM")}:
                c.manually_stopped = True
                self.store.save(c)
            if not self._signal(c, wish):
                raise Conflict(f"cannot kill container: {ref}: container {c.id} is not running")
            if wish == 9 and c.state.status == "paused":
                self._unpause(c)
        if wish == 9:
            self._wait_end(c, run, KILL_WAIT)

    def pause(self, ref: str) -> None:
        c = self.store.find(ref)
        with self.lock(c.id):
            if c.state.status == "paused":
                raise Conflict(f"container {c.id} is already paused")
            if c.state.status != "running":
                raise NotRunning(c.id)
            self.launcher.pause(c)
            c.state.status = "paused"
            self.store.save(c)
            self.emit(c, "pause")

    def unpause(self, ref: str) -> None:
        c = self.store.find(ref)
        with self.lock(c.id):
            if c.state.status != "paused":
                raise Conflict(f"container {c.id} is not paused")
            self._unpause(c)

    def _unpause(self, c: Container) -> None:
        self.launcher.resume(c)
        if c.state.status == "paused":
            c.state.status = "running"
            self.store.save(c)
            self.emit(c, "unpause")

    # removing

    def remove(self, ref: str, *, force: bool) -> None:
        c = self.store.find(ref)
        if c.state.status == "removing":
            raise Conflict(f"removal of container {c.id} is already in progress")
        if (c.state.alive or c.state.status == "restarting") and not force:
            how = "unpause and then stop" if c.state.status == "paused" else "stop"
            raise Conflict(
                f'cannot remove container "{ref}": container is {c.state.status}: {how} the '
                "container before removing or force remove"
            )
        self._cancel_restart(c)
        if c.state.alive:
            c.manually_stopped = True
            self._stop(c, 0, "KILL")
        with self.lock(c.id):
            if self.store.get(c.id) is c:
                self._remove(c)

    def _remove(self, c: Container) -> None:
        """If that fails it is dead, with the reason, and can be removed again."""
        c.state.status = "removing"
        self.store.save(c)
        self.timers.cancel(c.id)
        try:
            self.launcher.discard(c)
        except NetkitError as error:
            log.error("could not remove container %s: %s", c.name, error)
            c.state.status, c.state.error = "dead", str(error)
            self.store.save(c)
            outcome = (c.state.exit_code, c.state.error)
            self.waiters.resolve(c.id, outcome, "next-exit", "not-running", "removed")
            raise
        self.store.remove(c)
        self._delay.pop(c.id, None)
        self.emit(c, "destroy")
        self.waiters.resolve(c.id, (c.state.exit_code, ""), "next-exit", "not-running", "removed")
        self._locks.pop(c.id, None)

    @staticmethod
    def _must_exist(c: Container) -> None:
        if c.state.status in {"removing", "dead"}:
            raise Conflict("container is marked for removal and cannot be started")

    def must_run(self, ref: str) -> Container:
        c = self.store.find(ref)
        if c.state.status == "restarting":
            raise Conflict(f"Container {c.id} is restarting, wait until the container is running")
        if not c.state.alive:
            raise NotRunning(c.id)
        return c

    def must_be_awake(self, ref: str) -> Container:
        c = self.must_run(ref)
        if c.state.status == "paused":
            raise Paused(c.id)
        return c

    # the daemon's own start and end

    def restore(self, known: Mapping[str, int]) -> None:
        """Bring documents and processes into agreement.  `known`: container id to live pid."""
        remains = self.launcher.remains()
        for c in self.store.all():
            with self.lock(c.id):
                self._restore(c, known.get(c.id))
                if c.id in remains and not c.state.alive and self.store.get(c.id) is c:
                    self.launcher.abandon(c)  # its end was noted, and not cleaned up after
        self.launcher.sweep({c.id for c in self.store.all()})

    def _restore(self, c: Container, pid: int | None) -> None:
        if c.state.status in {"removing", "dead"}:
            with suppress(NetkitError):
                self._remove(c)
            return
        pending = c.extra.pop("pending", None)  # begun, never acknowledged
        if pending == "create":
            self._remove(c)
            return
        if pending:
            self.launcher.abandon(c)
            was = c.state.status
            c.state.status = "exited" if c.state.started_at[:4] != "0001" else "created"
            self.store.save(c)
            if c.host_config.auto_remove:
                self._remove(c)
            elif was == "restarting":
                c.state.status = "restarting"
                self._again_later(c, 0)
            return
        if c.state.alive and pid == c.state.pid:
            self.launcher.adopt(c, self._noticed)
            if self.launcher.agree(c):
                self.store.save(c)
            for told in self.on_started:
                told(c)
            self.launcher.watch(c)
        elif c.state.alive:
            self.finish(c, self.launcher.post_mortem(c))
        elif c.state.status == "restarting":
            self._again_later(c, 0)
        elif c.state.status == "exited" and c.host_config.auto_remove:
            self._remove(c)  # a --rm that fell due while nobody was there

    def start_due(self) -> None:
        """Those whose policy wants them up after the daemon was down."""
        for c in reversed(self.store.all()):
            due = restart.after_boot(
                c.host_config.restart_policy,
                was_running=False,
                stopped=c.manually_stopped,
                exit_code=c.state.exit_code,
            )
            started = c.state.started_at[:4] != "0001"
            if due and started and c.state.status == "exited":
                c.state.status = "restarting"
                self.timers.after(c.id, 0.0, lambda id=c.id: self._again(id))  # type: ignore[misc]
