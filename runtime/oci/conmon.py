"""Start conmon for a container, and control it through its fifo; conmon(8).

conmon holds the container's output and terminal, writes the log, and leaves the exit status in a
file.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.oci import binaries
from runtime.oci.cgroup_lock import CgroupLock
from runtime.oci.errors import StartFailed, runtime_error
from runtime.oci.process import readable
from runtime.undo import Undo

CREATE_SECONDS = 60.0


class Launch:
    """conmon, loaded and linked while a start prepares what the OCI runtime needs.

    It reads a byte from _OCI_STARTPIPE before it does anything else.  At the end of file it goes on
    as well (conmon 2.1): so the bundle has no config.json until `create`, and the runtime of a
    conmon whose daemon was killed finds nothing that it could make.
    """

    def __init__(self, program: str, args: Sequence[str], bundle: Path, lock: CgroupLock) -> None:
        """Start conmon, in a bundle that has no config.json yet.  OSError."""
        self._bundle = bundle
        with Undo() as undo:
            # The sync pipe: on it conmon reports the pid of the container, or the runtime's error.
            self._report, sync = _pipe(undo)
            start, self._go = _pipe(undo)
            with open(bundle / "conmon.log", "wb") as log:
                self._process = subprocess.Popen(
                    [program, *args],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    pass_fds=(sync, start),
                    env={
                        "PATH": binaries.SEARCH, "LISTEN_FDS": "",
                        "_OCI_SYNCPIPE": str(sync), "_OCI_STARTPIPE": str(start),
                    },
                    start_new_session=True,  # a Ctrl-C at netkitd's must not reach containers
                    cwd=bundle,  # where it notes that the OOM killer came, besides persist path
                )  # fmt: skip
            undo.push(self._process.wait)
            undo.push(self._process.kill)
            self._ahead = lock.take_ahead(self._process.pid)
            undo.commit()
        os.close(start)
        os.close(sync)  # else there is no EOF should conmon exit without a report

    def create(self, spec: Mapping[str, Any], meanwhile: Callable[[], object]) -> int:
        """Have it create the container; the pid of the container's first process.

        `meanwhile` is called while it does.  What that raises is raised once conmon has reported;
        else StartFailed (or BadCommand) with the runtime's message.
        """
        try:
            (self._bundle / "config.json").write_text(json.dumps(spec))
            with suppress(BrokenPipeError):  # it has exited: there is no report, then
                os.write(self._go, b"!")
        except BaseException:
            self.abandon()
            raise
        try:
            try:
                meanwhile()
            finally:  # the caller undoes what the runtime has done, not what it is about to do
                answer = _answer(self._report, CREATE_SECONDS)
        finally:
            self._finish()
        try:
            report = json.loads(answer)
        except json.JSONDecodeError:
            log = (self._bundle / "conmon.log").read_text(errors="replace").strip()
            raise StartFailed(f"conmon reported no pid: {log or 'it exited silently'}") from None
        if report["data"] <= 0:
            raise runtime_error("create", report.get("message") or "the runtime reported no reason")
        return int(report["data"])

    def abandon(self) -> None:
        """End it instead; it has made nothing."""
        self._process.kill()  # before the pipe is closed, which would have it go on
        self._finish()

    def _finish(self) -> None:
        os.close(self._report)
        os.close(self._go)
        if self._ahead:
            self._ahead.join()  # it names the process, whose pid is its own until `wait`
        self._process.wait()  # conmon daemonizes: this is only its first process


def _pipe(undo: Undo) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        undo.push(os.close, end)
    return ends


def _answer(fd: int, seconds: float) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        if not readable([fd], seconds):
            raise StartFailed(f"no container was created within {seconds:.0f} s")
        piece = os.read(fd, 65536)
        if not piece:
            break
        data += piece
    return data


def resize(bundle: Path, height: int, width: int) -> None:
    """Set the terminal's size, within the 16 bits that ioctl_tty(2) has for each."""
    _control(bundle, f"1 {min(height, 0xFFFF)} {min(width, 0xFFFF)}\n")


def reopen_log(bundle: Path) -> None:
    """Make conmon reopen its log, after the file was renamed."""
    _control(bundle, "2 0 0\n")


def _control(bundle: Path, line: str) -> None:
    """Write a line to conmon's fifo; does nothing if conmon has exited (no fifo, no reader)."""
    try:
        fd = os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENXIO}:
            return
        raise
    try:
        with suppress(BrokenPipeError):
            os.write(fd, line.encode())
    finally:
        os.close(fd)
