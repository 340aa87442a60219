"""`runc exec` sessions: one more process in a running container, with pipes or a terminal."""

from __future__ import annotations

import array
import asyncio
import fcntl
import json
import os
import secrets
import socket
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.oci.failure import StartFailed, failure
from runtime.oci.shim import SEARCH, Shim

_BLOCK = 1 << 16
_CONSOLE_SECONDS = 20.0


class Session:
    """Lives on the event loop.  `process` as in the runtime specification."""

    def __init__(self, shim: Shim, id: str, process: Mapping[str, Any]) -> None:
        self._shim = shim
        self._id = id
        self._process = process
        self._tty = bool(process.get("terminal"))
        self._files = shim.bundle(id) / f"exec-{secrets.token_hex(8)}"
        self._child: asyncio.subprocess.Process | None = None
        self._master = -1
        self.pid = 0

    async def start(self, *, stdin: bool, output: bool, size: tuple[int, int] | None) -> None:
        """StartFailed or BadCommand in the runtime's words if the command cannot run."""
        self._files.mkdir(mode=0o700)
        (self._files / "process.json").write_text(json.dumps(self._process))
        args = [
            "--log", str(self._files / "log"), "--log-format", "json",
            "exec", "--process", str(self._files / "process.json"),
            "--pid-file", str(self._files / "pid"),
        ]  # fmt: skip
        listener = self._listen() if self._tty else None
        if listener:
            args += ["--tty", "--console-socket", self._console]
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        piped = output and not self._tty
        try:
            self._child = await asyncio.create_subprocess_exec(
                *self._shim.command(*args, self._id),
                stdin=pipe if stdin and not self._tty else null,
                stdout=pipe if piped else null,
                stderr=pipe if piped else null,
                start_new_session=True,
                env={"PATH": SEARCH},
                limit=_BLOCK * 4,
                pass_fds=self._pass,
            )
            if listener:
                await self._take_terminal(listener, size)
            await self._began()
        finally:
            if listener:
                listener.close()

    _pass: tuple[int, ...] = ()
    _console = ""

    def _listen(self) -> socket.socket:
        """Where the runtime sends the terminal; reached through a short path of our own fd."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        folder = os.open(self._files, os.O_PATH)
        self._console = f"/proc/{os.getpid()}/fd/{folder}/console"
        self._folder = folder
        sock.bind(self._console)
        sock.listen(1)
        return sock

    async def _take_terminal(
        self, listener: socket.socket, size: tuple[int, int] | None
    ) -> None:
        assert self._child is not None
        loop = asyncio.get_running_loop()
        accepting = asyncio.ensure_future(loop.sock_accept(listener))
        ending = asyncio.ensure_future(self._child.wait())
        done, _ = await asyncio.wait(
            {accepting, ending}, timeout=_CONSOLE_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        os.close(self._folder)
        if accepting not in done:
            accepting.cancel()
            if ending not in done:
                self._child.kill()
            await ending
            raise self._complaint()
        connection, _ = accepting.result()
        with connection:
            connection.setblocking(True)
            connection.settimeout(_CONSOLE_SECONDS)
            self._master = await asyncio.to_thread(_receive_fd, connection)
        os.set_blocking(self._master, False)
        if size and all(size):
            self.resize(*size)

    async def _began(self) -> None:
        """Wait until the command runs, or the runtime has given up."""
        assert self._child is not None
        pidfile = self._files / "pid"
        while not (pidfile.exists() and pidfile.stat().st_size):
            if self._child.returncode is not None:
                if pidfile.exists():
                    break  # ran, and ended at once
                raise self._complaint()
            await asyncio.sleep(0.002)
        with suppress(ValueError, FileNotFoundError):
            self.pid = int(pidfile.read_text())

    def _complaint(self) -> StartFailed:
        try:
            said = (self._files / "log").read_text()
        except FileNotFoundError:
            said = ""
        return failure("exec", said)

    async def read(self, channel: int) -> bytes:
        """Output of channel 1 or 2; b"" at its end.  A terminal has only channel 1."""
        if self._tty:
            return await self._read_terminal() if channel == 1 else b""
        assert self._child is not None
        stream = self._child.stdout if channel == 1 else self._child.stderr
        return await stream.read(_BLOCK) if stream else b""

    async def _read_terminal(self) -> bytes:
        while True:
            try:
                return os.read(self._master, _BLOCK)
            except BlockingIOError:
                await _readable(self._master)
            except OSError:
                return b""  # EIO: the other side is closed

    async def write(self, data: bytes) -> None:
        if self._tty:
            while data:
                try:
                    data = data[os.write(self._master, data) :]
                except BlockingIOError:
                    await _writable(self._master)
            return
        assert self._child is not None
        if self._child.stdin:
            self._child.stdin.write(data)
            await self._child.stdin.drain()

    def end_input(self) -> None:
        if not self._tty and self._child and self._child.stdin:
            self._child.stdin.close()

    def resize(self, height: int, width: int) -> None:
        if self._master >= 0:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def wait(self) -> int:
        """Exit status of the command, 128+n for signal n."""
        assert self._child is not None
        code = await self._child.wait()
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        """End the command itself; the runtime's process follows."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, 9)
        elif self._child and self._child.returncode is None:
            self._child.kill()

    def close(self) -> None:
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
        for name in ("process.json", "pid", "log", "console"):
            with suppress(FileNotFoundError):
                (self._files / name).unlink()
        with suppress(OSError):
            self._files.rmdir()


def _receive_fd(connection: socket.socket) -> int:
    _, controls, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
    for level, kind, data in controls:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(data[:4])
            os.set_inheritable(fds[0], False)
            return fds[0]
    raise StartFailed("the runtime sent no terminal")


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def sweep(bundle: Path) -> None:
    """Remove what sessions of a killed daemon left."""
    for folder in bundle.glob("exec-*"):
        for file in folder.iterdir():
            file.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
