"""The life of containers on fakes, in which any call may be made to fail.

Real are Runs, Lifecycle, Launcher, Rotation, the store on SQLite, and the files below a folder.
Calls to what is faked, to the database and to the file system are points, named as in
"shim.start 2", the second call of that function; `fail` makes one of them raise.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from netkit import threads
from netkit.store import Database
from runtime.containers.config import Config, HostConfig, LogConfig, RestartPolicy
from runtime.containers.launch import Launcher
from runtime.containers.lifecycle import Lifecycle
from runtime.containers.model import Container
from runtime.containers.rotation import Rotation
from runtime.containers.runs import Runs
from runtime.containers.store import ContainerStore
from runtime.containers.waiting import Waiters
from runtime.oci.shim import ExitStatus
from runtime.paths import Paths

ID = "c" * 64
FILE_CALLS = ("mkdir", "rename", "replace", "unlink", "stat", "open", "rmdir")


class Points:
    def __init__(self) -> None:
        self.met: list[str] = []
        self.fail: tuple[str, Exception] | None = None
        self.failed = False
        self._count: Counter[str] = Counter()
        self._lock = threading.Lock()

    def hit(self, name: str) -> None:
        with self._lock:
            self._count[name] += 1
            point = f"{name} {self._count[name]}"
            self.met.append(point)
            if self.fail is None or self.fail[0] != point:
                return
            self.failed = True
        raise self.fail[1]


class Faulty:
    """Every call of a method of `target` is a point."""

    def __init__(self, points: Points, name: str, target: object) -> None:
        self._points, self._name, self._target = points, name, target

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._target, attribute)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._points.hit(f"{self._name}.{attribute}")
            return found(*args, **kwargs)

        return call


class Host:
    """Processes, mounts, namespaces and snapshots: what a container leaves if nobody removes it."""

    def __init__(self) -> None:
        self.alive: dict[str, int] = {}
        self.exits: dict[str, int] = {}
        self.bundles: set[str] = set()
        self.mounts: set[str] = set()
        self.open: set[str] = set()
        self.reserved: set[str] = set()
        self.snapshots: set[str] = set()
        self.gone: dict[str, Callable[[], None]] = {}
        self.next_pid = 1000

    def left(self) -> list[str]:
        return [k for k, v in vars(self).items() if v and k not in {"next_pid", "exits"}]


class Shim:
    def __init__(self, host: Host, end: Callable[[str, int], None]) -> None:
        self._host, self._end = host, end

    def create(self, id: str) -> int:
        self._host.bundles.add(id)
        self._host.next_pid += 1
        self._host.alive[id] = self._host.next_pid
        self._host.exits.pop(id, None)
        return self._host.next_pid

    def start(self, id: str) -> None: ...
    def pause(self, id: str) -> None: ...
    def resume(self, id: str) -> None: ...
    def reopen_log(self, id: str) -> None: ...

    def running(self, id: str) -> None:
        return None

    def signal(self, id: str, number: int) -> bool:
        if id not in self._host.alive:
            return False
        self._end(id, 128 + number)
        return True

    def delete(self, id: str) -> None:
        self._host.alive.pop(id, None)
        self._host.bundles.discard(id)

    abort = delete

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

    def endpoints(self, c: Container) -> list[Any]:
        return []

    def settle_names(self) -> None: ...
    def tell_joined(self, c: Container, joined: object) -> None: ...
    def tell_left(self, c: Container, left: object) -> None: ...


class Snapshots:
    def __init__(self, host: Host) -> None:
        self._host = host

    def create(self, id: str, image: str) -> None:
        self._host.snapshots.add(id)

    def remove(self, id: str) -> None:
        self._host.snapshots.discard(id)


class Mounted:
    def __init__(self, host: Host, root: Path) -> None:
        self._host, self._root = host, root
        root.mkdir()

    @contextmanager
    def borrowed(self, id: str) -> Iterator[Path]:
        self.hold(id)
        try:
            yield self._root
        finally:
            self.let_go(id)

    def hold(self, id: str) -> Path:
        self._host.mounts.add(id)
        return Path("/nowhere")

    def let_go(self, id: str) -> None:
        self._host.mounts.discard(id)


class Bundler:
    def __init__(self, shim: Shim) -> None:
        self._shim = shim

    def create(self, c: Container, root: Path, ns: str) -> int:
        return self._shim.create(c.id)


class Watcher:
    def __init__(self, host: Host, late: Callable[[Callable[[], None]], None]) -> None:
        self._host, self._late = host, late

    def watch(self, id: str, pid: int, gone: Callable[[], None]) -> None:
        self._host.gone[id] = gone
        if id not in self._host.alive:
            self._late(gone)

    def forget(self, id: str) -> None:
        self._host.gone.pop(id, None)


class Loop:
    """An event loop that does at once what it is given."""

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
    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.points = points = Points()
        self.host = host = Host()
        self.paths = Paths(folder / "root", folder / "run")
        self.paths.make()
        self._pool = ThreadPoolExecutor(2)
        self._jobs: list[Future[bool]] = []
        self.database = Database(Path(":memory:"))
        store = ContainerStore(Faulty(points, "database", self.database))  # type: ignore[arg-type]
        self.store = store
        shim: Any = Faulty(points, "shim", Shim(host, self.end))
        self.timers = Timers()
        timers: Any = self.timers
        events: Any = Faulty(points, "events", _Events())
        launcher = Launcher(
            paths=self.paths,
            shim=shim,
            snapshots=Faulty(points, "snapshots", Snapshots(host)),  # type: ignore[arg-type]
            mounted=Faulty(points, "mounted", Mounted(host, folder / "fs")),  # type: ignore[arg-type]
            sandboxes=Faulty(points, "sandboxes", Network(host)),  # type: ignore[arg-type]
            bundler=Faulty(points, "bundler", Bundler(shim)),  # type: ignore[arg-type]
            watcher=Faulty(points, "watcher", Watcher(host, self._aside)),  # type: ignore[arg-type]
            boot_id="boot",
            before_start=lambda c: points.hit("talking.before_start"),
            given_up=lambda c: points.hit("talking.given_up"),
        )
        loop: Any = Loop()
        self.runs = Runs(store, launcher, Waiters(loop), events, timers)
        self.rotation = Rotation(self.paths, shim, store, timers)
        self.runs.on_started += [self.rotation.begin]
        self.runs.on_ended += [self.rotation.settle]
        self.life = Lifecycle(store, launcher, self.runs)
        self._watch_files(folder, patch)

    def _watch_files(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        for name in FILE_CALLS:
            real = getattr(os, name)

            def call(path: Any, *args: Any, _real: Any = real, _name: str = name, **kw: Any) -> Any:
                if str(path).startswith(f"{folder}/root"):
                    self.points.hit(f"os.{_name}")
                return _real(path, *args, **kw)

            patch.setattr(os, name, call)

    def container(self) -> Container:
        return Container(
            id=ID,
            name="web",
            created="2026-01-01T00:00:00Z",
            image="sha256:0",
            config=Config(image="busybox", cmd=["sh"]),
            host_config=HostConfig(
                restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=5),
                log_config=LogConfig(type="json-file", config={"max-size": "20", "max-file": "2"}),
            ),
        )

    def log(self, lines: int) -> None:
        with suppress(FileNotFoundError), open(self.paths.log(ID), "a") as file:
            file.write("0123456789\n" * lines)

    def end(self, id: str, code: int) -> None:
        """Its process ends, which is noticed on another thread."""
        if self.host.alive.pop(id, None) is None:
            return
        self.host.exits[id] = code
        if gone := self.host.gone.get(id):
            self._aside(gone)

    def _aside(self, act: Callable[[], None]) -> None:
        self._jobs.append(self._pool.submit(threads.attempt, "an end", act))

    def settle(self) -> None:
        """Until no end is being handled, and what was owed was done."""
        self.timers.fire(lambda name: name not in {ID, f"log {ID}"})
        while self._jobs:
            self._jobs.pop().result(20)

    def close(self) -> None:
        self._pool.shutdown()
        self.database.close()


class _Events:
    def emit(self, *args: object) -> None: ...
