"""Commands started by `runc exec --detach`, and their exit statuses.

`runc exec` in the foreground copies the command's output and ends when nothing holds the other end
any more, which may be long after the command (moby#33039).  Detached, the command has our pipes
itself, and a process of ours (`subreaper`) is its parent.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from netkit.errors import KernelError
from runtime.oci.programs import SEARCH

LOST = 255  # exit status of a command whose parent has ended before it
START_SECONDS = 60.0  # that the runtime may take

_PACKET = 1 << 16


@dataclass(frozen=True, slots=True)
class Command:
    runtime: int  # exit status of the runtime; the command runs, or has run, if it is 0
    pid: int  # in our pid namespace


@dataclass(slots=True)
class _Request:
    started: asyncio.Future[Command]
    ended: asyncio.Future[int] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Reaper:
    """Lives on the event loop.  The process is started with the first command."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._requests: dict[int, _Request] = {}
        self._numbers = count(1)

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._child.pid if self._child else 0

    async def start(
        self, argv: Sequence[str], stdio: Sequence[int], pid_file: Path
    ) -> tuple[Command, asyncio.Future[int]]:
        """Run `argv`, with copies of the descriptors `stdio`, until it has ended.

        It must leave the pid of its command in `pid_file`.  The future is the command's exit
        status, LOST if that cannot be known.  KernelError if the runtime takes too long, or its
        parent has ended.
        """
        number = next(self._numbers)
        started: asyncio.Future[Command] = asyncio.get_running_loop().create_future()
        request = self._requests[number] = _Request(started)
        asked = {"id": number, "argv": list(argv), "env": {"PATH": SEARCH}}
        packet = json.dumps(asked | {"pid_file": str(pid_file)}).encode()
        try:
            socket.send_fds(self._connected(), [packet], list(stdio))
            async with asyncio.timeout(START_SECONDS):
                return await started, request.ended
        except (OSError, TimeoutError) as error:
            raise KernelError(f"{argv[0]} could not be started: {error}") from error
        finally:
            if not started.done() or started.cancelled() or started.exception():
                self._requests.pop(number, None)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
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
            self._socket = ours
        return self._socket

    def _answered(self) -> None:
        assert self._socket is not None
        while True:
            try:
                packet = self._socket.recv(_PACKET)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lost()
                return
            self._take(json.loads(packet))

    def _take(self, answer: dict[str, Any]) -> None:
        request = self._requests.get(answer["id"])
        if request is None:
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
        """The process has ended: no more is known of the commands.  The next start makes one."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for request in self._requests.values():
            if not request.started.done():
                request.started.set_exception(KernelError("the parent of execs has ended"))
            _settle(request.ended, LOST)
        self._requests.clear()
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(1)
            self._child = None


def _settle(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)
