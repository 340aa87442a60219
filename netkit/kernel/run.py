"""Run a short-lived program, and notice its end at once.

subprocess.run with a timeout looks for the end at growing intervals, which costs a change of the
firewall some milliseconds; a descriptor of the process (pidfd_open(2)) becomes readable at once.
"""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

REMEMBERED = 10.0  # seconds; the kernel's notification of a change arrives well within
FITS = 32_768  # bytes that a pipe takes at once, whatever its reader does
_acting: deque[tuple[float, int]] = deque(maxlen=256)


def run(
    argv: Sequence[str], text: str = "", *, timeout: float, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run, with `text` to read and output in UTF-8.

    OSError if it cannot be started, subprocess.TimeoutExpired if it was killed after `timeout`
    seconds.
    """
    given = os.memfd_create("given")
    try:
        with open(given, "wb", closefd=False) as file:
            file.write(text.encode())
        os.lseek(given, 0, os.SEEK_SET)
        running = _Running(argv, given, env)
    finally:
        os.close(given)
    running.acts()
    return running.end(timeout)


class PrestartedProgram:
    """One process of a program that acts on what it has read to the end, waiting to be given it.

    To start one takes longer than most of what it is given.  Should we be killed, its input ends,
    and so does it.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._argv, self._env = argv, env
        self._next: _Running | None = None
        self._turn = threading.Lock()

    def run(self, text: str, *, timeout: float) -> subprocess.CompletedProcess[str]:
        """As `run`, in the namespaces of the thread that called before."""
        data = text.encode()
        if len(data) > FITS:
            return run(self._argv, text, timeout=timeout, env=self._env)
        with self._turn:
            running, self._next = self._next, None
            if running is None or running.ended():
                running = self._start()
            running.acts()
            running.give(data)
            with suppress(OSError):  # the next caller gets the error
                self._next = self._start()
            return running.end(timeout)

    def close(self) -> None:
        """It may be used again."""
        with self._turn:
            running, self._next = self._next, None
            if running is not None:
                running.kill()

    def _start(self) -> _Running:
        return _Running(self._argv, subprocess.PIPE, self._env)


class _Running:
    """A process and what it prints."""

    def __init__(self, argv: Sequence[str], given: int, env: Mapping[str, str]) -> None:
        self._argv = list(argv)
        self._out, self._err = os.memfd_create("out"), os.memfd_create("err")
        try:
            self.process = subprocess.Popen(
                argv, stdin=given, stdout=self._out, stderr=self._err, env=dict(env)
            )
        except BaseException:
            self._close()
            raise

    def acts(self) -> None:
        acts(self.process.pid)

    def give(self, data: bytes) -> None:
        """Send it all of its input."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin as pipe:  # its exit status is the error
            pipe.write(data)

    def end(self, timeout: float) -> subprocess.CompletedProcess[str]:
        if not _ends(self.process.pid, timeout):
            self.kill()
            raise subprocess.TimeoutExpired(self._argv, timeout)
        try:
            code = self.process.wait()
            return subprocess.CompletedProcess(self._argv, code, _read(self._out), _read(self._err))
        finally:
            self._close()

    def ended(self) -> bool:
        """Whether it has ended before it got its input; then clean up."""
        if self.process.poll() is None:
            return False
        self.kill()
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self._close()

    def _close(self) -> None:
        os.close(self._out)
        os.close(self._err)


def acts(pid: int) -> None:
    """Note that changes of a process, or of a thread of ours, are ours from now on."""
    _acting.append((time.monotonic(), pid))


def ours(pid: int) -> bool:
    """Whether this is the pid of a program, or of a thread, that `acts` was called with lately."""
    since = time.monotonic() - REMEMBERED
    return any(one == pid and begun > since for begun, one in tuple(_acting))


def _ends(pid: int, seconds: float) -> bool:
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(fd)


def _read(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as file:
        return file.read().decode(errors="replace")
