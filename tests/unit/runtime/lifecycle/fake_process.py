"""Processes of the fake engine: ordinary ones of this host, with attach, logs and exit codes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.lifecycle.streams import Stream

DETACH = b"\x10\x11"  # ctrl-p ctrl-q
Item = tuple[int, bytes]


class Outlet:
    """Output of one process: remembered, and written to attached clients, at their pace."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.log: list[tuple[int, int, bytes]] = []  # time in ns, channel, data
        self.queues: set[asyncio.Queue[Item | None]] = set()
        self.ended = False

    def subscribe(self) -> asyncio.Queue[Item | None]:
        queue: asyncio.Queue[Item | None] = asyncio.Queue(16)
        self.queues.add(queue)
        return queue

    def publish(self, channel: int, data: bytes) -> None:
        """Write from the thread that reads the process; wait for slow listeners."""
        self.log.append((time.time_ns(), channel, data))
        asyncio.run_coroutine_threadsafe(self._put((channel, data)), self.loop).result()

    async def _put(self, item: Item | None) -> None:
        for queue in list(self.queues):
            while queue in self.queues:
                try:
                    await asyncio.wait_for(queue.put(item), 0.2)
                    break
                except TimeoutError:
                    continue

    def end(self) -> None:
        self.ended = True
        asyncio.run_coroutine_threadsafe(self._put(None), self.loop).result()


@dataclass
class Process:
    argv: list[str]
    tty: bool
    outlet: Outlet
    on_exit: Callable[[int], None]
    env: list[str] = field(default_factory=list)
    open_stdin: bool = False
    popen: subprocess.Popen[bytes] | None = None
    stdin: int = -1
    _ready: threading.Event = field(default_factory=threading.Event)
    signalled: int = 0
    reapers: list[threading.Thread] = field(default_factory=list)  # to be joined by the engine

    def start(self) -> None:
        """FileNotFoundError if there is no such program."""
        env = {**os.environ, **dict(e.split("=", 1) for e in self.env if "=" in e)}
        if self.tty:
            master, slave = pty.openpty()
            self.popen = subprocess.Popen(
                self.argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                env=env, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            )  # fmt: skip
            os.close(slave)
            self.stdin = master
            readers = [(master, 1)]
        else:
            self.popen = subprocess.Popen(
                self.argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                stdin=subprocess.PIPE if self.open_stdin else subprocess.DEVNULL,
                env=env,
            )  # fmt: skip
            assert self.popen.stdout
            assert self.popen.stderr
            if self.popen.stdin:
                self.stdin = os.dup(self.popen.stdin.fileno())
                self.popen.stdin.close()
            readers = [(self.popen.stdout.fileno(), 1), (self.popen.stderr.fileno(), 2)]
        self._ready.set()
        threads = [threading.Thread(target=self._pump, args=r, daemon=True) for r in readers]
        for thread in threads:
            thread.start()
        reaper = threading.Thread(target=self._reap, args=(threads,), daemon=True)
        self.reapers.append(reaper)
        reaper.start()

    def _pump(self, fd: int, channel: int) -> None:
        while True:
            try:
                data = os.read(fd, 65536)
            except OSError:  # EIO: the terminal's last user has ended
                return
            if not data:
                return
            try:
                self.outlet.publish(channel, data)
            except RuntimeError:  # the loop has ended, and the test with it
                return

    def _reap(self, threads: list[threading.Thread]) -> None:
        assert self.popen
        code = self.popen.wait()
        for thread in threads:
            thread.join()
        for pipe in (self.popen.stdout, self.popen.stderr):
            if pipe:
                pipe.close()
        self.close_stdin()
        code = 128 - code if code < 0 else code
        try:
            self.outlet.end()
        except RuntimeError:
            return
        self.on_exit(code)

    def feed(self, data: bytes) -> None:
        self._ready.wait(10)
        view = memoryview(data)
        while view and self.stdin >= 0:
            view = view[os.write(self.stdin, view) :]

    def close_stdin(self) -> None:
        self._ready.wait(10)
        fd, self.stdin = self.stdin, -1
        if fd >= 0:
            os.close(fd)

    def resize(self, height: int, width: int) -> None:
        fcntl.ioctl(self.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


class FakeAttachment:
    def __init__(self, process: Process, *, stdin: bool, replay: bool, start: bool = False) -> None:
        self.tty = process.tty
        self._process = process
        self._stdin = stdin
        self._replay = replay
        self._start = start

    async def run(self, stream: Stream) -> None:
        self._queue = self._process.outlet.subscribe()  # not before: the client may have left
        tasks: set[asyncio.Task[None]] = {asyncio.create_task(self._output(stream))}
        detached: asyncio.Task[None] | None = None
        if self._stdin:
            detached = asyncio.create_task(self._input(stream))
            tasks.add(detached)
        try:
            if self._start:
                await asyncio.to_thread(self._process.start)
            while tasks:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                    if task is not detached or self._left:
                        return
        finally:
            self._process.outlet.queues.discard(self._queue)
            for task in tasks:
                task.cancel()

    _left = False

    async def _output(self, stream: Stream) -> None:
        if self._replay:
            for _, channel, data in list(self._process.outlet.log):
                await stream.write(channel, data)
        if self._process.outlet.ended:
            return
        while (item := await self._queue.get()) is not None:
            await stream.write(*item)

    async def _input(self, stream: Stream) -> None:
        while data := await stream.read():
            if self.tty and DETACH in data:
                self._left = True
                return
            try:
                await asyncio.to_thread(self._process.feed, data)
            except OSError:
                return
        if not self.tty:
            await asyncio.to_thread(self._process.close_stdin)
