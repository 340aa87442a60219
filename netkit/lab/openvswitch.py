"""An Open vSwitch of its own in a network namespace: database, daemon, sockets in one folder.

For tests, and for the hosts of labs.  Nothing of the system's is touched: neither
/etc/openvswitch nor /run/openvswitch.
"""

from __future__ import annotations

import signal
from pathlib import Path

from netkit.kernel.ovs.vswitchd import SEGMENTS_SINCE, release_in
from netkit.lab.daemons import Daemons

TSO = "userspace-tso-enable"  # key in other_config
DATABASE, SWITCH = "ovsdb-server", "ovs-vswitchd"


class OpenVSwitch(Daemons):
    """The pair of daemons.  They outlive this object, and are found again by their pid files."""

    def __init__(
        self, home: str, folder: Path, *, programs: str = "", segmenting: bool = True
    ) -> None:
        """`programs`: a folder in which they are looked for first.

        `segmenting`: ovs-vswitchd's userspace datapath segments TCP where it can (userspace TSO).
        """
        super().__init__(home, folder, programs=programs)
        self.segmenting = segmenting

    @property
    def remote(self) -> str:
        return f"unix:{self.folder}/db.sock"

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
        self.launch(DATABASE, str(database), f"--remote=punix:{sock}")
        self.vsctl("--no-wait", "init")

    def start_switch(self) -> None:
        if not self.pid(SWITCH):
            self._choose_segmenting()
            self.launch(SWITCH, self.remote)

    def _choose_segmenting(self) -> None:
        """Before ovs-vswitchd starts: set in one that runs, it takes all its ports down."""
        option = ("Open_vSwitch", ".", "other_config")
        if self.segmenting and release_in(self.run(SWITCH, "--version")) >= SEGMENTS_SINCE:
            self.vsctl("--no-wait", "set", *option[:2], f"{option[2]}:{TSO}=true")
        else:
            self.vsctl("--no-wait", "remove", *option, TSO)

    def stop(self) -> None:
        for program in (SWITCH, DATABASE):
            self.kill(program, signal.SIGTERM)

    def vsctl(self, *argv: str) -> str:
        return self.run("ovs-vsctl", f"--db={self.remote}", "--timeout=10", *argv)

    def ofctl(self, *argv: str, text: str = "") -> str:
        return self.run("ovs-ofctl", "-O", "OpenFlow14", *argv, text=text)

    def appctl(self, *argv: str) -> str:
        return self.run("ovs-appctl", "-t", SWITCH, *argv)
