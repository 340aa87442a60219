"""Daemons of Open vSwitch and OVN with all their files in one folder, in a network namespace.

They outlive the objects here, and are found again by their pid files.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from netkit.gone import if_there
from netkit.testing.waiting import readable

PATIENCE = 10.0  # seconds
PLACES = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVN_RUNDIR", "OVN_LOGDIR", "OVN_DBDIR")


class Daemons:
    """`home`: file of the namespace; `programs`: a folder in which they are looked for first."""

    def __init__(self, home: str, folder: Path, *, programs: str = "") -> None:
        self.home, self.folder = home, folder
        self._programs = programs

    @property
    def environment(self) -> Mapping[str, str]:
        path = ":".join(filter(None, (self._programs, os.environ.get("PATH", ""))))
        return {**os.environ, **dict.fromkeys(PLACES, str(self.folder)), "PATH": path}

    def launch(self, program: str, *argv: str, name: str = "") -> None:
        """Start it unless it runs; with --detach this returns when the daemon is ready.

        `name`: of its pid file and log, where that is not the program's.
        """
        name = name or program
        if self.pid(name):
            return
        self.run(
            "nsenter", f"--net={self.home}", program, *argv, "--detach",
            f"--pidfile={self.folder}/{name}.pid",
            "-vconsole:off", f"--log-file={self.folder}/{name}.log",
        )  # fmt: skip

    def pid(self, name: str) -> int:
        """0 if it does not run."""
        with suppress(ValueError), if_there():
            pid = int((self.folder / f"{name}.pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes()  # empty once it is a zombie
            if name.encode() in words and str(self.folder).encode() in words:
                return pid
        return 0

    def kill(self, name: str, how: int = signal.SIGKILL) -> None:
        """And wait until it has ended."""
        begin = time.monotonic()
        while pid := self.pid(name):
            late = time.monotonic() - begin > PATIENCE
            with suppress(ProcessLookupError), _pidfd(pid) as process:
                os.kill(pid, signal.SIGKILL if late else how)
                # Not by its arguments: they go before its files, and the lock of its pid.
                readable(process, PATIENCE if how == signal.SIGKILL or late else 0.02)

    def stop(self) -> None:
        raise NotImplementedError

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *argv: str, text: str = "") -> str:
        """What a program prints; it must succeed."""
        done = subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, input=text, timeout=30,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout


@contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    """Readable once the process has ended (pidfd_open(2)).  ProcessLookupError."""
    opened = os.pidfd_open(pid)
    try:
        yield opened
    finally:
        os.close(opened)
