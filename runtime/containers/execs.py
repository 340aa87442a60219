"""Implements ports.Execs: further processes in running containers."""

from __future__ import annotations

import asyncio
import secrets
import threading

from netkit import threads
from netkit.errors import Conflict, InvalidSpec, NetkitError, NotFound
from runtime.containers import detach
from runtime.containers.bundle import Bundler
from runtime.containers.model import Container
from runtime.containers.runs import Runs
from runtime.containers.store import ContainerStore
from runtime.oci.failure import BadCommand
from runtime.oci.reaper import LOST, Reaper
from runtime.oci.session import Session
from runtime.oci.shim import Shim
from runtime.paths import Paths
from runtime.ports.containers import Attachment, Exec, ExecConfig, Stream

TIMED_OUT = 137  # exit status of a health probe that was killed after its time
REMEMBERED = 1024  # execs that have ended, or were never started, and are remembered


class ExecService:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        paths: Paths,
        shim: Shim,
        reaper: Reaper,
        bundler: Bundler,
        store: ContainerStore,
        runs: Runs,
    ) -> None:
        self._loop = loop
        self._paths = paths
        self._shim = shim
        self._reaper = reaper
        self._bundler = bundler
        self._store = store
        self._runs = runs
        self._lock = threading.Lock()
        self._execs: dict[str, Exec] = {}
        self._sessions: dict[str, Session] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def create(self, ref: str, config: ExecConfig) -> str:
        c = self._store.awake(ref)
        if not config.cmd:
            raise InvalidSpec("No exec command specified")
        detach.parse(config.detach_keys or None)
        id = secrets.token_hex(32)
        with self._lock:
            self._execs[id] = Exec(id=id, container=c.id, config=config)
            self._forget_some()
        self._runs.emit(c, f"exec_create: {' '.join(config.cmd)}", execID=id)
        return id

    def _forget_some(self) -> None:
        idle = [e.id for e in self._execs.values() if not e.running]
        for id in idle[: max(0, len(idle) - REMEMBERED)]:
            del self._execs[id]
            self._sizes.pop(id, None)

    def find(self, id: str) -> Exec:
        found = self._execs.get(id)
        if found is None:
            hits = [e for k, e in self._execs.copy().items() if id and k.startswith(id)]
            if len(hits) != 1:
                raise NotFound(f"No such exec instance: {id}")
            found = hits[0]
        return found

    def of(self, container_id: str) -> list[str]:
        return sorted(
            e.id for e in self._execs.copy().values() if e.container == container_id and e.running
        )

    def ended(self, c: Container) -> None:
        """The container has ended: so does what still runs of it, e.g. with --pid=host.

        What was created and never started can no longer be.
        """
        with self._lock:
            for e in list(self._execs.values()):
                if e.container == c.id and not e.running and e.exit_code is None:
                    del self._execs[e.id]
        for id in self.of(c.id):
            session = self._sessions.get(id)
            if session is not None:
                threads.post(self._loop, f"ending exec {id[:12]}", session.kill)

    def start(
        self, id: str, *, detach: bool, tty: bool, size: tuple[int, int] | None = None
    ) -> Attachment | None:
        e = self.find(id)
        c = self._store.awake(e.container)
        with self._lock:
            if e.running or e.exit_code is not None:
                raise Conflict(f"Error: Exec command {id} has already run")
            e.running = True
        running = Running(self, c, e, size or _size(e.config))
        if not detach:
            return running
        started = asyncio.run_coroutine_threadsafe(running.begin(output=False), self._loop)
        started.result()
        threads.post(self._loop, f"exec {id[:12]}", self.keep, running)
        return None

    @staticmethod
    def keep(running: Running) -> None:
        """Nobody listens any more: it goes on until it ends by itself.  On the event loop."""
        threads.task(f"exec in {running.container}", running.finish())

    def resize(self, id: str, height: int, width: int) -> None:
        e = self.find(id)
        if not e.running:
            raise Conflict(f"exec {id} is not running")
        self._sizes[id] = (height, width)
        session = self._sessions.get(id)
        if session is not None:
            threads.post(self._loop, f"resizing exec {id[:12]}", session.resize, height, width)

    async def open(self, c: Container, e: Exec, *, output: bool, size: tuple[int, int]) -> Session:
        """Start the process; StartFailed or BadCommand as the runtime says."""
        config = e.config
        process = await asyncio.to_thread(
            self._bundler.exec_process,
            c,
            self._paths.rootfs(c.id),
            args=list(config.cmd or ()),
            tty=config.tty,
            user=config.user,
            env=list(config.env or ()),
            cwd=config.working_dir,
            privileged=config.privileged,
        )
        session = Session(self._shim, self._reaper, c.id, process)
        try:
            await session.start(
                stdin=config.attach_stdin and output,
                output=output,
                size=self._sizes.pop(e.id, None) or size,
            )
        except BaseException:
            session.close()
            raise
        e.pid = session.pid
        self._sessions[e.id] = session
        return session

    def tell(self, c: Container, e: Exec, action: str, **more: str) -> None:
        self._runs.emit(c, action, execID=e.id, **more)

    def done(self, e: Exec, code: int) -> None:
        e.exit_code = code
        e.running = False
        e.pid = 0
        session = self._sessions.pop(e.id, None)
        if session is not None:
            threads.attempt(f"closing exec {e.id[:12]}", session.close)

    async def probe(self, c: Container, command: list[str], limit: float) -> tuple[int, bytes]:
        """Run a health check; (exit status, output).

        TimeoutError after `limit` seconds; its `args[0]` is the output until then.
        """
        config = ExecConfig(cmd=command, attach_stdout=True, attach_stderr=True)
        e = Exec(id=secrets.token_hex(32), container=c.id, config=config, running=True)
        self.tell(c, e, f"exec_create: {' '.join(command)}")
        session = await self.open(c, e, output=True, size=(0, 0))
        self.tell(c, e, f"exec_start: {' '.join(command)}")
        out, err = bytearray(), bytearray()
        code = TIMED_OUT
        try:
            async with asyncio.timeout(limit):
                await asyncio.gather(_all(session, 1, out), _all(session, 2, err))
                code = await session.wait()
            return code, bytes(out + err)
        except TimeoutError:
            session.kill()
            raise TimeoutError(bytes(out + err)) from None
        finally:
            self.done(e, code)
            self.tell(c, e, "exec_die", exitCode=str(code))


async def _all(session: Session, channel: int, into: bytearray, most: int = 4096) -> None:
    while data := await session.read(channel):
        into += data[: most - len(into)]


def _size(config: ExecConfig) -> tuple[int, int]:
    height, width = (config.console_size or [0, 0])[:2]
    return height, width


class Running:
    """One session from start to end; implements ports.Attachment."""

    def __init__(self, execs: ExecService, c: Container, e: Exec, size: tuple[int, int]) -> None:
        self.tty = e.config.tty
        self.container = c.name
        self._execs = execs
        self._c = c
        self._e = e
        self._size = size
        self._session: Session | None = None

    async def begin(self, *, output: bool) -> Session:
        try:
            self._session = await self._execs.open(self._c, self._e, output=output, size=self._size)
        except NetkitError as error:
            code = error.exit_code if isinstance(error, BadCommand) else 126
            self._execs.done(self._e, code)
            raise
        except BaseException:
            self._execs.done(self._e, 126)
            raise
        command = " ".join(self._e.config.cmd or ())
        self._execs.tell(self._c, self._e, f"exec_start: {command}")
        return self._session

    async def finish(self) -> None:
        assert self._session is not None
        code = LOST
        try:
            code = await self._session.wait()
        finally:
            self._execs.done(self._e, code)
        self._execs.tell(self._c, self._e, "exec_die", exitCode=str(code))

    async def run(self, stream: Stream) -> None:
        try:
            session = await self.begin(output=True)
        except NetkitError as error:
            await stream.write(1, f"{error}\r\n".encode())
            return
        input_ = asyncio.create_task(self._input(session, stream))
        ended = asyncio.create_task(self._output(session, stream))
        try:
            await asyncio.wait({input_, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and not (input_.done() and input_.result()):
                await asyncio.wait({ended})
            if ended.done():
                ended.result()
                await self.finish()
            else:
                self._execs.keep(self)
        except BaseException:
            # the client is gone: the process goes on, as with Docker, until it ends by itself
            self._execs.keep(self)
            raise
        finally:
            for task in (input_, ended):
                task.cancel()
            await asyncio.gather(input_, ended, return_exceptions=True)

    async def _output(self, session: Session, stream: Stream) -> None:
        async def copy(channel: int, wanted: bool) -> None:
            while data := await session.read(channel):
                if wanted:
                    await stream.write(channel, data)

        config = self._e.config
        await asyncio.gather(copy(1, config.attach_stdout), copy(2, config.attach_stderr))

    async def _input(self, session: Session, stream: Stream) -> bool:
        """True if the detach keys came."""
        if not self._e.config.attach_stdin:
            return False
        keys = detach.parse(self._e.config.detach_keys or None) if self.tty else b""
        detector = detach.Detector(keys)
        while data := await stream.read():
            data, left = detector.feed(data)
            if data:
                try:
                    await session.write(data)
                except (OSError, ConnectionError):
                    return False
            if left:
                return True
        session.end_input()
        return False
