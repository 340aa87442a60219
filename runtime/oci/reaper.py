"""Start commands with `runc exec --detach`, and collect their exit statuses.

`runc exec` in the foreground copies the command's output and exits only when every writer has
closed it, which may be long after the command (moby#33039).  With --detach the command has the
daemon's pipes itself, and a child of the daemon (`subreaper`) becomes its parent.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from netkit import threads
from netkit.errors import KernelError
from runtime.oci.binaries import SEARCH

LOST = 255  # exit status of a command that outlived the subreaper
START_SECONDS = 60.0  # for the OCI runtime to start a command

_PACKET = 1 << 16
_FAILURES = 10  # consecutive errors of reading after which the subreaper is abandoned
_AGAIN = 0.005  # seconds until a full socket is tried again


@dataclass(frozen=True, slots=True)
class Command:
    runtime: int  # exit status of the OCI runtime; 0: the command was started
    pid: int  # in our pid namespace


@dataclass(slots=True)
class _Request:
    started: asyncio.Future[Command]
    ended: asyncio.Future[int] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Reaper:
    """Client of the subreaper process, which is started with the first command; event loop."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._requests: dict[int, _Request] = {}
        self._numbers = count(1)
        self._failures = 0  # consecutive errors of reading

    @property
    def pid(self) -> int:
        """Pid of the subreaper; 0 while there is none."""
        return self._child.pid if self._child else 0

    async def start(
        self, argv: Sequence[str], stdio: Sequence[int], pid_file: Path
    ) -> tuple[Command, asyncio.Future[int]]:
        """Run `argv`, with copies of the descriptors `stdio`, until it has exited.

        It must write the pid of its command to `pid_file`.  The future is the command's exit
        status, LOST if that cannot be determined.  KernelError if the runtime takes too long, or
        the subreaper has exited.
        """
        number = next(self._numbers)
        started: asyncio.Future[Command] = asyncio.get_running_loop().create_future()
        request = self._requests[number] = _Request(started)
        asked = {"id": number, "argv": list(argv), "env": {"PATH": SEARCH}}
        taken = False
        packet = json.dumps(asked | {"pid_file": str(pid_file)}).encode()
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._send(packet, stdio, request)
                command = await started
                taken = True
                return command, request.ended
        except (OSError, TimeoutError) as error:
            raise KernelError(f"{argv[0]} could not be started: {error}") from error
        finally:
            if not started.done() or started.cancelled() or started.exception():
                self._requests.pop(number, None)
            elif not taken:
                _end(started.result().pid)  # it was started while the caller gave up

    async def _send(self, packet: bytes, stdio: Sequence[int], request: _Request) -> None:
        while not request.started.done():  # set with an error if the subreaper exits meanwhile
            try:
                socket.send_fds(self._connected(), [packet], list(stdio))
                return
            except BlockingIOError:  # many concurrent starts have filled the socket buffer
                await asyncio.sleep(_AGAIN)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                with theirs:
                    self._child = subprocess.Popen(
                        [sys.executable, "-I", "-S", str(Path(__file__).with_name("subreaper.py"))],
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        cwd="/",
                        env={"PATH": os.defpath},
                        start_new_session=True,
                    )
                ours.setblocking(False)
                asyncio.get_running_loop().add_reader(ours.fileno(), self._answered)
            except BaseException:
                ours.close()  # the subreaper exits at EOF
                self._bury()
                raise
            self._socket = ours
        return self._socket

    def _answered(self) -> None:
        """Process all answers; if one cannot be read, all pending requests fail."""
        try:
            while (packet := self._received()) is not None:
                if not packet:
                    self._lost()
                    return
                self._take(json.loads(packet))
                self._failures = 0
        except Exception as error:  # noqa: BLE001  reported; the next start makes a new subreaper
            threads.report("reading from the exec subreaper", error)
            self._lost()

    def _received(self) -> bytes | None:
        """Receive one packet; None if there is none now, empty at EOF."""
        assert self._socket is not None
        try:
            return self._socket.recv(_PACKET)
        except BlockingIOError:
            return None
        except ConnectionError:
            return b""
        except Exception as error:  # e.g. ENOMEM: the packet is still in the socket
            self._failures += 1
            if self._failures > _FAILURES:
                raise
            threads.report("reading from the exec subreaper", error)
            return None

    def _take(self, answer: dict[str, Any]) -> None:
        request = self._requests.get(answer["id"])
        # The caller was cancelled meanwhile (a probe timed out, a client left): see `start`.
        if request is None:
            _end(answer.get("pid", 0))  # no caller would ever stop this command
            return
        if "exit" in answer:
            del self._requests[answer["id"]]
            _settle(request.ended, answer["exit"])
            return
        command = Command(answer["runtime"], answer["pid"])
        if not command.pid:
            del self._requests[answer["id"]]
            _settle(request.ended, LOST)
        _settle(request.started, command)

    def _lost(self) -> None:
        """Fail pending requests: the subreaper has exited.  The next start makes a new one."""
        for request in self._requests.values():
            if not request.started.done():
                request.started.set_exception(KernelError("the exec subreaper has exited"))
            _settle(request.ended, LOST)
        self._requests.clear()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._bury()

    def _bury(self) -> None:
        # No signal is needed: the subreaper exits at EOF of its socket, which is closed by now.
        child, self._child = self._child, None
        if child is not None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(1)


def _end(pid: int) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _settle(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)
