"""Run a process in a running container with `runc exec`, on pipes or a terminal."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import secrets
import signal
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from netkit import threads
from runtime.oci.binaries import SEARCH
from runtime.oci.errors import StartFailed, runtime_error
from runtime.oci.reaper import Reaper
from runtime.oci.shim import Shim

DRAIN = 2.0  # seconds for which output is read after the command has exited

_BLOCK = 1 << 16
_MOST = 0xFFFF  # characters; ioctl_tty(2) has 16 bits


class ExecSession:
    """One exec, for the event loop.  `process` as in the runtime specification.

    A command with pipes is over when its process has exited: what processes that inherited the
    pipes still write is read for DRAIN seconds more, as dockerd does (moby#33039).
    """

    def __init__(self, shim: Shim, reaper: Reaper, id: str, process: Mapping[str, Any]) -> None:
        self._shim = shim
        self._reaper = reaper
        self._id = id
        self._process = process
        self._tty = bool(process.get("terminal"))
        self._files = shim.bundle(id) / f"exec-{secrets.token_hex(8)}"
        # `runc exec` in the foreground, which holds the terminal
        self._runtime: asyncio.subprocess.Process | None = None
        self._exit: asyncio.Future[int] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._input = -1
        self._output: dict[int, int] = {}  # channel: descriptor
        self._held: dict[int, int] = {}  # channel: bytes to read from a pipe that is still open
        self.pid = 0

    async def start(self, *, stdin: bool, output: bool, size: tuple[int, int] | None) -> None:
        """Start the command; StartFailed or BadCommand with the runtime's message."""
        self._files.mkdir(mode=0o700)
        process = dict(self._process)
        if self._tty and size and all(size):
            # the runtime copies the terminal's size only after the command has started
            process["consoleSize"] = {"height": size[0], "width": size[1]}
        (self._files / "process.json").write_text(json.dumps(process))
        args = [
            "--log", str(self._files / "log"), "--log-format", "json",
            "exec", "--process", str(self._files / "process.json"),
            "--pid-file", str(self._files / "pid"),
        ]  # fmt: skip
        if self._tty:
            await self._start_on_terminal([*args, "--tty"], size)
        else:
            await self._start_with_pipes([*args, "--detach"], stdin=stdin, output=output)

    async def _start_with_pipes(self, args: list[str], *, stdin: bool, output: bool) -> None:
        theirs = []
        try:
            if stdin:
                fd, self._input = os.pipe()
                theirs.append(fd)
            else:
                theirs.append(os.open(os.devnull, os.O_RDONLY))
            for channel in (1, 2):
                if output:
                    self._output[channel], fd = os.pipe()
                    theirs.append(fd)
                else:
                    theirs.append(os.open(os.devnull, os.O_WRONLY))
            for fd in (self._input, *self._output.values()):
                if fd >= 0:
                    os.set_blocking(fd, False)
            argv = self._shim.command(*args, self._id)
            command, ended = await self._reaper.start(argv, theirs, self._files / "pid")
        finally:
            for fd in theirs:
                _close(fd)
        if not command.pid:
            raise self._complaint()
        self.pid = command.pid
        self._drained = asyncio.get_running_loop().create_future()
        self._exit = ended
        ended.add_done_callback(self._drain)

    def _drain(self, _: object) -> None:
        assert self._drained is not None
        asyncio.get_running_loop().call_later(DRAIN, _settle, self._drained)

    async def _start_on_terminal(self, args: list[str], size: tuple[int, int] | None) -> None:
        self._input, slave = os.openpty()
        self._output[1] = self._input
        if size and all(size):
            self._set_size(*size)
        try:
            self._runtime = await asyncio.create_subprocess_exec(
                *self._shim.command(*args, self._id),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
                env={"PATH": SEARCH},
            )
        finally:
            _close(slave)
        os.set_blocking(self._input, False)
        await self._began(self._runtime)

    async def _began(self, runtime: asyncio.subprocess.Process) -> None:
        """Wait until the command runs, or the runtime has exited without starting it."""
        pidfile = self._files / "pid"
        while not (pidfile.exists() and pidfile.stat().st_size):
            if runtime.returncode is not None:
                if pidfile.exists():
                    break  # started, and exited at once
                raise self._complaint()
            await asyncio.sleep(0.002)
        with suppress(ValueError, FileNotFoundError):
            self.pid = int(pidfile.read_text())

    def _complaint(self) -> StartFailed:
        try:
            said = (self._files / "log").read_text()
        except FileNotFoundError:
            said = ""
        return runtime_error("exec", said)

    async def read(self, channel: int) -> bytes:
        """Output of channel 1 or 2; b"" at its end.  A terminal has only channel 1."""
        fd = self._output.get(channel, -1)
        while fd >= 0:
            if self._drained is not None and self._drained.done():
                return self._rest(channel, fd)
            try:
                return os.read(fd, _BLOCK)
            except BlockingIOError:
                await _readable(fd, self._drained)
            except OSError as error:
                if self._tty and error.errno == errno.EIO:
                    break  # the terminal's other side is closed
                raise
        return b""

    def _rest(self, channel: int, fd: int) -> bytes:
        """Read what a pipe held when DRAIN had passed: other processes may write for ever."""
        if channel not in self._held:
            self._held[channel] = _held(fd)
        data = os.read(fd, min(_BLOCK, self._held[channel])) if self._held[channel] else b""
        self._held[channel] -= len(data)
        return data

    async def write(self, data: bytes) -> None:
        while data and self._input >= 0:
            try:
                data = data[os.write(self._input, data) :]
            except BlockingIOError:
                await _writable(self._input)

    def end_input(self) -> None:
        if not self._tty and self._input >= 0:
            fd, self._input = self._input, -1
            _close(fd)

    def resize(self, height: int, width: int) -> None:
        """Set the terminal's size; SIGWINCH makes the runtime copy it to the container."""
        if self._runtime and self._runtime.returncode is None:
            self._set_size(height, width)
            self._runtime.send_signal(signal.SIGWINCH)

    def _set_size(self, height: int, width: int) -> None:
        height, width = min(height, _MOST), min(width, _MOST)
        fcntl.ioctl(self._input, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def wait(self) -> int:
        """Wait for the exit status of the command, 128+n for signal n."""
        if self._exit is not None:
            return await asyncio.shield(self._exit)
        assert self._runtime is not None
        code = await self._runtime.wait()
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        """Kill the command itself; the runtime's process exits with it."""
        if self.pid and not (self._exit and self._exit.done()):
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        elif self._runtime and self._runtime.returncode is None:
            self._runtime.kill()

    def end_output(self, channel: int) -> None:
        """Close an output channel: the command gets EPIPE, or SIGHUP from its terminal."""
        fd = self._output.pop(channel, -1)
        if fd >= 0:
            if fd == self._input:
                self._input = -1
            _close(fd)

    def close(self) -> None:
        """Close all descriptors; files that cannot be removed are left to the bundle's removal."""
        fds = {self._input, *self._output.values()} - {-1}
        self._input = -1
        self._output.clear()
        for fd in fds:
            _close(fd)
        threads.attempt(f"removing {self._files}", self._remove)

    def _remove(self) -> None:
        for name in ("process.json", "pid", "log"):
            (self._files / name).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self._files.rmdir()


def _close(fd: int) -> None:
    """Close a descriptor and report errors; it is closed even if that fails (close(2))."""
    threads.attempt("closing a pipe of an exec", partial(os.close, fd))


def _held(fd: int) -> int:
    """Bytes in a pipe: FIONREAD of pipe(7)."""
    (size,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
    return int(size)


async def _readable(fd: int, enough: asyncio.Future[None] | None) -> None:
    """Wait until `fd` is readable or `enough` is done."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _settle, ready)
    try:
        await asyncio.wait([f for f in (ready, enough) if f], return_when=asyncio.FIRST_COMPLETED)
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
    """Remove files that sessions of a killed daemon left."""
    for folder in bundle.glob("exec-*"):
        for file in folder.iterdir():
            file.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
