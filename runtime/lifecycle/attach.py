"""Attaching to a container's first process, and reading its log."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator

from netkit import threads
from netkit.errors import InvalidSpec, NotFound
from runtime.container.model import Container
from runtime.container.options import AttachOptions, LogOptions
from runtime.events import Events
from runtime.lifecycle import detach_keys
from runtime.lifecycle.streams import Stream
from runtime.oci import log_reader as logs
from runtime.oci.console import Console
from runtime.oci.log_follow import follow
from runtime.oci.shim import Shim
from runtime.paths import Paths

CONNECT_SECONDS = 10.0
_AT_A_TIME = 1 << 16  # bytes of log records read in one go; the last record may exceed it
_BUSY_SECONDS = 10.0  # within which conmon should accept a connection
_AT_A_TIME_ALL = 2 << 20  # the same, shared by all clients that read logs
_AT_A_TIME_LEAST = 1 << 13
_RECORD = 256  # bytes of memory a record takes besides its data
_EXACT = 1000  # ns; the precision of a Unix time in a float, by which bounds are widened


class AttachService:
    """Connects clients to consoles and logs.

    `docker run` attaches before it starts the container: such clients wait here, and are connected
    after the container was created and before its first instruction.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, paths: Paths, shim: Shim, events: Events
    ) -> None:
        self._loop = loop
        self._paths = paths
        self._shim = shim
        self._events = events
        self._lock = threading.Lock()
        self._readers = 0  # of logs
        self._early: dict[str, list[asyncio.Future[Console | None]]] = {}

    def attachment(self, c: Container, options: AttachOptions) -> ContainerAttachment:
        keys = detach_keys.parse(options.detach_keys)
        return ContainerAttachment(self, c, options, keys)

    def before_start(self, c: Container) -> None:
        """Connect the waiting clients before the process starts, so that no output is lost.

        Called on the thread that starts the container; consoles belong to the event loop.
        """
        with self._lock:
            early = self._early.pop(c.id, [])
        if not early:
            return
        done = threading.Event()

        def connect() -> None:
            try:
                for future in early:
                    if not future.done():
                        self._settle(future, c)
            finally:
                done.set()

        threads.post(self._loop, f"attaching to {c.name}", connect)
        done.wait(CONNECT_SECONDS)

    def _settle(self, future: asyncio.Future[Console | None], c: Container) -> None:
        try:
            future.set_result(self.connect(c))
        except Exception as error:  # noqa: BLE001  passed on to the client that attached
            future.set_exception(error)

    def given_up(self, c: Container) -> None:
        """Release waiting clients: the start failed or the container is removed.  Any thread."""
        with self._lock:
            early = self._early.pop(c.id, [])
        if early:
            threads.post(self._loop, f"attaching to {c.name}", _set_none, early)

    def connect(self, c: Container) -> Console | None:
        try:
            running = self._shim.running(c.id)
            return Console.connect(self._shim.bundle(c.id), running.init if running else None)
        except (FileNotFoundError, ConnectionRefusedError):
            return None  # it has just exited

    async def _connected(self, c: Container) -> Console | None:
        """Connect, and retry while conmon is busy: its socket has a backlog of ten connections."""
        deadline = self._loop.time() + _BUSY_SECONDS
        while True:
            try:
                return self.connect(c)
            except BlockingIOError:
                if self._loop.time() > deadline:
                    raise
            await asyncio.sleep(0.01)

    async def console(self, c: Container) -> Console | None:
        """Connect now if the container runs, else when it starts; None if it does not start."""
        if c.state.alive:
            return await self._connected(c)
        future: asyncio.Future[Console | None] = self._loop.create_future()
        with self._lock:
            self._early.setdefault(c.id, []).append(future)
        try:
            return await future
        finally:
            with self._lock:
                waiting = self._early.get(c.id, [])
                if future in waiting:
                    waiting.remove(future)
                if not waiting:
                    self._early.pop(c.id, None)

    def keep_open(self, console: Console) -> None:
        """Keep the connection and discard output until the container has exited."""
        threads.task("discarding output", console.drain())

    def emit(self, c: Container, action: str) -> None:
        labels = c.config.labels or {}
        what = {**labels, "image": c.config.image, "name": c.name}
        self._events.emit("container", action, c.id, what)

    @property
    def _at_a_time(self) -> int:
        """Bytes of records that one reader of a log may hold."""
        return max(_AT_A_TIME_LEAST, min(_AT_A_TIME, _AT_A_TIME_ALL // self._readers))

    async def logs(self, c: Container, options: LogOptions) -> AsyncIterator[tuple[int, bytes]]:
        if c.host_config.log_config.type == "none":
            raise InvalidSpec("configured logging driver does not support reading")
        channels = [n for n, on in ((1, options.stdout), (2, options.stderr)) if on]
        log = self._paths.log(c.id)
        # `read` stops here and `follow` starts: no record twice, none lost.
        end = await asyncio.to_thread(logs.end_position, log)
        past = logs.read(
            log,
            since=int(options.since * 1e9) - _EXACT if options.since else 0,
            until=int(options.until * 1e9) + _EXACT if options.until else 0,
            tail=options.tail,
            channels=channels,
            end=end,
        )
        prefix = _details(c) if options.details else b""
        shown = _Shown(options, prefix)
        self._readers += 1
        try:
            while some := await asyncio.to_thread(_some, past, self._at_a_time):
                while some:
                    entry = some.popleft()
                    yield entry.channel, shown.text(entry)
        finally:
            self._readers -= 1
        if not options.follow:
            return
        coming = follow(
            log,
            end,
            channels=channels,
            until=options.until,
            running=lambda: c.state.alive or c.state.status == "restarting",
            now=time.time,
        )
        async with contextlib.aclosing(coming):
            async for entry in coming:
                yield entry.channel, shown.text(entry)


def _some(past: Iterator[logs.Entry], at_a_time: int) -> deque[logs.Entry]:
    found: deque[logs.Entry] = deque()
    size = 0
    while size < at_a_time and (entry := next(past, None)) is not None:
        found.append(entry)
        size += len(entry.data) + _RECORD
    return found


class _Shown:
    """Formats log entries: time and details once a line, which may consist of several entries."""

    def __init__(self, options: LogOptions, prefix: bytes) -> None:
        self._times = options.timestamps
        self._prefix = prefix
        self._unfinished: set[int] = set()  # channels whose last entry ended within a line

    def text(self, entry: logs.Entry) -> bytes:
        within = entry.channel in self._unfinished
        if entry.data.endswith(b"\n"):
            self._unfinished.discard(entry.channel)
        else:
            self._unfinished.add(entry.channel)
        if within:
            return entry.data
        return (entry.time + b" " if self._times else b"") + self._prefix + entry.data


def _details(c: Container) -> bytes:
    wanted = c.host_config.log_config.config or {}
    pairs = []
    for name in filter(None, (wanted.get("labels") or "").split(",")):
        if name in (c.config.labels or {}):
            pairs.append(f"{name}={(c.config.labels or {})[name]}")
    env = dict(e.partition("=")[::2] for e in c.config.env or ())
    for name in filter(None, (wanted.get("env") or "").split(",")):
        if name in env:
            pairs.append(f"{name}={env[name]}")
    return f"{','.join(pairs)} ".encode() if pairs else b" "


def _set_none(futures: list[asyncio.Future[Console | None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class ContainerAttachment:
    """Implements ports.Attachment for a container."""

    def __init__(
        self, attach_service: AttachService, c: Container, options: AttachOptions, keys: bytes
    ) -> None:
        self.tty = c.config.tty
        self._attach_service = attach_service
        self._c = c
        self._options = options
        self._keys = keys if c.config.tty else b""

    async def run(self, stream: Stream) -> None:
        o = self._options
        if o.logs:
            wanted = LogOptions(stdout=o.stdout, stderr=o.stderr)
            with contextlib.suppress(NotFound, InvalidSpec):
                async for channel, data in self._attach_service.logs(self._c, wanted):
                    await stream.write(channel, data)
        if not o.stream:
            return
        self._attach_service.emit(self._c, "attach")  # Docker's order: before the event "start"
        console = await self._attach_service.console(self._c)
        if console is None:
            return
        try:
            await self._copy(console, stream)
        finally:
            self._leave(console)

    def _leave(self, console: Console) -> None:
        """Close the connection, unless that would close the container's stdin.

        With StdinOnce conmon closes stdin when any client disconnects, also one that only reads
        output: its connection is kept open until the container exits.
        """
        config = self._c.config
        closes = config.open_stdin and config.stdin_once and not self.tty
        if closes and not self._options.stdin:
            self._attach_service.keep_open(console)
        else:
            console.close()

    async def _copy(self, console: Console, stream: Stream) -> None:
        output = asyncio.create_task(self._output(console, stream))
        tasks: set[asyncio.Task[bool]] = {output}
        if self._options.stdin and self._c.config.open_stdin:
            tasks.add(asyncio.create_task(self._input(console, stream)))
        waiting = set(tasks)
        try:
            while output in waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if any(task.result() for task in done):
                    self._attach_service.emit(self._c, "detach")
                    return
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _output(self, console: Console, stream: Stream) -> bool:
        wanted = {n for n, on in ((1, self._options.stdout), (2, self._options.stderr)) if on}
        while (packet := await console.read()) is not None:
            channel, data = packet
            if self.tty:
                channel = 1
            if channel in wanted:
                await stream.write(channel, data)
        return False

    async def _input(self, console: Console, stream: Stream) -> bool:
        """Copy input to the console; True if the client detached, False at the end of input."""
        detector = detach_keys.DetachKeyDetector(self._keys)
        while data := await stream.read():
            data, detached = detector.feed(data)
            if data:
                try:
                    await console.write(data)
                except OSError:
                    return False
            if detached:
                return True
        if self._c.config.stdin_once or not self.tty:
            console.end_input()
        return False
