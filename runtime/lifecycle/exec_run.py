"""Run an exec from start to exit, with a client or without one."""

from __future__ import annotations

import asyncio
from typing import Protocol

from netkit import threads
from netkit.errors import NetkitError
from runtime.container.model import Container
from runtime.container.options import Exec
from runtime.lifecycle import detach_keys
from runtime.lifecycle.streams import Stream
from runtime.oci.errors import BadCommand
from runtime.oci.exec_session import ExecSession
from runtime.oci.reaper import LOST


async def read_all(session: ExecSession, channel: int, into: bytearray, most: int = 4096) -> None:
    """Read a channel to its end; keep the first `most` bytes."""
    while data := await session.read(channel):
        into += data[: most - len(into)]


class Execs(Protocol):
    """The part of runtime.lifecycle.exec.ExecService that a run uses."""

    def claim(self, e: Exec) -> None: ...
    async def open(
        self, c: Container, e: Exec, *, output: bool, size: tuple[int, int]
    ) -> ExecSession: ...
    def emit(self, c: Container, e: Exec, action: str, **more: str) -> None: ...
    def done(self, e: Exec, code: int) -> None: ...
    def keep(self, running: ExecAttachment) -> None: ...


class ExecAttachment:
    """One session from start to exit; implements ports.Attachment.

    `raw`: Tty of the start request.  As with dockerd it decides whether the stream is multiplexed,
    whatever Tty of the create request was; and a raw stream carries no stderr.
    """

    def __init__(
        self, execs: Execs, c: Container, e: Exec, size: tuple[int, int], *, raw: bool
    ) -> None:
        self.tty = raw
        self.container = c.name
        self._execs = execs
        self._c = c
        self._e = e
        self._size = size
        self._session: ExecSession | None = None
        self._begun: asyncio.Future[ExecSession] | None = None

    async def begin(self, *, output: bool) -> ExecSession:
        self._execs.claim(self._e)
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
        self._execs.emit(self._c, self._e, f"exec_start: {command}")
        return self._session

    async def finish(self) -> None:
        assert self._session is not None
        code = LOST
        try:
            code = await self._session.wait()
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._over(code)
            raise
        self._over(code)

    def _over(self, code: int) -> None:
        self._execs.done(self._e, code)
        self._execs.emit(self._c, self._e, "exec_die", exitCode=str(code))

    async def run(self, stream: Stream) -> None:
        self._begun = asyncio.ensure_future(self.begin(output=True))
        try:
            session = await asyncio.shield(self._begun)
        except asyncio.CancelledError:  # the start is in progress and completes: keep its process
            self._execs.keep(self)
            raise
        except NetkitError as error:
            await stream.write(1, f"{error}\r\n".encode())
            return
        input_ = asyncio.create_task(self._input(session, stream))
        ended = asyncio.create_task(self._output(session, stream))
        over = False
        try:
            await asyncio.wait({input_, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and not (input_.done() and input_.result()):
                await asyncio.wait({ended})
            if ended.done():
                ended.result()
                await self.finish()
                over = True
        finally:
            for task in (input_, ended):
                task.cancel()
            try:
                await asyncio.gather(input_, ended, return_exceptions=True)
            finally:
                del input_, ended  # an error of theirs has this frame in its traceback
                if not over:  # detached or disconnected: the command runs on, as with Docker
                    self._execs.keep(self)

    async def keep_open(self) -> None:
        """Discard output without a client: a full pipe would block the command.  Closes stdin."""
        session = self._session or (await self._begun if self._begun else None)
        assert session is not None
        threads.attempt(f"ending the input of exec {self._e.id[:12]}", session.end_input)
        await asyncio.gather(*(self._discard(session, channel) for channel in (1, 2)))
        await self.finish()

    async def _discard(self, session: ExecSession, channel: int) -> None:
        try:
            await read_all(session, channel, bytearray(), 0)
        except Exception as error:  # noqa: BLE001  reported; the exit is awaited all the same
            threads.report(f"reading from exec {self._e.id[:12]}", error)
            session.end_output(channel)

    async def _output(self, session: ExecSession, stream: Stream) -> None:
        async def copy(channel: int, wanted: bool) -> None:
            while data := await session.read(channel):
                if wanted:
                    await stream.write(channel, data)

        config = self._e.config
        errors = config.attach_stderr and not self.tty
        await asyncio.gather(copy(1, config.attach_stdout), copy(2, errors))

    async def _input(self, session: ExecSession, stream: Stream) -> bool:
        """Copy input to the process; True if the client detached by keys."""
        if not self._e.config.attach_stdin:
            return False
        keys = detach_keys.parse(self._e.config.detach_keys or None) if self._e.config.tty else b""
        detector = detach_keys.DetachKeyDetector(keys)
        while data := await stream.read():
            data, left = detector.feed(data)
            if data:
                try:
                    await session.write(data)
                except ConnectionError:
                    return False  # it reads no more
            if left:
                return True
        session.end_input()
        return False
