"""Implements ports.Execs: `docker exec`, and the processes of health checks."""

from __future__ import annotations

import asyncio
import secrets
import threading

from netkit import threads
from netkit.errors import Conflict, InvalidSpec
from runtime.container.arguments import check_arguments
from runtime.container.model import Container
from runtime.container.options import Exec, ExecConfig
from runtime.container.store import ContainerStore
from runtime.lifecycle import detach_keys as detach
from runtime.lifecycle.bundle import BundleBuilder
from runtime.lifecycle.exec_run import ExecAttachment, read_all
from runtime.lifecycle.exec_store import ExecStore
from runtime.lifecycle.streams import Attachment
from runtime.lifecycle.supervisor import Supervisor
from runtime.oci.exec_session import ExecSession
from runtime.oci.reaper import Reaper
from runtime.oci.shim import Shim
from runtime.paths import Paths

TIMED_OUT = 137  # exit status of a health probe that was killed at its timeout


class ExecService:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        paths: Paths,
        shim: Shim,
        reaper: Reaper,
        bundle_builder: BundleBuilder,
        store: ContainerStore,
        supervisor: Supervisor,
    ) -> None:
        self._loop = loop
        self._paths = paths
        self._shim = shim
        self._reaper = reaper
        self._bundle_builder = bundle_builder
        self._store = store
        self._supervisor = supervisor
        self._lock = threading.Lock()
        self._execs = ExecStore()
        self._sessions: dict[str, ExecSession] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        # ids of execs whose containers exited while they were being started
        self._doomed: set[str] = set()

    def create(self, ref: str, config: ExecConfig) -> str:
        c = self._store.find_unpaused(ref)
        if not config.cmd:
            raise InvalidSpec("No exec command specified")
        detach.parse(config.detach_keys or None)
        check_arguments("argument", config.cmd)
        check_arguments("environment variable", config.env or ())
        id = secrets.token_hex(32)
        self._execs.add(Exec(id=id, container=c.id, config=config))
        self._supervisor.emit(c, f"exec_create: {' '.join(config.cmd)}", execID=id)
        return id

    def find(self, id: str) -> Exec:
        return self._execs.find(id)

    def of(self, container_id: str) -> list[str]:
        return self._execs.running(container_id)

    def ended(self, c: Container) -> None:
        """Kill what still runs of an exited container's execs, e.g. with --pid=host.

        Without a PID namespace of its own the kernel does not kill them with the first process.
        Execs that were created and never started are forgotten.
        """
        self._execs.forget_unstarted(c.id)
        for id in self.of(c.id):
            self._doomed.add(id)
            session = self._sessions.get(id)
            if session is not None:
                threads.post(self._loop, f"ending exec {id[:12]}", session.kill)

    def start(
        self, id: str, *, detach: bool, tty: bool, size: tuple[int, int] | None = None
    ) -> Attachment | None:
        e = self.find(id)
        c = self._store.find_unpaused(e.container)
        _check_unstarted(e)
        running = ExecAttachment(self, c, e, size or e.config.console_size or (0, 0), raw=tty)
        if not detach:
            return running
        started = asyncio.run_coroutine_threadsafe(running.begin(output=False), self._loop)
        started.result()
        threads.post(self._loop, f"exec {id[:12]}", self.keep, running)
        return None

    def claim(self, e: Exec) -> None:
        """Mark the exec as running, right before its process is started.

        Not earlier: for a client that disconnects before, the exec can still be started.

        Conflict if it has run, NotFound if it has been forgotten, e.g. with its container's end.
        """
        with self._lock:
            self.find(e.id)
            _check_unstarted(e)
            e.running = True

    @staticmethod
    def keep(running: ExecAttachment) -> None:
        """Keep the exec running without a client until it exits.  On the event loop."""
        threads.task(f"exec in {running.container}", running.keep_open())

    def resize(self, id: str, height: int, width: int) -> None:
        e = self.find(id)
        if not e.running:
            raise Conflict(f"exec {id} is not running")
        self._sizes[e.id] = (height, width)
        session = self._sessions.get(e.id)
        if session is not None:
            threads.post(self._loop, f"resizing exec {e.id[:12]}", session.resize, height, width)

    async def open(
        self, c: Container, e: Exec, *, output: bool, size: tuple[int, int]
    ) -> ExecSession:
        """Start the process; StartFailed or BadCommand as the OCI runtime reports."""
        config = e.config
        process = await asyncio.to_thread(
            self._bundle_builder.exec_process,
            c,
            self._paths.rootfs(c.id),
            args=list(config.cmd or ()),
            tty=config.tty,
            user=config.user,
            env=list(config.env or ()),
            cwd=config.working_dir,
            privileged=config.privileged,
        )
        session = ExecSession(self._shim, self._reaper, c.id, process)
        try:
            await session.start(
                stdin=config.attach_stdin and output,
                output=output,
                size=self._sizes.pop(e.id, None) or size,
            )
        except BaseException:
            self._end(e, session)
            raise
        e.pid = session.pid
        self._sessions[e.id] = session
        if e.id in self._doomed:
            session.kill()
        return session

    @staticmethod
    def _end(e: Exec, session: ExecSession) -> None:
        threads.attempt(f"ending exec {e.id[:12]}", session.kill)
        threads.attempt(f"closing exec {e.id[:12]}", session.close)

    def emit(self, c: Container, e: Exec, action: str, **more: str) -> None:
        self._supervisor.emit(c, action, execID=e.id, **more)

    def done(self, e: Exec, code: int) -> None:
        e.exit_code = code
        e.running = False
        e.pid = 0
        self._sizes.pop(e.id, None)
        self._doomed.discard(e.id)
        session = self._sessions.pop(e.id, None)
        if session is not None:
            threads.attempt(f"closing exec {e.id[:12]}", session.close)

    async def probe(self, c: Container, command: list[str], limit: float) -> tuple[int, bytes]:
        """Run a health check; (exit status, output).

        TimeoutError after `limit` seconds; its `args[0]` is the output until then.
        """
        config = ExecConfig(cmd=command, attach_stdout=True, attach_stderr=True)
        e = Exec(id=secrets.token_hex(32), container=c.id, config=config, running=True)
        self.emit(c, e, f"exec_create: {' '.join(command)}")
        session = await self.open(c, e, output=True, size=(0, 0))
        self.emit(c, e, f"exec_start: {' '.join(command)}")
        out, err = bytearray(), bytearray()
        code = TIMED_OUT
        try:
            async with asyncio.timeout(limit):
                await asyncio.gather(read_all(session, 1, out), read_all(session, 2, err))
                code = await session.wait()
            return code, bytes(out + err)
        except TimeoutError:
            raise TimeoutError(bytes(out + err)) from None
        finally:  # on timeout, exit of the container, errors and cancellation alike
            self._end(e, session)
            self._sessions.pop(e.id, None)
            self.done(e, code)
            self.emit(c, e, "exec_die", exitCode=str(code))


def _check_unstarted(e: Exec) -> None:
    if e.running or e.exit_code is not None:
        raise Conflict(f"Error: Exec command {e.id} has already run")
