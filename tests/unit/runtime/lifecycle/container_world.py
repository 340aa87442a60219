"""The life of containers on fakes, in which any call may be made to fail.

Real are Supervisor, ContainerOperations, Launcher, LogRotator, the store on SQLite, and files.
Calls to what is faked, to the database and to the file system are points, named as in
"shim.start 2", the second call of that function; `fail` makes one of them raise, `cut` makes it
and all that follow raise, as if the daemon had been killed there.  A second World on the same
folder and Host is the next daemon.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netkit import threads
from netkit.spec import Sandbox
from netkit.store import Database
from runtime.container.config import Config, HostConfig, LogConfig, RestartPolicy
from runtime.container.model import Container
from runtime.container.store import ContainerStore
from runtime.lifecycle.launch import Launcher
from runtime.lifecycle.log_rotation import LogRotator
from runtime.lifecycle.operations import ContainerOperations
from runtime.lifecycle.recovery import Recovery
from runtime.lifecycle.supervisor import Supervisor
from runtime.lifecycle.waiters import Waiters
from runtime.oci.shim import ExitStatus, Running
from runtime.paths import Paths
from tests.unit.points import Faulty, Points

ID = "c" * 64
FILE_CALLS = ("mkdir", "rename", "replace", "unlink", "stat", "open", "rmdir")


def watch_files(points: Points, root: Path, patch: pytest.MonkeyPatch) -> None:
    """Calls of the file system below a folder are points."""
    for module, name in (*((os, name) for name in FILE_CALLS), (io, "open")):
        real = getattr(module, name)

        def call(path: Any, *args: Any, _real: Any = real, _name: str = name, **kw: Any) -> Any:
            if str(path).startswith(str(root)):
                points.hit(f"os.{_name}")
            return _real(path, *args, **kw)

        patch.setattr(module, name, call)


class Host:
    """Processes, mounts, namespaces and snapshots of containers, which outlive a daemon."""

    def __init__(self) -> None:
        self.alive: dict[str, int] = {}
        self.paused: set[str] = set()
        self.exits: dict[str, int] = {}
        self.bundles: set[str] = set()
        self.mounts: set[str] = set()
        self.open: set[str] = set()
        self.reserved: set[str] = set()
        self.snapshots: set[str] = set()
        self.volumes: set[str] = set()
        self.volumes_up: set[str] = set()
        self.on_exit: dict[str, Callable[[], None]] = {}
        self.shared: set[str] = set()  # those whose network namespaces other containers share
        self.next_pid = 1000

    def left(self, id: str = "") -> list[str]:
        """Return what exists, of one container or of all."""
        kept: dict[str, Any] = {
            k: v for k, v in vars(self).items() if k not in {"next_pid", "exits", "shared"}
        }
        return [k for k, v in kept.items() if (id in v if id else v)]


@dataclass
class Init:
    pid: int
    alive: bool = True


class Shim:
    def __init__(self, host: Host, end: Callable[[str, int], None]) -> None:
        self._host, self._end = host, end
        self._begun: set[str] = set()

    def begin(self, id: str) -> None:
        self._host.bundles.add(id)
        self._begun.add(id)

    def withdraw(self, id: str) -> None:
        if id in self._begun:
            self._begun.discard(id)
            self._host.bundles.discard(id)

    def create(self, id: str, meanwhile: Callable[[], object]) -> int:
        self._begun.discard(id)
        meanwhile()
        self._host.next_pid += 1
        self._host.alive[id] = self._host.next_pid
        self._host.exits.pop(id, None)
        return self._host.next_pid

    def start(self, id: str) -> None: ...

    def pause(self, id: str) -> None:
        self._host.paused.add(id)

    def resume(self, id: str) -> None:
        self._host.paused.discard(id)

    def reopen_log(self, id: str) -> None: ...

    def running(self, id: str) -> Running | None:
        pid = self._host.alive.get(id)
        return None if pid is None else Running(init=Init(pid), monitor=None)  # type: ignore[arg-type]

    def signal(self, id: str, number: int) -> bool:
        if id not in self._host.alive:
            return False
        self._end(id, 128 + number)
        return True

    def delete(self, id: str) -> None:
        self._host.alive.pop(id, None)
        self._host.bundles.discard(id)
        self._host.paused.discard(id)

    abort = delete

    def paused(self, id: str) -> bool:
        return id in self._host.paused

    def remains(self, id: str) -> bool:
        return id in self._host.bundles

    def leftovers(self) -> set[str]:
        return set(self._host.bundles)

    def alive(self, id: str) -> bool:
        return id in self._host.alive

    def processes(self, id: str) -> list[int]:
        return [self._host.alive[id]] if id in self._host.alive else []

    def exit_status(self, id: str) -> ExitStatus | None:
        code = self._host.exits.get(id)
        return None if code is None else ExitStatus(code=code, finished_ns=0, oom=False)


class Network:
    def __init__(self, host: Host) -> None:
        self._host = host

    def reserve(self, c: Container) -> None:
        self._host.reserved.add(c.id)

    def prepare(self, c: Container) -> bool:
        self._host.open.add(c.id)
        return True

    def open(self, c: Container) -> list[Any]:
        self._host.open.add(c.id)
        return []

    def close(self, c: Container) -> None:
        self._host.open.discard(c.id)

    def renew(self, c: Container) -> None: ...

    def forget(self, c: Container) -> None:
        self._host.reserved.discard(c.id)

    def namespace(self, c: Container) -> str:
        return ""

    def shared(self, c: Container) -> bool:
        return c.id in self._host.shared

    def endpoints(self, c: Container) -> list[Any]:
        return []

    def settle_names(self) -> None: ...

    def sandbox(self, c: Container) -> Sandbox:
        return Sandbox(id=c.id, name=c.name, ns="")

    def own_namespace(self, id: str) -> str:
        return ""

    def reconcile_after_crash(self, c: Container) -> bool:
        return False

    def restore(self, live: Mapping[str, object]) -> None:
        """Stand in for netkit's Networks: close sandboxes without a process."""
        self._host.open &= set(live)

    def tell_joined(self, c: Container, joined: object) -> None: ...
    def tell_left(self, c: Container, left: object) -> None: ...


class Volumes:
    """Of containers: a volume each, with the container's id for its name."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def create(self, c: Container) -> None:
        self._host.volumes.add(c.id)

    def fill(self, c: Container, inside: object) -> None: ...

    def up(self, c: Container) -> None:
        self._host.volumes_up.add(c.id)

    def down(self, c: Container) -> None:
        self._host.volumes_up.discard(c.id)

    def tell_up(self, c: Container) -> None: ...
    def tell_down(self, c: Container) -> None: ...
    def adopt(self, c: Container) -> None: ...

    def forget(self, c: Container, *, anonymous: bool, made: bool) -> None:
        assert anonymous >= made
        self._host.volumes.discard(c.id)

    def sweep(self, key: str) -> None: ...


class Snapshots:
    def __init__(self, host: Host) -> None:
        self._host = host

    def create(self, id: str, image: str, *, synced: bool, furnished: bool) -> bool:
        self._host.snapshots.add(id)
        return False

    def remove(self, id: str) -> None:
        self._host.snapshots.discard(id)

    def known(self) -> set[str]:
        return set(self._host.snapshots)

    def unmount(self, path: Path) -> None:
        self._host.mounts.discard(path.name)


class Mounted:
    def __init__(self, host: Host, root: Path, place: Callable[[str], Path]) -> None:
        self._host, self._root, self._place = host, root, place
        root.mkdir(exist_ok=True)

    @contextmanager
    def borrowed(self, id: str) -> Iterator[Path]:
        self.acquire(id)
        try:
            yield self._root
        finally:
            self.release(id)

    initial = borrowed

    def acquire(self, id: str) -> Path:
        self._place(id).mkdir(exist_ok=True)
        self._host.mounts.add(id)
        return Path("/nowhere")

    def release(self, id: str) -> None:
        self._host.mounts.discard(id)
        with suppress(FileNotFoundError):
            self._place(id).rmdir()

    def remove(self, id: str) -> None:
        self._host.snapshots.discard(id)


class Bundler:
    def __init__(self, shim: Shim) -> None:
        self._shim = shim

    def begin(self, c: Container) -> None:
        self._shim.begin(c.id)

    def create(
        self, c: Container, root: Path, ns: str, meanwhile: Callable[[], object] = lambda: None
    ) -> int:
        return self._shim.create(c.id, meanwhile)


class Watcher:
    def __init__(self, host: Host, late: Callable[[Callable[[], None]], None]) -> None:
        self._host, self._late = host, late

    def watch(self, id: str, pid: int, on_exit: Callable[[], None]) -> None:
        self._host.on_exit[id] = on_exit
        if id not in self._host.alive:
            self._late(on_exit)

    def forget(self, id: str) -> None:
        self._host.on_exit.pop(id, None)


class Loop:
    """An event loop that runs callbacks at once."""

    def create_future(self) -> Future[tuple[int, str]]:
        return Future()

    def call_soon_threadsafe(self, act: Callable[..., object], *args: object) -> None:
        act(*args)

    def is_closed(self) -> bool:
        return False


class Timers:
    def __init__(self) -> None:
        self.due: dict[str, Callable[[], None]] = {}

    def after(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        self.due[name] = work

    def cancel(self, name: str) -> None:
        self.due.pop(name, None)

    def fire(self, which: Callable[[str], bool] = lambda name: True) -> None:
        for name in filter(which, list(self.due)):
            threads.attempt(name, self.due.pop(name))


class World:
    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, host: Host | None = None) -> None:
        self.points = points = Points()
        self.host = host = host or Host()
        host.on_exit.clear()  # the daemon before us watches no more
        self.paths = Paths(folder / "root", folder / "run")
        self.paths.make()
        self._pool = ThreadPoolExecutor(2)
        self._jobs: list[Future[bool]] = []
        self.database = Database(folder / "state.db")
        store = ContainerStore(Faulty(points, "database", self.database))  # type: ignore[arg-type]
        self.store = store
        shim: Any = Faulty(points, "shim", Shim(host, self.end))
        self.timers = Timers()
        timers: Any = self.timers
        events: Any = Faulty(points, "events", _Events())
        network: Any = Network(host)
        sandboxes: Any = Faulty(points, "sandboxes", network)
        launcher = Launcher(
            paths=self.paths,
            shim=shim,
            snapshots=Faulty(points, "snapshots", Snapshots(host)),  # type: ignore[arg-type]
            mounted=Faulty(points, "mounted", Mounted(host, folder / "fs", self.paths.rootfs)),  # type: ignore[arg-type]
            sandboxes=sandboxes,
            volumes=Faulty(points, "volumes", Volumes(host)),  # type: ignore[arg-type]
            bundle_builder=Faulty(points, "bundler", Bundler(shim)),  # type: ignore[arg-type]
            watcher=Faulty(points, "watcher", Watcher(host, self._aside)),  # type: ignore[arg-type]
            boot_id="boot",
            before_start=lambda c: points.hit("talking.before_start"),
            given_up=lambda c: points.hit("talking.given_up"),
        )
        loop: Any = Loop()
        self.supervisor = Supervisor(store, launcher, Waiters(loop), events, timers)
        self.rotation = LogRotator(self.paths, shim, store, timers)
        self.supervisor.on_started += [self.rotation.begin]
        self.supervisor.on_ended += [self.rotation.finish]
        self.life = ContainerOperations(store, launcher, self.supervisor)
        networks: Any = Faulty(points, "networks", network)
        dns_publisher: Any = Faulty(points, "naming", _Naming())
        self.recovery = Recovery(
            store, shim, launcher, sandboxes, self.supervisor, networks, dns_publisher
        )
        watch_files(points, self.paths.root, patch)
        points.met.clear()  # those of the construction itself

    @staticmethod
    def container(id: str = ID, name: str = "web", *, rm: bool = False) -> Container:
        return container(id, name, rm=rm)

    def log(self, lines: int) -> None:
        with suppress(FileNotFoundError), open(self.paths.log(ID), "a") as file:
            file.write("0123456789\n" * lines)

    def end(self, id: str, code: int) -> None:
        """End its process, which is noticed on another thread."""
        if self.host.alive.pop(id, None) is None:
            return
        self.host.paused.discard(id)
        self.host.exits[id] = code
        if on_exit := self.host.on_exit.get(id):
            self._aside(on_exit)

    def _aside(self, act: Callable[[], None]) -> None:
        self._jobs.append(self._pool.submit(threads.attempt, "an end", act))

    def settle(self) -> None:
        """Wait until all ends are handled and all owed work is done."""
        self.timers.fire(lambda name: len(name) != len(ID) and not name.startswith("log "))
        while self._jobs:
            self._jobs.pop().result(20)

    def close(self) -> None:
        self._pool.shutdown()
        self.database.close()


class _Events:
    def emit(self, *args: object) -> None: ...


class _Naming:
    gathering = nullcontext

    def restore(self) -> None: ...


def container(id: str = ID, name: str = "web", *, rm: bool = False) -> Container:
    policy = RestartPolicy(name="on-failure", maximum_retry_count=5)
    return Container(
        id=id,
        name=name,
        created="2026-01-01T00:00:00Z",
        image="sha256:0",
        config=Config(image="busybox", cmd=["sh"]),
        host_config=HostConfig(
            restart_policy=RestartPolicy() if rm else policy,
            auto_remove=rm,
            log_config=LogConfig(type="json-file", config={"max-size": "20", "max-file": "2"}),
        ),
    )
