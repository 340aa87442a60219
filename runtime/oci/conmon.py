"""Start conmon for a container, and control it through its fifo; conmon(8).

conmon holds the container's output and terminal, writes the log, and leaves the exit status in a
file.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from runtime.oci import binaries
from runtime.oci.errors import StartFailed, runtime_error
from runtime.oci.process import readable

CREATE_SECONDS = 60.0


def start(
    program: str, args: Sequence[str], bundle: Path, meanwhile: Callable[[], object]
) -> int:
    """Start conmon, which creates the container; the pid of the container's first process.

    `meanwhile` is called while it does.  What that raises is raised once conmon has reported; else
    StartFailed (or BadCommand) with the runtime's message.
    """
    # The sync pipe: on it conmon reports the pid of the container, or the runtime's error.
    ours, theirs = os.pipe()
    try:
        with open(bundle / "conmon.log", "wb") as log:
            process = subprocess.Popen(
                [program, *args],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=(theirs,),
                env={"PATH": binaries.SEARCH, "_OCI_SYNCPIPE": str(theirs), "LISTEN_FDS": ""},
                start_new_session=True,  # a Ctrl-C at netkitd's terminal must not reach containers
                cwd=bundle,  # where it notes that the OOM killer came, besides the persist path
            )
    finally:
        os.close(theirs)  # else there is no EOF should conmon exit without a report
    try:
        try:
            meanwhile()
        finally:  # the caller undoes what the runtime has done, not what it is about to do
            answer = _answer(ours, CREATE_SECONDS)
    finally:
        os.close(ours)
        process.wait()  # conmon daemonizes: this is only its first process
    try:
        report = json.loads(answer)
    except json.JSONDecodeError:
        said = (bundle / "conmon.log").read_text(errors="replace").strip()
        raise StartFailed(f"conmon reported no pid: {said or 'it exited silently'}") from None
    if report["data"] <= 0:
        raise runtime_error("create", report.get("message") or "the runtime reported no reason")
    return int(report["data"])


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
