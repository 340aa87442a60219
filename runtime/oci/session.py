"""`runc exec` sessions: one more process in a running container, with pipes or a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import signal
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.oci.failure import StartFailed, failure
from runtime.oci.programs import SEARCH
from runtime.oci.shim import Shim

_BLOCK = 1 << 16
_MOST = 0xFFFF  # characters; ioctl_tty(2) has 16 bits


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
        process = dict(self._process)
        if self._tty and size and all(size):
            # the runtime passes on the terminal's own size only after the command has begun
            process["consoleSize"] = {"height": size[0], "width": size[1]}
        (self._files / "process.json").write_text(json.dumps(process))
        args = [
            "--log", str(self._files / "log"), "--log-format", "json",
            "exec", "--process", str(self._files / "process.json"),
            "--pid-file", str(self._files / "pid"),
        ]  # fmt: skip
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        ends = [pipe if stdin else null, *([pipe, pipe] if output else [null, null])]
        slave = -1
        if self._tty:
            args.append("--tty")
            self._master, slave = os.openpty()
            if size and all(size):
                self._set_size(*size)
            ends = [slave] * 3
        try:
            self._child = await asyncio.create_subprocess_exec(
                *self._shim.command(*args, self._id),
                stdin=ends[0],
                stdout=ends[1],
                stderr=ends[2],
                start_new_session=True,
                env={"PATH": SEARCH},
                limit=_BLOCK * 4,
            )
        finally:
            if slave >= 0:
                os.close(slave)
        if self._master >= 0:
            os.set_blocking(self._master, False)
        await self._began()

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
        """The runtime passes the size on when it is signalled."""
        if self._master >= 0 and self._child and self._child.returncode is None:
            self._set_size(height, width)
            self._child.send_signal(signal.SIGWINCH)

    def _set_size(self, height: int, width: int) -> None:
        height, width = min(height, _MOST), min(width, _MOST)
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
        for name in ("process.json", "pid", "log"):
            with suppress(FileNotFoundError):
                (self._files / name).unlink()
        with suppress(OSError):
            self._files.rmdir()


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
