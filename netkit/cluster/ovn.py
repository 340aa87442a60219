"""The servers of an OVN on this host: both databases and ovn-northd, the distribution's programs.

Each is a server of a cluster (RAFT) from the beginning, so that others can join.  They outlive
netkitd, which finds them again and starts what has died.  One ovn-northd of all servers is active.
Sources: ovn-architecture(7), ovn-northd(8), ovsdb(7).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from netkit.cluster import programs
from netkit.cluster.programs import tool
from netkit.cluster.servers import PAUSE, LocalServer, Settings
from netkit.cluster.tls import Certificates, scheme
from netkit.errors import Conflict, KernelError

SCHEMAS = Path("/usr/share/ovn")
NORTHD = "ovn-northd"


class OvnServer(LocalServer):
    subject: ClassVar[str] = "an OVN"
    begin: ClassVar[str] = "netkit ovn up"
    end: ClassVar[str] = "netkit ovn down"
    schema: ClassVar[str]

    def schema_text(self) -> str:
        try:
            return (SCHEMAS / self.schema).read_text()
        except FileNotFoundError:
            raise KernelError(f"{SCHEMAS / self.schema} is missing: install ovn-central") from None


class NorthboundServer(OvnServer):
    name: ClassVar[str] = "OVN_Northbound"
    clients: ClassVar[int] = 6641
    peers: ClassVar[int] = 6643
    schema: ClassVar[str] = "ovn-nb.ovsschema"


class SouthboundServer(OvnServer):
    name: ClassVar[str] = "OVN_Southbound"
    clients: ClassVar[int] = 6642
    peers: ClassVar[int] = 6645  # OVN's own scripts have 6644, which is that of netkit's cluster
    schema: ClassVar[str] = "ovn-sb.ovsschema"


@dataclass(frozen=True, slots=True, kw_only=True)
class OvnStatus:
    """What the servers of this host report.  `northd`: active, standby or paused."""

    address: str
    servers: tuple[str, ...]  # addresses
    northbound: str  # the leader's address, "" if there is none
    southbound: str
    northd: str
    problems: tuple[str, ...] = ()


class OvnServers:
    """`folder` outlives a reboot: the databases; `run` does not: sockets and pid files."""

    def __init__(self, folder: Path, run: Path, certificates: Certificates | None = None) -> None:
        self._run, self._folder = run, folder
        self._certificates = certificates
        self.north = NorthboundServer(folder / "nb", run / "nb", certificates)
        self.south = SouthboundServer(folder / "sb", run / "sb", certificates)
        self._tried = 0.0

    @property
    def settings(self) -> Settings | None:
        """None where this host has no servers, or not both."""
        return self.north.settings and self.south.settings

    def up(self, address: str, other: str = "") -> None:
        """Begin an OVN, or join that of the host `other`.  KernelError, and nothing is left."""
        if self.settings is not None:
            raise Conflict(f"this host has servers of an OVN already: {OvnServer.end}")
        self.remove()  # what an attempt that was cut short left
        try:
            for server in self._both():
                if other:
                    server.join(address, other)
                else:
                    server.create(address)
            self._start_northd()
        except BaseException:
            self.remove()
            raise

    def down(self) -> None:
        """Leave the other servers, if there are any, and remove both databases."""
        self._stop_northd()
        for server in (self.south, self.north):
            if server.settings is not None:
                server.leave()
        self.remove()

    def remove(self) -> None:
        """All of this host's, without asking the others."""
        self._stop_northd()
        for server in (self.south, self.north):
            server.remove()
        for folder in (self._folder, self._run):
            shutil.rmtree(folder, ignore_errors=True)

    def found(self) -> None:
        """By a netkitd that starts: see LocalServer.found.  What was cut short is removed."""
        if self.settings is None:
            self.remove()
        for server in self._both():
            server.found()

    def ensure(self) -> None:
        """Start what should run and does not; called often.  KernelError if that fails."""
        if self.settings is None:
            return
        self.north.ensure()
        self.south.ensure()
        pid = self._northd_pid()
        if pid and programs.words_of(pid)[1:] != self._northd_command()[1:]:
            self._stop_northd()  # there are other servers by now
            pid = 0
        if not pid and time.monotonic() - self._tried > PAUSE:
            self._tried = time.monotonic()
            self._start_northd()

    def status(self) -> OvnStatus:
        settings = self.settings
        assert settings is not None
        problems: list[str] = []
        leaders = {server.name: self._leader(server, problems) for server in self._both()}
        northd = "unknown"
        try:
            said = tool(self._run, "ovn-appctl", "--timeout=2", "-t", str(self._control), "status")
            northd = said.removeprefix("Status:").strip()
        except KernelError as error:
            problems.append(f"{NORTHD}: {error}")
        return OvnStatus(
            address=settings.address,
            servers=tuple(sorted(settings.servers)),
            northbound=leaders[self.north.name],
            southbound=leaders[self.south.name],
            northd=northd,
            problems=tuple(problems),
        )

    def switches(self) -> list[str]:
        """The names of logical switches.  KernelError if the database does not answer."""
        return tool(
            self._run, "ovn-nbctl", f"--db={self.north.remotes}", *self._tls(), "--timeout=5",
            "--no-leader-only", "--bare", "--columns=name", "list", "Logical_Switch",
        ).split()  # fmt: skip

    def _both(self) -> Iterator[OvnServer]:
        yield self.north
        yield self.south

    def _leader(self, server: OvnServer, problems: list[str]) -> str:
        try:
            found = server.status()
        except KernelError as error:
            problems.append(f"{server.name}: {error}")
            return ""
        if not found.connected:
            problems.append(f"{server.name}: most servers do not answer")
        return found.leader

    # ovn-northd

    @property
    def _control(self) -> Path:
        return self._run / "northd"

    @property
    def _pidfile(self) -> Path:
        return self._run / f"{NORTHD}.pid"

    def _northd_pid(self) -> int:
        return programs.daemon(self._pidfile, NORTHD, f"--unixctl={self._control}")

    def _tls(self) -> list[str]:
        return self._certificates.flags() if self._certificates else []

    def _northd_command(self) -> list[str]:
        north, south = (self._sorted(server) for server in self._both())
        return [
            NORTHD, f"--ovnnb-db={north}", f"--ovnsb-db={south}", *self._tls(),
            f"--unixctl={self._control}", f"--pidfile={self._pidfile}", "--detach",
            "-vconsole:off", f"--log-file={self._folder}/{NORTHD}.log",
        ]  # fmt: skip

    def _sorted(self, server: OvnServer) -> str:
        servers = found.servers if (found := server.settings) else ()
        kind = scheme(self._certificates)
        return ",".join(f"{kind}:{a}:{server.clients}" for a in sorted(servers))

    def _start_northd(self) -> None:
        if not self._northd_pid():
            self._control.unlink(missing_ok=True)
            tool(self._run, *self._northd_command())

    def _stop_northd(self) -> None:
        programs.stop(self._pidfile, NORTHD, f"--unixctl={self._control}")
