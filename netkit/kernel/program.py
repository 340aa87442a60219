"""Running a short-lived program, noticing its end at once.

subprocess.run with a timeout looks for the end at growing intervals, which costs a change of the
firewall some milliseconds; a descriptor of the process (pidfd_open(2)) tells it when it comes.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence

REMEMBERED = 10.0  # seconds; what a process did is told by the kernel at once
_started: deque[tuple[float, int]] = deque(maxlen=256)


def run(
    argv: Sequence[str], text: str = "", *, timeout: float, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run, with `text` to read and output in UTF-8.

    OSError if it cannot be started, subprocess.TimeoutExpired if it was killed after `timeout`
    seconds.
    """
    given, out, err = (os.memfd_create(name) for name in ("given", "out", "err"))
    try:
        with open(given, "wb", closefd=False) as file:
            file.write(text.encode())
        os.lseek(given, 0, os.SEEK_SET)
        process = subprocess.Popen(argv, stdin=given, stdout=out, stderr=err, env=dict(env))
        _started.append((time.monotonic(), process.pid))
        if not _ends(process.pid, timeout):
            process.kill()
            process.wait()
            raise subprocess.TimeoutExpired(list(argv), timeout)
        return subprocess.CompletedProcess(list(argv), process.wait(), _read(out), _read(err))
    finally:
        for fd in (given, out, err):
            os.close(fd)


def ours(pid: int) -> bool:
    """Is or was this a program that `run` has started in the last seconds?"""
    since = time.monotonic() - REMEMBERED
    return any(one == pid and begun > since for begun, one in tuple(_started))


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


__all__ = ["ours", "run"]
