"""Client of the committing process: starts it, sends commits, notices when it fails.

What it is good for, measured (2 busy cores, medians; milliseconds to append DNAT rules with a
comment to a chain of so many; python-iptables includes checking that they are there):

    rules there             10                1 000              10 000
    appended           1   10  100 1000    1   10  100 1000    1   10  100 1000
    python-iptables  1.3  9.9   54  642    7   14   77  759   66  112  272 3372
    iptables-restore 2.0  2.0    4   11    8    7   10   25   67   56   67   97

A single rule is quicker by a process less; each further one costs 0.5 ms of ctypes, the tool
10 us.  Hence what is long goes to the tool (`iptables.MOST`).  Either replaces the whole table.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Any

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.iptables.legacy.language import Inexpressible

START = 20.0  # seconds until it reports that it is ready; 0.15 usually
ANSWER = 30.0  # seconds for an answer, beside the wait for the lock
CHUNK = 1 << 16

log = logging.getLogger(__name__)


class Refused(KernelError):
    """The commit failed; `line` (from 1) of the text is the faulty one, where known.

    With errno EAGAIN the tables may have changed meanwhile: look again, and try again.
    """

    def __init__(self, message: str, line: int | None, number: int | None) -> None:
        super().__init__(message, errno=number)
        self.line = line


class Broken(Exception):
    """The process cannot be used, now or ever.  `began`: tables may have changed."""

    def __init__(self, message: str, began: bool = False) -> None:
        super().__init__(message)
        self.began = began


@dataclass(slots=True)
class _Process:
    popen: subprocess.Popen[bytes]
    peer: socket.socket
    rest: bytes = b""


class Committer:
    """Commit legacy rules with python-iptables in the namespace `home`.  Thread-safe.

    The process is started with the first commit, and ends when this object or the daemon does.
    `unusable` is the reason why it must not be used any more; "" while it may be.
    """

    def __init__(self, home: str, argv: tuple[str, ...] | None = None) -> None:
        self._home = home
        self._argv = argv or (sys.executable, "-P", "-m", __package__)
        self._process: _Process | None = None
        self._lock = threading.Lock()
        self._end: weakref.finalize[Any, Any] | None = None
        self.unusable = ""
        self.version = ""  # of python-iptables, once it runs

    def commit(self, family: int, text: str, patience: float) -> None:
        """Commit each table of `text`; wait at most `patience` seconds for the lock.

        Raises Inexpressible (nothing was touched), Refused, or Broken.
        """
        with self._lock:
            if self.unusable:
                raise Broken(self.unusable)
            try:
                self._commit(family, text, patience)
            except Broken as e:
                self.unusable = str(e)
                log.warning("python-iptables is not used from now on: %s", e)
                self._stop()
                raise

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _commit(self, family: int, text: str, patience: float) -> None:
        process = self._process or self._start()
        until = time.monotonic() + patience + ANSWER
        request = {"family": family, "text": text, "patience": patience}
        began = False
        try:
            process.peer.settimeout(patience + ANSWER)
            process.peer.sendall(json.dumps(request).encode() + b"\n")
            answer = self._receive(process, until)
            if began := "began" in answer:
                answer = self._receive(process, until)
        except Broken as e:
            raise Broken(str(e), began) from e
        except OSError as e:
            raise Broken(self._post_mortem(process, e.strerror or str(e))) from e
        if why := answer.get("cannot"):
            raise Inexpressible(why)
        if why := answer.get("failed"):
            raise Refused(why, answer["line"], answer["errno"])

    def _start(self) -> _Process:
        ours, theirs = socket.socketpair()
        try:
            with theirs, netns.inside(self._home):
                popen = subprocess.Popen(
                    self._argv,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # libxtables talks to itself
                    cwd="/",
                    env=_environment(),
                )
        except (OSError, KernelError) as e:
            ours.close()
            raise Broken(f"its process cannot be started: {e}") from e
        process = self._process = _Process(popen, ours)
        self._end = weakref.finalize(self, _end, popen, ours)
        hello = self._receive(process, time.monotonic() + START)
        if why := hello.get("cannot"):
            raise Broken(why)
        self.version = hello["ready"]
        return process

    def _receive(self, process: _Process, until: float) -> dict[str, Any]:
        """Return the next message.  Broken if none comes; the process is dead then."""
        while b"\n" not in process.rest:
            left = until - time.monotonic()
            try:
                process.peer.settimeout(max(left, 0.001))
                data = process.peer.recv(CHUNK)
            except TimeoutError:
                raise Broken(self._post_mortem(process, "it did not answer in time")) from None
            except OSError as e:
                raise Broken(self._post_mortem(process, str(e))) from e
            if not data:
                raise Broken(self._post_mortem(process, "it ended"))
            process.rest += data
        line, _, process.rest = process.rest.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _post_mortem(self, process: _Process, what: str) -> str:
        """Kill the process, so that it changes nothing later; return a message on how it ended."""
        try:
            code = process.popen.wait(0.2)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            process.popen.wait()
            return f"{what}, and was killed"
        return f"{what}, killed by signal {-code}" if code < 0 else f"{what}, exit status {code}"

    def _stop(self) -> None:
        if self._end is not None:
            self._end()
        self._process = self._end = None


def _end(popen: subprocess.Popen[bytes], peer: socket.socket) -> None:
    """End the process by the end of its input; kill it if it hangs."""
    peer.close()
    try:
        popen.wait(1)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


def _environment() -> dict[str, str]:
    """Environment with python-iptables' paths, else found by ldconfig and gcc in 0.4 s."""
    where = {"SETUPTOOLS_USE_DISTUTILS": "stdlib"}
    libraries = sysconfig.get_path("platlib")
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    extensions = f"/usr/lib/{multiarch}/xtables"
    if "IPTABLES_LIBDIR" not in os.environ:
        where["IPTABLES_LIBDIR"] = libraries
    if "XTABLES_LIBDIR" not in os.environ and os.path.isdir(extensions):
        where["XTABLES_LIBDIR"] = extensions
    return {**os.environ, **where}


__all__ = ["Broken", "Committer", "Inexpressible", "Refused"]
