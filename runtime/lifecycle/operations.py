"""Carry out the operations of users: start, stop, restart, kill, pause, remove."""

from __future__ import annotations

from netkit.errors import Conflict
from runtime.container.errors import NotRunning
from runtime.container.model import Container
from runtime.container.signals import parse_signal
from runtime.container.store import ContainerStore
from runtime.lifecycle.launch import Launcher
from runtime.lifecycle.supervisor import Supervisor

STOP_TIMEOUT = 10  # seconds, as Docker
KILL_WAIT = 10.0  # seconds to wait for the exit after SIGKILL


class ContainerOperations:
    def __init__(self, store: ContainerStore, launcher: Launcher, supervisor: Supervisor) -> None:
        self._store = store
        self._launcher = launcher
        self._supervisor = supervisor

    # up

    def start(self, ref: str) -> bool:
        c = self._store.find(ref)
        with self._supervisor.lock(c.id):
            _must_exist(c)
            if c.state.status == "paused":
                raise Conflict("cannot start a paused container, try unpause instead")
            if c.state.status == "running":
                return False
            self._supervisor.reset_restart_state(c)
            self._supervisor.launch(c)
            return True

    def restart(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        c = self._store.find(ref)
        with self._supervisor.lock(c.id):
            _must_exist(c)
        if c.state.alive:
            with self._supervisor.restarting_by_user(c):
                self._stop(c, timeout, signal)
            self._supervisor.emit(c, "stop")
        self.start(c.id)
        self._supervisor.emit(c, "restart")

    # down

    def stop(self, ref: str, timeout: int | None = None, signal: str | None = None) -> bool:
        c = self._store.find(ref)
        if not self._supervisor.cancel_restart(c) and not c.state.alive:
            return False
        with self._supervisor.lock(c.id):
            if not c.state.alive:
                return True
            self._by_user(c)
        # Without the lock, as in `restart` and `remove`: the exit is handled under it.
        self._stop(c, timeout, signal)
        self._supervisor.emit(c, "stop")
        return True

    def _by_user(self, c: Container) -> None:
        """Record that a user stops it, before it exits: the restart policy must not apply."""
        before, c.manually_stopped = c.manually_stopped, True
        try:
            self._store.save(c)
        except BaseException:
            c.manually_stopped = before
            raise

    def _stop(self, c: Container, timeout: int | None, signal: str | None) -> None:
        name = signal or c.config.stop_signal or "TERM"
        if timeout is None:
            timeout = c.config.stop_timeout if c.config.stop_timeout is not None else STOP_TIMEOUT
        run = c.state.pid
        if self._signal(c, parse_signal(name)):
            if c.state.status == "paused":
                self._unpause(c)  # a frozen process does not get the signal
            limit = None if timeout < 0 else float(timeout)
            if self._supervisor.wait_end(c, run, limit):
                return
        if c.state.status == "paused":
            self._signal(c, 9)
            self._unpause(c)  # with cgroup v1 a frozen process is killed only once it is thawed
        elif c.state.alive and c.state.pid == run:
            self._signal(c, 9)
        if not self._supervisor.wait_end(c, run, KILL_WAIT):
            self._launcher.check(c)  # the notification of the exit may have been lost
            if not self._supervisor.wait_end(c, run, KILL_WAIT):
                raise Conflict(f"container {c.id} did not end within {KILL_WAIT:.0f} s of SIGKILL")

    def _signal(self, c: Container, signal: int) -> bool:
        """Send a signal; False if the process no longer exists."""
        sent = self._launcher.signal(c, signal)
        if sent:
            self._supervisor.emit(c, "kill", signal=str(signal))
        return sent

    def kill(self, ref: str, signal: str = "KILL") -> None:
        c = self._store.find(ref)
        number = parse_signal(signal or "KILL")
        if number == 9:
            self._supervisor.cancel_restart(c)
        with self._supervisor.lock(c.id):
            if not c.state.alive:
                raise Conflict(f"cannot kill container: {ref}: container {c.id} is not running")
            run = c.state.pid
            # As dockerd: after other signals the restart policy still applies.
            if number in {9, parse_signal(c.config.stop_signal or "TERM")}:
                self._by_user(c)
            if not self._signal(c, number):
                raise Conflict(f"cannot kill container: {ref}: container {c.id} is not running")
            if number == 9 and c.state.status == "paused":
                self._unpause(c)
        if number == 9:
            self._supervisor.wait_end(c, run, KILL_WAIT)

    def pause(self, ref: str) -> None:
        c = self._store.find(ref)
        with self._supervisor.lock(c.id):
            if c.state.status == "paused":
                raise Conflict(f"container {c.id} is already paused")
            if c.state.status != "running":
                raise NotRunning(c.id)
            self._launcher.pause(c)
            c.state.status = "paused"
            self._supervisor.owed.save(c)
            self._supervisor.emit(c, "pause")

    def unpause(self, ref: str) -> None:
        c = self._store.find(ref)
        with self._supervisor.lock(c.id):
            if c.state.status != "paused":
                raise Conflict(f"container {c.id} is not paused")
            self._unpause(c)

    def _unpause(self, c: Container) -> None:
        self._launcher.resume(c)
        if c.state.status == "paused":
            c.state.status = "running"
            self._supervisor.owed.save(c)
            self._supervisor.emit(c, "unpause")

    def remove(self, ref: str, *, force: bool, volumes: bool = False) -> None:
        """`volumes`: its anonymous volumes, too, which no other container uses."""
        c = self._store.find(ref)
        if c.state.status == "removing":
            raise Conflict(f"removal of container {c.id} is already in progress")
        if (c.state.alive or c.state.status == "restarting") and not force:
            how = "unpause and then stop" if c.state.status == "paused" else "stop"
            raise Conflict(
                f'cannot remove container "{ref}": container is {c.state.status}: {how} the '
                "container before removing or force remove"
            )
        self._supervisor.cancel_restart(c)
        if c.state.alive:
            c.manually_stopped = True  # the restart policy must not apply
            with self._supervisor.removing_by_user(c, volumes=volumes):
                self._stop(c, 0, "KILL")
        if self._store.get(c.id) is not c:
            return  # its end has led to it
        with self._supervisor.lock(c.id):
            if self._store.get(c.id) is c:
                self._supervisor.remove(c, volumes=volumes)


def _must_exist(c: Container) -> None:
    if c.state.status in {"removing", "dead"}:
        raise Conflict("container is marked for removal and cannot be started")
