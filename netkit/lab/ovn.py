"""OVN of its own in network namespaces: databases with ovn-northd, and a host's ovn-controller.

For tests, and for the hosts of labs.  Nothing of the system's is touched: neither /etc/ovn nor
/run/ovn.  Source: ovn-architecture(7).
"""

from __future__ import annotations

import signal
from pathlib import Path

from netkit.lab.daemons import Daemons
from netkit.lab.openvswitch import OpenVSwitch

SCHEMAS = Path("/usr/share/ovn")
NORTHBOUND, SOUTHBOUND, NORTHD, CONTROLLER = "ovnnb", "ovnsb", "ovn-northd", "ovn-controller"
PORTS = {NORTHBOUND: 6641, SOUTHBOUND: 6642}  # of TCP, ovn-nbctl(8), ovn-sbctl(8)
SCHEMA = {NORTHBOUND: "ovn-nb.ovsschema", SOUTHBOUND: "ovn-sb.ovsschema"}


class Central(Daemons):
    """Both databases and ovn-northd: one server."""

    def start(self) -> None:
        """All are running and answer.  RuntimeError if one does not start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in PORTS:
            self.start_database(name)
        self.start_northd()

    def start_database(self, name: str) -> None:
        if self.pid(name):
            return
        database, sock = self.folder / f"{name}.db", self.folder / f"{name}.sock"
        if not database.exists():
            self.run("ovsdb-tool", "create", str(database), str(SCHEMAS / SCHEMA[name]))
        sock.unlink(missing_ok=True)  # left by one that was killed
        self.launch(
            "ovsdb-server", str(database), f"--remote=punix:{sock}",
            f"--remote=ptcp:{PORTS[name]}", f"--unixctl={self.folder}/{name}.ctl", name=name,
        )  # fmt: skip

    def start_northd(self) -> None:
        sockets = (f"unix:{self.folder}/{name}.sock" for name in PORTS)
        north, south = (f"--{name}-db={sock}" for name, sock in zip(PORTS, sockets, strict=True))
        self.launch(NORTHD, north, south, f"--unixctl={self.folder}/{NORTHD}.ctl")

    def stop(self) -> None:
        for name in (NORTHD, *PORTS):
            self.kill(name, signal.SIGTERM)

    def nbctl(self, *argv: str) -> str:
        return self.run("ovn-nbctl", f"--db=unix:{self.folder}/ovnnb.sock", "--timeout=10", *argv)

    def sbctl(self, *argv: str) -> str:
        return self.run("ovn-sbctl", f"--db=unix:{self.folder}/ovnsb.sock", "--timeout=10", *argv)


class Controller(Daemons):
    """The ovn-controller of the host that has this Open vSwitch; its files are in that's folder."""

    def __init__(self, vswitch: OpenVSwitch) -> None:
        super().__init__(vswitch.home, vswitch.folder)
        self._remote = vswitch.remote

    def start(self) -> None:
        self.launch(CONTROLLER, self._remote)

    def stop(self) -> None:
        # SIGTERM leaves flows and tunnels as they are; the command `exit` would remove them.
        self.kill(CONTROLLER, signal.SIGTERM)

    def remove(self) -> None:
        """Its folder is the Open vSwitch's."""
        self.stop()
