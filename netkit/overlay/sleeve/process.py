"""A worker, as seen by the process that starts it: a process, and a socket for messages."""

from __future__ import annotations

import array
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

from netkit.overlay.sleeve import tables
from netkit.overlay.sleeve.sockets import SO_SNDBUFFORCE

PATIENCE = 10.0  # seconds a worker has for an answer
LONGEST = 1 << 20  # bytes of an answer: counts of thousands of peers
END = 2.0  # seconds until a worker that does not end is killed


class Dead(Exception):
    """The worker ended, or does not answer any more: it was killed."""


class Worker:
    """`role` is transmit or receive; `data` the file of the socket.  OSError.

    `news` has what it sends unasked, and never waits.
    """

    def __init__(self, role: str, data: int) -> None:
        self.role = role
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.news, unasked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            argv = [sys.executable, "-P", "-m", "netkit.overlay.sleeve.worker", role]
            files = theirs.fileno(), data, unasked.fileno()
            self._process = subprocess.Popen(
                [*argv, *map(str, files)], pass_fds=files, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            self._control.settimeout(PATIENCE)
            theirs.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * LONGEST)
            self.news.setblocking(False)
            self.pidfd = os.pidfd_open(self._process.pid)
        except BaseException:
            self._control.close()
            self.news.close()
            raise
        finally:
            theirs.close()
            unasked.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> bool:
        return self._process.poll() is not None

    def send(self, message: tables.Message, files: Sequence[int] = ()) -> tables.Answer:
        """Send a message, with files, and wait for its answer.  Dead; ValueError: it is refused."""
        rights = array.array("i", files)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if files else []
        try:
            self._control.sendmsg([tables.encode(message)], ancillary)
            data = self._control.recv(LONGEST)
        except OSError as e:  # a timeout too
            self.kill()
            raise Dead(f"the sleeve's worker for {self.role}: {e}") from e
        if not data:
            self.kill()
            raise Dead(f"the sleeve's worker for {self.role} ended")
        answer = tables.answer(data)
        if isinstance(answer, tables.Done) and answer.error:
            raise ValueError(f"the sleeve's worker for {self.role} refused: {answer.error}")
        return answer

    def kill(self) -> None:
        """At once; nothing if it has ended."""
        if not self.ended():
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Have it end, and wait for that."""
        self._control.close()
        self.news.close()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self.kill()
        os.close(self.pidfd)
