"""Start the resolver's process or connect to it, and call it over its control socket."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from netkit.dns import control
from netkit.dns.control import Message

ANSWER = 10.0  # seconds it may take to answer one message
LOG_SIZE = 1 << 20  # bytes, beyond which the log is begun anew at a start


class Dead(Exception):
    """The process has ended, or does not answer."""


class Process:
    """`sock` is None while we are not connected.  Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.sock: socket.socket | None = None
        self._folder = folder
        self._path = folder / "control"
        self._popen: subprocess.Popen[bytes] | None = None  # if it was we who started it

    @property
    def alive(self) -> bool:
        """Whether a process that we started is running."""
        return self._popen is not None and self._popen.poll() is None

    def spawn(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = "ab" if self.log.exists() and self.log.stat().st_size < LOG_SIZE else "wb"
        package = Path(__file__).resolve().parents[2]  # the code that we are, not another one
        with self.log.open(mode) as out:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "netkit.dns", "--control", str(self._path)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": str(package)},
                start_new_session=True,  # our terminal's signals and our end are not its
            )

    def wait(self, seconds: float) -> None:
        """Wait for the end of the process that we started."""
        if self._popen is not None:
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(seconds)

    def connect(self) -> bool:
        """Connect to a running one, also one of an earlier netkitd; False if there is none."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(ANSWER)
        try:
            sock.connect(str(self._path))
        except OSError:
            sock.close()
            return False
        self.sock = sock
        return True

    def disconnect(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def call(self, message: Message, fds: Sequence[int] = ()) -> Message:
        """Send a message, return the answer.  Dead if there is none, or another daemon is there."""
        return self.call_all([message], fds)[0]

    def call_all(self, messages: Sequence[Message], fds: Sequence[int] = ()) -> list[Message]:
        """Send messages without waiting in between, the last with `fds`; return the answers.

        As `call`; what followed a message that was refused may have been done.
        """
        if self.sock is None:
            raise Dead("not connected")
        try:
            for message in messages[:-1]:
                control.send(self.sock, message)
            control.send(self.sock, messages[-1], fds)
            answers = [control.receive(self.sock)[0] for _ in messages]
        except (OSError, EOFError, ValueError) as e:
            self.disconnect()
            raise Dead(str(e) or type(e).__name__) from e
        if refused := [str(answer["error"]) for answer in answers if "error" in answer]:
            # it does not have what we think it has: another daemon spoke to it
            self.disconnect()
            raise Dead(refused[0])
        return answers

    def hung_up(self, within: float = 0) -> bool:
        """Whether the connection has ended, or does within so many seconds; sends nothing."""
        if self.sock is None:
            return True
        poll = select.poll()
        poll.register(self.sock, 0)
        return bool(poll.poll(within * 1000))
