"""A small engine that implements runtime.api.backend with processes of the host.

What a client sees is real: output, exit codes, signals, terminals, files under a private
directory.  What it cannot see (namespaces, layers) is not there.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import tarfile
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from netkit.errors import Conflict, InvalidSpec, NotFound
from netkit.store import Database
from netkit.timestamps import rfc3339
from runtime.container.config import CreateRequest, EndpointSettings
from runtime.container.errors import NameTaken, NotRunning
from runtime.container.model import Container, State
from runtime.container.options import (
    AttachOptions,
    CommitRequest,
    Exec,
    ExecConfig,
    LogOptions,
    UpdateRequest,
)
from runtime.events import EventBus
from runtime.filters import Filters
from runtime.lifecycle.create import validate_create
from runtime.oci.errors import BadCommand
from runtime.rootfs.stat import PathStat
from runtime.volumes.folders import VolumeFolders
from runtime.volumes.mounted import MountedVolumes
from runtime.volumes.service import VolumeService
from runtime.volumes.store import VolumeStore
from runtime.watch.service import WatchService
from tests.unit.runtime.api.fake_builds import FakeBuilds
from tests.unit.runtime.api.fake_images import FakeImages
from tests.unit.runtime.api.fake_networks import FakeNetworks
from tests.unit.runtime.api.fake_registries import FakeRegistries
from tests.unit.runtime.lifecycle.fake_process import FakeAttachment, Outlet, Process


def new_id() -> str:
    return os.urandom(32).hex()


class FakeContainers:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._lock = threading.RLock()
        self._all: dict[str, Container] = {}
        self.processes: dict[str, Process] = {}
        self._waiters: dict[str, list[tuple[str, asyncio.Future[tuple[int, str]]]]] = {}
        self.updates: list[UpdateRequest] = []
        self.stops_ended = 0

    def create(self, request: CreateRequest, name: str | None) -> tuple[str, list[str]]:
        image = self._engine.images.find(request.image)
        id = new_id()
        prepared = validate_create(request, image.config, id)
        name = name or f"fake_{id[:8]}"
        with self._lock:
            for c in self._all.values():
                if c.name == name:
                    raise NameTaken(name, c.id)
            container = Container(
                id=id, name=name, created=rfc3339(), image=image.id, config=prepared.config,
                host_config=prepared.host_config, networks=prepared.networks,
                mounts=prepared.mounts,
            )  # fmt: skip
            self._all[id] = container
            (self._engine.root / id).mkdir()
            self._renew(container)
        self._emit(container, "create")
        return id, prepared.warnings

    def _renew(self, c: Container) -> None:
        self.processes[c.id] = Process(
            argv=c.command, tty=c.config.tty, outlet=Outlet(self._engine.loop),
            on_exit=lambda code: self._exited(c, code), env=c.config.env or [],
            open_stdin=c.config.open_stdin, reapers=self._engine.reapers,
        )  # fmt: skip

    def _emit(self, c: Container, action: str, **more: str) -> None:
        attributes = {**(c.config.labels or {}), "image": c.config.image, "name": c.name, **more}
        self._engine.events.emit("container", action, c.id, attributes)

    def find(self, ref: str) -> Container:
        ref = ref.removeprefix("/")
        with self._lock:
            if ref in self._all:
                return self._all[ref]
            hits = [c for c in self._all.values() if c.name == ref]
            hits = hits or [c for c in self._all.values() if c.id.startswith(ref)]
        if len(hits) != 1:
            raise NotFound(f"No such container: {ref}")
        return hits[0]

    def all(self) -> list[Container]:
        with self._lock:
            return list(self._all.values())

    relating = all

    def start(self, ref: str) -> bool:
        c = self.find(ref)
        with self._lock:
            if c.state.alive:
                return False
            process = self.processes[c.id]
            if process.popen is not None:
                self._renew(c)
                process = self.processes[c.id]
            try:
                process.start()
            except FileNotFoundError:
                c.state.error = "not found"
                self.processes[c.id].outlet.end()
                if c.host_config.auto_remove:
                    self.remove(c.id, force=False, volumes=True, link=False)
                raise BadCommand(
                    f"failed to create task for container: exec: {c.path!r}: executable file not "
                    "found in $PATH", 127,
                ) from None  # fmt: skip
            assert process.popen
            c.state = State(status="running", pid=process.popen.pid, started_at=rfc3339())
            self._engine.networks.join(c)
        self._emit(c, "start")
        return True

    def _exited(self, c: Container, code: int) -> None:
        with self._lock:
            c.state.status, c.state.exit_code, c.state.pid = "exited", code, 0
            c.state.finished_at = rfc3339()
            self._engine.networks.leave(c.id)
        self._emit(c, "die", exitCode=str(code))
        self._wake(c.id, {"not-running", "next-exit"}, code)
        if c.host_config.auto_remove:
            self.remove(c.id, force=False, volumes=True, link=False)

    def _wake(self, id: str, conditions: set[str], code: int) -> None:
        def wake() -> None:
            left = []
            for condition, future in self._waiters.get(id, []):
                if condition not in conditions:
                    left.append((condition, future))
                elif not future.done():
                    future.set_result((code, ""))
            self._waiters[id] = left

        self._engine.loop.call_soon_threadsafe(wake)

    async def waiter(self, ref: str, condition: str) -> tuple[int, str]:
        c = self.find(ref)
        if condition == "not-running" and not c.state.alive:
            return c.state.exit_code, ""
        future: asyncio.Future[tuple[int, str]] = self._engine.loop.create_future()
        self._waiters.setdefault(c.id, []).append((condition, future))
        return await future

    def stop(self, ref: str, timeout: int | None = None, signal: str | None = None) -> bool:
        c = self.find(ref)
        if not c.state.alive:
            return False
        self.kill(c.id, signal or c.config.stop_signal or "TERM")
        deadline = time.monotonic() + (10 if timeout is None else timeout)
        while c.state.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        if c.state.alive:
            self.kill(c.id, "KILL")
        while c.state.alive:
            time.sleep(0.01)
        self._emit(c, "stop")
        self.stops_ended += 1
        return True

    def restart(self, ref: str, timeout: int | None = None, signal: str | None = None) -> None:
        self.stop(ref, timeout, signal)
        self.start(ref)

    def kill(self, ref: str, signal: str = "KILL") -> None:
        c = self.find(ref)
        if not c.state.alive:
            raise NotRunning(c.id)
        with suppress(ProcessLookupError):  # it ends at this moment
            os.killpg(c.state.pid, _signal(signal))
        self._emit(c, "kill", signal=str(int(_signal(signal))))

    def pause(self, ref: str) -> None:
        self._turn(ref, "running", "paused", signal.SIGSTOP)

    def unpause(self, ref: str) -> None:
        self._turn(ref, "paused", "running", signal.SIGCONT)

    def _turn(self, ref: str, before: str, after: str, sig: signal.Signals) -> None:
        c = self.find(ref)
        if c.state.status != before:
            raise Conflict(f"Container {c.id} is not {before}")
        os.killpg(c.state.pid, sig)
        c.state.status = after
        self._emit(c, {"paused": "pause", "running": "unpause"}[after])

    def rename(self, ref: str, name: str) -> None:
        self.find(ref).name = name

    def update(self, ref: str, request: UpdateRequest) -> list[str]:
        c = self.find(ref)
        self.updates.append(request)
        if "Memory" in request.given:
            c.host_config.memory = request.memory
        return []

    def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None:
        c = self.find(ref)
        if c.state.alive:
            if not force:
                raise Conflict(
                    f'cannot remove container "{c.name}": container is running: stop the container '
                    "before removing or force remove"
                )
            self.stop(c.id, 0, "KILL")
        with self._lock:
            self._all.pop(c.id, None)
        shutil.rmtree(self._engine.root / c.id, ignore_errors=True)
        self._emit(c, "destroy")
        self._wake(c.id, {"not-running", "next-exit", "removed"}, c.state.exit_code)

    def prune(self, filters: Filters) -> tuple[list[str], int]:
        removed = [c.id for c in self.all() if not c.state.alive]
        for id in removed:
            self.remove(id, force=False, volumes=False, link=False)
        return removed, 0

    def top(self, ref: str, ps_args: str) -> tuple[list[str], list[list[str]]]:
        c = self.find(ref)
        if not c.state.alive:
            raise NotRunning(c.id)
        return ["PID", "CMD"], [[str(c.state.pid), " ".join(c.command)]]

    def changes(self, ref: str) -> list[tuple[str, int]]:
        root = self._engine.root / self.find(ref).id
        return sorted((f"/{p.relative_to(root)}", 1) for p in root.rglob("*"))

    def folders(self, ref: str) -> dict[str, str] | None:
        return {"MergedDir": str(self._engine.root / self.find(ref).id)}

    def sizes(self, ref: str) -> tuple[int, int]:
        root = self._engine.root / self.find(ref).id
        return sum(p.lstat().st_size for p in root.rglob("*") if p.is_file()), 1000

    def resize(self, ref: str, height: int, width: int) -> None:
        c = self.find(ref)
        if not c.state.alive:
            raise NotRunning(c.id)
        self.processes[c.id].resize(height, width)

    def _inside(self, ref: str, path: str) -> Path:
        c = self.find(ref)
        found = self._engine.root / c.id / path.lstrip("/")
        if not found.exists() and not found.is_symlink():
            raise NotFound(f"Could not find the file {path} in container {ref}")
        return found

    def stat_path(self, ref: str, path: str) -> PathStat:
        found = self._inside(ref, path)
        st = found.lstat()
        return PathStat(
            name=found.name, size=st.st_size, mode=st.st_mode, mtime=rfc3339(st.st_mtime_ns),
            link=os.readlink(found) if found.is_symlink() else "",
        )  # fmt: skip

    def get_archive(self, ref: str, path: str) -> tuple[PathStat, Iterator[bytes]]:
        stat = self.stat_path(ref, path)
        return stat, _tar(self._inside(ref, path), stat.name)

    def put_archive(
        self, ref: str, path: str, tar: BinaryIO, *, no_overwrite_dir: bool, copy_uid_gid: bool
    ) -> None:
        where = self._inside(ref, path)
        if not where.is_dir():
            raise InvalidSpec("extraction point is not a directory")
        with tarfile.open(fileobj=tar, mode="r|*") as archive:
            archive.extractall(where, filter="data")

    def commit(self, ref: str, request: CommitRequest) -> str:
        return self.find(ref).image

    def export(self, ref: str) -> Iterator[bytes]:
        return _tar(self._engine.root / self.find(ref).id, ".")

    def stats(self, ref: str) -> dict[str, Any]:
        c = self.find(ref)
        ns = time.monotonic_ns() if c.state.alive else 0
        return {
            "name": f"/{c.name}", "id": c.id, "read": rfc3339(), "num_procs": 0,
            "pids_stats": {"current": 1 if c.state.alive else 0},
            "cpu_stats": {
                "cpu_usage": {"total_usage": ns // 10, "usage_in_kernelmode": 0,
                              "usage_in_usermode": ns // 10},
                "system_cpu_usage": ns, "online_cpus": 2, "throttling_data": {},
            },
            "memory_stats": {"usage": 1 << 20, "limit": 1 << 30, "stats": {"inactive_file": 0}},
            "blkio_stats": {}, "networks": {},
        }  # fmt: skip

    def connect(self, ref: str, network: str, settings: EndpointSettings) -> None:
        c = self.find(ref)
        record = self._engine.networks.find(network)
        c.networks[record.spec.name] = settings
        if c.state.alive:
            self._engine.networks.join(c)

    def disconnect(self, ref: str, network: str, *, force: bool) -> None:
        c = self.find(ref)
        record = self._engine.networks.find(network)
        if record.spec.name not in c.networks:
            raise Conflict(f"container {c.id} is not connected to network {network}")
        del c.networks[record.spec.name]
        self._engine.networks.leave(c.id, record.id)

    def network_settings(self, ref: str) -> dict[str, Any]:
        return self._engine.networks.settings(self.find(ref))

    def attach(self, ref: str, options: AttachOptions) -> FakeAttachment:
        c = self.find(ref)
        process = self.processes[c.id]
        done = threading.Event()
        made: list[FakeAttachment] = []

        def make() -> None:
            stdin = options.stdin and c.config.open_stdin
            made.append(FakeAttachment(process, stdin=stdin, replay=options.logs))
            done.set()

        self._engine.loop.call_soon_threadsafe(make)
        assert done.wait(30)
        self._emit(c, "attach")
        return made[0]

    async def logs(self, ref: str, options: LogOptions) -> AsyncIterator[tuple[int, bytes]]:
        outlet = self.processes[self.find(ref).id].outlet
        queue = outlet.subscribe()
        try:
            past = [e for e in outlet.log if e[0] >= options.since * 1e9]
            past = [e for e in past if not options.until or e[0] <= options.until * 1e9]
            channels = {1} if not options.stderr else {2} if not options.stdout else {1, 2}
            lines = [(ns, ch, part) for ns, ch, data in past if ch in channels
                     for part in data.splitlines(keepends=True)]  # fmt: skip
            if options.tail is not None:
                lines = lines[len(lines) - min(options.tail, len(lines)) :]
            for ns, channel, part in lines:
                stamp = f"{rfc3339(ns)} ".encode() if options.timestamps else b""
                yield channel, stamp + part
            while options.follow and not outlet.ended:
                item = await queue.get()
                if item is None:
                    return
                if item[0] in channels:
                    yield item
        finally:
            outlet.queues.discard(queue)


def _signal(text: str) -> signal.Signals:
    text = text.upper().removeprefix("SIG")
    if text.isdecimal():
        return signal.Signals(int(text))
    if text in (names := {s.name.removeprefix("SIG") for s in signal.Signals}):
        return signal.Signals[f"SIG{text}"]
    raise InvalidSpec(f"invalid signal: {text} is none of {len(names)}")


def _tar(path: Path, name: str) -> Iterator[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(path, name)
    data = buffer.getvalue()
    for at in range(0, len(data), 1 << 16):
        yield data[at : at + (1 << 16)]


class FakeExecs:
    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._all: dict[str, Exec] = {}
        self._processes: dict[str, Process] = {}
        self.sizes: dict[str, tuple[int, int]] = {}

    def create(self, ref: str, config: ExecConfig) -> str:
        c = self._engine.containers.find(ref)
        if not c.state.alive:
            raise NotRunning(c.id)
        id = new_id()
        self._all[id] = Exec(id=id, container=c.id, config=config)
        return id

    def find(self, id: str) -> Exec:
        if id not in self._all:
            raise NotFound(f"No such exec instance: {id}")
        return self._all[id]

    def of(self, container_id: str) -> list[str]:
        return [e.id for e in self._all.values() if e.container == container_id and e.running]

    def start(
        self, id: str, *, detach: bool, tty: bool, size: tuple[int, int] | None = None
    ) -> FakeAttachment | None:
        e = self.find(id)
        if e.running or e.exit_code is not None:
            raise Conflict(f"exec {id} has already been started")
        if size:
            self.sizes[id] = size

        def ended(code: int) -> None:
            e.running, e.exit_code = False, code

        process = Process(
            argv=e.config.cmd or [], tty=e.config.tty, outlet=Outlet(self._engine.loop),
            on_exit=ended, env=e.config.env or [], open_stdin=e.config.attach_stdin,
            reapers=self._engine.reapers,
        )  # fmt: skip
        self._processes[id] = process
        e.running = True
        if detach:
            process.start()
            return None
        return _ExecAttachment(e, process, raw=tty)

    def resize(self, id: str, height: int, width: int) -> None:
        self._processes[id].resize(height, width)


class _ExecAttachment(FakeAttachment):
    def __init__(self, e: Exec, process: Process, *, raw: bool) -> None:
        self._exec = e
        super().__init__(process, stdin=e.config.attach_stdin, replay=False, start=True)
        self.tty = raw

    async def run(self, stream: Any) -> None:
        try:
            await super().run(stream)
        except FileNotFoundError as error:
            self._exec.running, self._exec.exit_code = False, 127
            raise BadCommand(
                f"OCI runtime exec failed: exec: {self._process.argv[0]!r}: executable file not "
                "found in $PATH", 127,
            ) from error  # fmt: skip
        while self._exec.running and self._process.outlet.ended:  # noqa: ASYNC110  an Exec has no event
            await asyncio.sleep(0.005)


class FakeSystem:
    def info(self) -> dict[str, Any]:
        return {"ID": "fake", "Name": "fakehost", "ServerVersion": "0.1.0", "NCPU": 2,
                "MemTotal": 1 << 30, "KernelVersion": "6", "OperatingSystem": "Fake",
                "Architecture": "x86_64", "DefaultRuntime": "runc",
                "CgroupDriver": "cgroupfs", "CgroupVersion": "2"}  # fmt: skip

    def version(self) -> dict[str, Any]:
        return {"Version": "0.1.0", "Os": "linux", "Arch": "amd64", "Platform": {"Name": "netkit"},
                "Components": [{"Name": "Engine", "Version": "0.1.0",
                                "Details": {"ApiVersion": "1.51"}}]}  # fmt: skip

    def disk_usage(self, types: Iterable[str]) -> dict[str, Any]:
        return {"LayersSize": 4096}


class FakeEngine:
    def __init__(self, loop: asyncio.AbstractEventLoop, root: Path) -> None:
        self.loop = loop
        self.root = root
        self.reapers: list[threading.Thread] = []
        self.events = EventBus(loop)
        self.images = FakeImages()
        self.builds = FakeBuilds()
        self.registries = FakeRegistries()
        self.networks = FakeNetworks(self.events)
        self.containers = FakeContainers(self)
        self.execs = FakeExecs(self)
        self.system = FakeSystem()
        self.watch = WatchService(self.networks, lambda _: [], list, dict)
        self._database = Database(root / "volumes.db")
        folders = VolumeFolders(root / "volumes")
        self.volumes = VolumeService(
            VolumeStore(self._database),
            folders,
            self.events,
            self._users,
            MountedVolumes(folders.data, lambda name: ()),
        )

    def _users(self, volume: str) -> list[str]:
        return [c.id for c in self.containers.all() if any(m.name == volume for m in c.mounts)]

    def kill_all(self) -> None:
        """End every process that is left, by its own process group."""
        for c in self.containers.all():
            if c.state.alive:
                with suppress(ProcessLookupError):
                    os.killpg(c.state.pid, signal.SIGKILL)
        for process in self.execs._processes.values():
            if process.popen is not None and process.popen.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.popen.pid, signal.SIGKILL)
        for reaper in self.reapers:  # they talk to the loop, which is about to end
            reaper.join(10)
        self.watch.close()
        self._database.close()
