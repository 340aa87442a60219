"""An Open vSwitch of its own in a network namespace: database, daemon, sockets in one folder.

For tests, and for the hosts of labs.  Nothing of the system's is touched: neither
/etc/openvswitch nor /run/openvswitch.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from netkit.gone import if_there
from netkit.kernel.ovs.vswitchd import SEGMENTS_SINCE, release_in

PATIENCE = 10.0  # seconds
TSO = "userspace-tso-enable"  # key in other_config
DATABASE, SWITCH = "ovsdb-server", "ovs-vswitchd"


class OpenVSwitch:
    """The pair of daemons.  They outlive this object, and are found again by their pid files."""

    def __init__(
        self, home: str, folder: Path, *, programs: str = "", segmenting: bool = True
    ) -> None:
        """`programs`: a folder in which they are looked for first.

        `segmenting`: ovs-vswitchd's userspace datapath segments TCP where it can (userspace TSO).
        """
        self.home, self.folder = home, folder
        self.segmenting = segmenting
        self._programs = programs

    @property
    def remote(self) -> str:
        return f"unix:{self.folder}/db.sock"

    @property
    def environment(self) -> dict[str, str]:
        places = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR")
        path = ":".join(filter(None, (self._programs, os.environ.get("PATH", ""))))
        return {**os.environ, **{name: str(self.folder) for name in places}, "PATH": path}

    def start(self) -> None:
        """Both are running and answer.  RuntimeError if one does not start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start_database()
        self.start_switch()

    def start_database(self) -> None:
        if self.pid(DATABASE):
            return
        database, sock = self.folder / "conf.db", self.folder / "db.sock"
        if not database.exists():
            self.run("ovsdb-tool", "create", str(database))  # of the schema beside it
        sock.unlink(missing_ok=True)  # left by one that was killed
        self._start(DATABASE, str(database), f"--remote=punix:{sock}")
        self.vsctl("--no-wait", "init")

    def start_switch(self) -> None:
        if not self.pid(SWITCH):
            self._choose_segmenting()
            self._start(SWITCH, self.remote)

    def _choose_segmenting(self) -> None:
        """Before ovs-vswitchd starts: set in one that runs, it takes all its ports down."""
        option = ("Open_vSwitch", ".", "other_config")
        if self.segmenting and release_in(self.run(SWITCH, "--version")) >= SEGMENTS_SINCE:
            self.vsctl("--no-wait", "set", *option[:2], f"{option[2]}:{TSO}=true")
        else:
            self.vsctl("--no-wait", "remove", *option, TSO)

    def _start(self, program: str, *argv: str) -> None:
        """With --detach it returns when the daemon is ready."""
        self.run(
            "nsenter", f"--net={self.home}", program, *argv, "--detach",
            f"--pidfile={self.folder}/{program}.pid",
            "-vconsole:off", f"--log-file={self.folder}/{program}.log",
        )  # fmt: skip

    def pid(self, program: str) -> int:
        """0 if it does not run."""
        with suppress(ValueError), if_there():
            pid = int((self.folder / f"{program}.pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes()  # empty once it is a zombie
            if program.encode() in words and str(self.folder).encode() in words:
                return pid
        return 0

    def stop(self) -> None:
        for program in (SWITCH, DATABASE):
            self.kill(program, signal.SIGTERM)

    def kill(self, program: str, how: int = signal.SIGKILL) -> None:
        """And wait until it has ended."""
        begin = time.monotonic()
        while pid := self.pid(program):
            late = time.monotonic() - begin > PATIENCE
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else how)
            time.sleep(0.02)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *argv: str, text: str = "") -> str:
        """What a program of Open vSwitch prints; it must succeed."""
        done = subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, input=text, timeout=30,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout

    def vsctl(self, *argv: str) -> str:
        return self.run("ovs-vsctl", f"--db={self.remote}", "--timeout=10", *argv)

    def ofctl(self, *argv: str, text: str = "") -> str:
        return self.run("ovs-ofctl", "-O", "OpenFlow14", *argv, text=text)

    def appctl(self, *argv: str) -> str:
        return self.run("ovs-appctl", "-t", SWITCH, *argv)
