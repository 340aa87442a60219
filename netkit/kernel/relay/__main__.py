"""A relay and its supervisor: python -m netkit.kernel.relay FOLDER NAME NEAR FAR.

Runs in the namespace of the devices NEAR and FAR.  FOLDER/NAME.json has what is wanted,
FOLDER/NAME.sock answers.  The supervisor starts the worker again when it dies; when the supervisor
dies the worker does, too, so that there are never two.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path

from netkit.kernel.relay.worker import Worker, attached

PR_SET_PDEATHSIG = 1
NICE = -10  # a delay is as exact as its process is on time
BACKOFF, LONGEST = 0.05, 2.0  # seconds before the next try


def main(folder: str, name: str, near: str, far: str) -> None:
    """Until killed."""
    wait, parent = BACKOFF, os.getpid()
    while True:
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _work(Path(folder), name, near, far, parent)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        print(f"relay {name}: its worker ended with {code}", file=sys.stderr, flush=True)
        wait = BACKOFF if time.monotonic() - began > LONGEST else min(wait * 2, LONGEST)
        time.sleep(wait)


def _work(folder: Path, name: str, near: str, far: str, parent: int) -> None:
    """Never returns."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # it died before
        _take_a_place(name)
        taps = attached(near, far)
        path = folder / f"{name}.sock"
        with suppress(FileNotFoundError):
            path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(path))
        worker = Worker(folder / f"{name}.json", listener, *taps)
        worker.reload()
        listener.listen(8)
        worker.run()
    except Exception as error:  # noqa: BLE001  the supervisor tries again
        print(f"relay {name}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def _take_a_place(name: str) -> None:
    """Run on one CPU, early: frames written from two may overtake each other in their queues."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[zlib.crc32(name.encode()) % len(allowed)]})
    with suppress(PermissionError):
        os.nice(NICE)


if __name__ == "__main__":
    main(*sys.argv[1:])
