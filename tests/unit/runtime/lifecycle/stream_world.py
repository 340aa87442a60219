"""Execs, health probes and attached clients on fakes, in which any call may be made to fail.

Real are ExecService, ExecSession, Reaper, HealthChecks, AttachService, Console, the reading of
logs, and what the API does with a connection it took over; real are pipes, terminals and sockets.
Not real are processes.  Each call of `os`, `socket`, `fcntl`, `subprocess` and of the file system
that those modules make is a point, as in container_world.
"""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from runtime.api.server import attach_session as talk
from runtime.container.model import Container, State
from runtime.filetree import scoped_root, walk
from runtime.lifecycle.archive import Looking
from runtime.lifecycle.attach import AttachService
from runtime.lifecycle.exec import ExecService
from runtime.lifecycle.health import HealthChecks
from runtime.oci import console, exec_session, log_follow, log_reader, reaper
from runtime.oci.reaper import Reaper
from runtime.oci.shim import Running
from runtime.paths import Paths
from runtime.rootfs import stat, tar_in, tar_out
from runtime.tar import members
from tests.unit.points import Faulty, Points
from tests.unit.runtime.lifecycle.container_world import ID, Init, container, watch_files

CLOSE = {"close"}  # what cannot be closed without an error is closed all the same
HUNG = 5.0  # seconds; what takes longer hangs


class Processes:
    """Commands of execs by pid, with their ends of the pipes or of the terminal."""

    def __init__(self) -> None:
        self.alive: dict[int, tuple[list[int], Callable[[int], None]]] = {}
        self.resized = 0
        self._next = 1 << 30

    def begin(self, fds: list[int], ended: Callable[[int], None]) -> int:
        self._next += 1
        self.alive[self._next] = (fds, ended)
        return self._next

    def write_output(self, pid: int, data: bytes) -> None:
        with suppress(KeyError, BrokenPipeError):
            os.write(self.alive[pid][0][1], data)

    def end(self, pid: int, code: int) -> None:
        fds, ended = self.alive.pop(pid, ([], lambda code: None))
        for fd in fds:
            os.close(fd)
        ended(code)

    def kill(self, pid: int, number: int) -> None:
        if pid not in self.alive:
            raise ProcessLookupError(3, "No such process")
        self.end(pid, 128 + number)


class Parent:
    """Stands in for the process of Reaper."""

    def __init__(self, processes: Processes, argv: list[str], *, stdin: int, **_: object) -> None:
        self.pid = 1 << 29
        self._processes = processes
        self._sock = socket.socket(fileno=os.dup(stdin))
        self._sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._take)

    def _take(self) -> None:
        data, fds, _, _ = socket.recv_fds(self._sock, 1 << 16, 3)
        if not data:
            self.wait()
            return
        asked = json.loads(data)
        id = asked["id"]
        pid = self._processes.begin(fds, lambda code: self._answer(id=id, exit=code))
        self._answer(id=id, runtime=0, pid=pid)

    def _answer(self, **answer: object) -> None:
        with suppress(OSError):
            self._sock.send(json.dumps(answer).encode())

    def wait(self, timeout: float | None = None) -> int:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
        return 0


class Runtime:
    """`runc exec --tty`: it ends with its command."""

    def __init__(self, processes: Processes, *argv: str, stdout: int, **_: object) -> None:
        self.returncode: int | None = None
        self._processes = processes
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._command = processes.begin([os.dup(stdout), os.dup(stdout)], self._end)
        with open(argv[argv.index("--pid-file") + 1], "w") as file:
            file.write(str(self._command))

    def _end(self, code: int) -> None:
        self.returncode = code
        if not self._ended.done():
            self._ended.set_result(code)

    async def wait(self) -> int:
        return await self._ended

    def kill(self) -> None:
        self._processes.end(self._command, 137)

    def send_signal(self, number: int) -> None:
        self._processes.resized += 1


class _Os:
    def __init__(self, processes: Processes) -> None:
        self.kill = processes.kill

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


class _Subprocess:
    DEVNULL, TimeoutExpired = subprocess.DEVNULL, subprocess.TimeoutExpired

    def __init__(self, processes: Processes) -> None:
        self.Popen = partial(Parent, processes)


class _Socket:
    """Stands in for the module; its sockets are points as well."""

    def __init__(self, points: Points) -> None:
        self._points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def socket(self, *args: Any) -> Any:
        return Faulty(self._points, "socket", socket.socket(*args), CLOSE)

    def socketpair(self, *args: Any) -> tuple[Any, socket.socket]:
        ours, theirs = socket.socketpair(*args)
        return Faulty(self._points, "socket", ours, CLOSE), theirs

    def send_fds(self, sock: Any, *args: Any) -> int:
        return socket.send_fds(sock._target, *args)


class Conmon:
    """The other side of attach sockets."""

    def __init__(self, bundle: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        folder = os.open(os.fsencode(bundle), os.O_PATH)  # bytes: it is no point
        self.sock.bind(f"/proc/self/fd/{folder}/attach")  # its own may be too long
        os.close(folder)
        self.sock.listen(8)
        self.clients: list[socket.socket] = []

    def write_output(self, data: bytes) -> None:
        with suppress(BlockingIOError):
            while True:
                self.clients.append(self.sock.accept()[0])
        for client in self.clients:
            with suppress(OSError):
                client.send(b"\2" + data)

    def close(self) -> None:
        for sock in (self.sock, *self.clients):
            sock.close()


class Shim:
    def __init__(self, bundles: Path) -> None:
        self._bundles = bundles

    def bundle(self, id: str) -> Path:
        return self._bundles / id

    def command(self, *args: str) -> list[str]:
        return ["runc", *args]

    def running(self, id: str) -> Running:
        return Running(init=Init(os.getpid()), monitor=None)  # type: ignore[arg-type]


class Bundler:
    def exec_process(self, *args: object, tty: bool, **kwargs: object) -> dict[str, object]:
        return {"terminal": tty}


class Client:
    """A connection that was taken over."""

    def __init__(self, *sent: bytes, ends: bool = True) -> None:
        self.lost, self.input_consumed = asyncio.Event(), asyncio.Event()
        self.unread = 0
        self.got = bytearray()
        self._sent = deque(sent)
        self._ends = ends

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        if self._sent:
            return self._sent.popleft()
        if not self._ends:
            await self.lost.wait()
        self.input_consumed.set()
        return b""

    async def write(self, channel: int, data: bytes) -> None:
        if self.lost.is_set():
            raise ConnectionResetError("the client has left")
        self.got += data

    async def close(self) -> None: ...


class Streams:
    """Made on the event loop; `bundle` is removed by its `close`, as with the container."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.points = points = Points()
        self.processes = Processes()
        self.paths = Paths(folder / "root", folder / "run")
        self.paths.make()
        self.folder, self.patch = folder, patch
        self.c = container()
        self.c.state = State(status="running", pid=os.getpid())
        self.events: list[str] = []
        self.results: list[str] = []  # of health probes
        self.shim = shim = Shim(self.paths.root / "bundles")
        shim.bundle(ID).mkdir(parents=True)
        self.paths.container(ID).mkdir()
        self._patch(patch)
        loop = asyncio.get_running_loop()
        bundle_builder: Any = Faulty(points, "bundler", Bundler())
        anything: Any = shim
        self.reaper = Reaper()
        this: Any = self
        self.execs = ExecService(
            loop, self.paths, anything, self.reaper, bundle_builder, this, this
        )  # fmt: skip
        self.health = HealthChecks(loop, self.execs.probe, self._changed)
        self.attach_service = AttachService(loop, self.paths, anything, this)
        watch_files(points, self.paths.root, patch)
        points.met.clear()

    def _patch(self, patch: pytest.MonkeyPatch) -> None:
        points, processes = self.points, self.processes
        for module in (exec_session, reaper, console, log_follow, log_reader):
            patch.setattr(module, "os", Faulty(points, "os", _Os(processes), CLOSE))
        for module in (reaper, console):
            patch.setattr(module, "socket", Faulty(points, "socket", _Socket(points)))
        patch.setattr(exec_session, "fcntl", Faulty(points, "fcntl", fcntl))
        patch.setattr(reaper, "subprocess", Faulty(points, "subprocess", _Subprocess(processes)))
        patch.setattr(reaper, "START_SECONDS", 0.5)
        patch.setattr(exec_session, "DRAIN", 0.02)
        for name in ("DRAIN_SECONDS", "_LAST_LOOK"):
            patch.setattr(talk, name, 0.02)

        async def begun(*argv: str, **kwargs: Any) -> Runtime:
            points.hit("create_subprocess_exec")
            return Runtime(processes, *argv, **kwargs)

        patch.setattr(asyncio, "create_subprocess_exec", begun)

        def opened(*args: Any) -> Any:
            points.hit("open")
            return Faulty(points, "file", open(*args), CLOSE)

        for module in (log_follow, log_reader):
            patch.setattr(module, "open", opened, raising=False)

    # the store, the runs and the events of the daemon

    def find_unpaused(self, ref: str) -> Any:
        return self.c

    def emit(self, *what: Any, **attributes: str) -> None:
        self.events.append(str(what[1]))

    def _changed(self, c: Any, status: str) -> None:
        self.results += [r.output for r in c.state.health.log[-1:]]
        self.points.hit("health.changed")
        self.events.append(f"health {status}")

    async def talk(self, attachment: Any, client: Client) -> None:
        """As the API does."""
        connection: Any = client
        async with asyncio.timeout(HUNG):
            await talk._run(attachment, connection, 1)

    async def close(self) -> None:
        self.points.fail = None
        for pid in list(self.processes.alive):
            self.processes.end(pid, 0)
        await self.health.close()
        self.reaper._lost()


async def until(true: Callable[[], object]) -> bool:
    """Return False if it does not finish in time, which counts as a hang."""
    end = asyncio.get_running_loop().time() + HUNG
    while not true():
        if asyncio.get_running_loop().time() > end:
            return False
        await asyncio.sleep(0.001)
    return True


class Mounted:
    """A root file system that counts its users."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.borrowers = 0

    @contextmanager
    def borrowed(self, id: str) -> Iterator[Path]:
        self.borrowers += 1
        try:
            yield self._root
        finally:
            self.borrowers -= 1


class Volumes:
    """Of a container that has none."""

    def __init__(self, mounted: Mounted) -> None:
        self._mounted = mounted

    @contextmanager
    def view(self, c: Container) -> Iterator[scoped_root.Root]:
        with self._mounted.borrowed(c.id) as place, scoped_root.Root(place) as root:
            yield root


class Tar(io.BytesIO):
    """An upload."""

    def check(self) -> None: ...


def archives(points: Points, root: Path, patch: pytest.MonkeyPatch) -> tuple[Looking, Mounted]:
    """A listing in which each call about the files of a container is a point."""
    for module in (scoped_root, members, tar_out, stat, tar_in, walk):
        patch.setattr(module, "os", Faulty(points, "os", os, CLOSE))

    def opening(*args: Any, _real: Any = scoped_root.openat2) -> int:
        points.hit("openat2")
        return int(_real(*args))

    patch.setattr(scoped_root, "openat2", opening)
    mounted, unused = Mounted(root), cast(Any, None)
    faulty = cast(Any, Faulty(points, "mounted", mounted))
    volumes = cast(Any, Volumes(faulty))
    return Looking(unused, unused, unused, faulty, unused, volumes), mounted
