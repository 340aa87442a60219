"""An Open vSwitch of its own in a network namespace: database, daemon, sockets in one folder.

Nothing of the system's is touched: neither /etc/openvswitch nor /run/openvswitch.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
PATIENCE = 10.0  # seconds


class OpenVSwitch:
    """The pair of daemons, for a test or a lab's host.  `start` and `stop` both, or each."""

    def __init__(self, home: str, folder: Path) -> None:
        self.home, self.folder = home, folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def remote(self) -> str:
        return f"unix:{self.folder}/db.sock"

    @property
    def environment(self) -> dict[str, str]:
        places = ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR")
        return {**os.environ, **{name: str(self.folder) for name in places}}

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start_database()
        self.start_switch()

    def start_database(self) -> None:
        database, sock = self.folder / "conf.db", self.folder / "db.sock"
        if not database.exists():
            self.run("ovsdb-tool", "create", str(database), SCHEMA)
        sock.unlink(missing_ok=True)  # left by one that was killed
        self._start("ovsdb-server", str(database), f"--remote=punix:{sock}")
        _wait(sock.exists, f"ovsdb-server in {self.folder}")
        self.run("ovs-vsctl", f"--db={self.remote}", "--retry", "--timeout=10", "--no-wait", "init")

    def start_switch(self) -> None:
        self._start("ovs-vswitchd", self.remote)
        _wait((self.folder / "ovs-vswitchd.ctl").exists, f"ovs-vswitchd in {self.folder}")

    def _start(self, program: str, *argv: str) -> None:
        (self.folder / f"{program}.ctl").unlink(missing_ok=True)
        self._processes[program] = subprocess.Popen(
            ["nsenter", f"--net={self.home}", program, *argv,
             f"--pidfile={self.folder}/{program}.pid", f"--unixctl={self.folder}/{program}.ctl",
             "-vconsole:off", f"--log-file={self.folder}/{program}.log"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def stop(self) -> None:
        for program in ("ovs-vswitchd", "ovsdb-server"):
            self.kill(program, signal.SIGTERM)

    def kill(self, program: str, how: int = signal.SIGKILL) -> None:
        process = self._processes.pop(program, None)
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)

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
        return self.run("ovs-appctl", "-t", f"{self.folder}/ovs-vswitchd.ctl", *argv)


def _wait(true: object, what: str) -> None:
    assert callable(true)
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.01)
