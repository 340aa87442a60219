"""The servers of an OVN on this host: both databases and ovn-northd, the distribution's programs.

Each database is one of a cluster (RAFT) from the beginning, so that others can join.  The processes
outlive netkitd, which finds them again and starts what has died.  One ovn-northd of all servers is
active.  Sources: ovn-architecture(7), ovn-northd(8), ovsdb(7).
"""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

from netkit.cluster import programs
from netkit.cluster.ovn_databases import NorthboundServer, OvnServer, SouthboundServer
from netkit.cluster.programs import tool
from netkit.cluster.servers import PAUSE
from netkit.cluster.settings import Settings
from netkit.cluster.tls import Certificates
from netkit.errors import Conflict, Forbidden, InvalidSpec, KernelError, NetkitError, NotFound
from netkit.gone import if_there

NORTHD = "ovn-northd"
PROGRAMS = ("ovsdb-server", "ovsdb-tool", "ovs-appctl", NORTHD, "ovn-appctl", "ovn-nbctl")
REFRESH = 10.0  # seconds between looks which servers there are


class OvnServers:
    """`folder` outlives a reboot: the databases; `run` does not: sockets and pid files.

    `certificates`: netkitd's.  Servers that were made without TLS do not use them.
    """

    def __init__(self, folder: Path, run: Path, certificates: Certificates | None = None) -> None:
        self._run, self._folder = run, folder
        self._configured = certificates
        self._tried = self._refreshed = 0.0
        self._choose(tls=True)
        if (found := self._some()) is not None and not found.tls:
            self._choose(tls=False)

    def _choose(self, *, tls: bool) -> None:
        self.certificates = self._configured if tls else None
        folder, run = self._folder, self._run
        self.north = NorthboundServer(folder / "nb", run / "nb", self.certificates)
        self.south = SouthboundServer(folder / "sb", run / "sb", self.certificates)

    @property
    def both(self) -> tuple[OvnServer, OvnServer]:
        return self.north, self.south

    @property
    def settings(self) -> Settings | None:
        """None where this host has no servers, or not both."""
        return self.north.settings and self.south.settings

    def _some(self) -> Settings | None:
        return self.north.settings or self.south.settings

    def up(self, address: str, other: str = "", *, tls: bool = True) -> None:
        """Begin an OVN, or join that of the host `other`; what is made already is continued.

        A NetkitError says why not; then nothing is left of what this call made.
        """
        self._require()
        found = self._some()
        if found is not None and found.address != address:
            raise Conflict(
                f"the servers of OVN on this host have the address {found.address}, not {address}: "
                "netkit ovn down first"
            )
        if found is None:
            self._choose(tls=tls)
        made: list[OvnServer] = []
        try:
            for server in self.both:
                if server.up(address, other):
                    made.append(server)
            self._start_northd()
        except BaseException:
            if len(made) == len(self.both):
                self._stop_northd()
            for server in reversed(made):
                _leave_or_remove(server)
            if self._some() is None:
                self.remove()
            raise

    def _require(self) -> None:
        for program in PROGRAMS:
            if shutil.which(program) is None:
                raise programs.missing(program)
        for server in self.both:
            server.schema_text()

    def down(self) -> None:
        """Leave the other servers, if there are any, and remove both databases."""
        if self._some() is None:
            raise Conflict("no servers of OVN on this host: netkit ovn up")
        for server in self.both:
            if server.settings is not None and not server.lost:
                server.run_again()
                _must_be_connected(server)
        self._keep_networks()
        self._stop_northd()
        for server in reversed(self.both):
            if server.settings is not None:
                server.leave()
        self.remove()

    def _keep_networks(self) -> None:
        """Forbidden where they would be lost with the last server."""
        found = self.north.settings
        if found is None or self.north.lost or len(self.north.status().servers) > 1:
            return
        if names := self.switches():
            raise Forbidden(
                "this is the only server, and these logical switches are in its database: "
                f"{', '.join(names)}; remove their networks first, or netkit ovn down --force"
            )

    def remove(self) -> None:
        """All of this host's, without asking the others."""
        self._stop_northd()
        for server in self.both:
            server.remove()
        for folder in (self._folder, self._run):
            shutil.rmtree(folder, ignore_errors=True)
        self._choose(tls=True)

    def kick(self, address: str) -> None:
        """Remove another host's servers, which will not come back."""
        settings = self.settings
        if settings is None:
            raise Conflict("no servers of OVN on this host: netkit ovn up")
        if address == settings.address:
            raise InvalidSpec("that is this host: netkit ovn down, without an address")
        if not any(address in server.status().servers for server in self.both):
            raise NotFound(f"no server {address}: netkit ovn status")
        for server in self.both:
            server.kick(address)
            server.refresh()

    def found(self) -> None:
        """By a netkitd that starts: see LocalServer.found."""
        for server in self.both:
            server.found()

    def ensure(self) -> None:
        """Start what should run and does not; called often.  NetkitError if that fails."""
        if self.settings is None:
            return
        now = time.monotonic()
        refresh = now - self._refreshed > REFRESH
        if refresh:
            self._refreshed = now
        for server in self.both:
            if server.lost:
                raise KernelError(
                    f"the database of {server.name} on this host is missing: netkit ovn up gets it "
                    "from the other servers"
                )
            server.run_again()
            if refresh:
                server.refresh()
        pid = self.northd
        with if_there():
            if pid and programs.words_of(pid)[1:] != self._northd_command()[1:]:
                self._stop_northd()  # there are other servers by now
                pid = 0
        if not pid and now - self._tried > PAUSE:
            self._tried = now
            self._start_northd()

    def switches(self) -> list[str]:
        """The names of logical switches.  KernelError if the northbound database is not there."""
        tls = self.certificates.files() if self.certificates else []
        return tool(
            self._run, "ovn-nbctl", f"--db={self.north.remotes}", *tls, "--timeout=5", "--bare",
            "--columns=name", "list", "Logical_Switch",
        ).split()  # fmt: skip

    # ovn-northd

    @property
    def northd(self) -> int:
        """Its pid; 0 if it does not run."""
        return programs.daemon(self._pidfile, NORTHD, f"--unixctl={self._control}")

    def northd_state(self) -> str:
        """`active`, `standby` or `paused`.  KernelError if it does not answer."""
        found = tool(self._run, "ovn-appctl", "--timeout=2", "-t", str(self._control), "status")
        return found.removeprefix("Status:").strip()

    @property
    def _control(self) -> Path:
        return self._run / "northd"

    @property
    def _pidfile(self) -> Path:
        return self._run / f"{NORTHD}.pid"

    def _tls(self) -> list[str]:
        return self.certificates.flags() if self.certificates else []

    def _northd_command(self) -> list[str]:
        north, south = (",".join(sorted(server.remotes.split(","))) for server in self.both)
        return [
            NORTHD, f"--ovnnb-db={north}", f"--ovnsb-db={south}", *self._tls(),
            f"--unixctl={self._control}", f"--pidfile={self._pidfile}", "--detach",
            "-vconsole:off", f"--log-file={self._folder}/{NORTHD}.log",
        ]  # fmt: skip

    def _start_northd(self) -> None:
        if not self.northd:
            self._control.unlink(missing_ok=True)
            tool(self._run, *self._northd_command())

    def _stop_northd(self) -> None:
        programs.stop(self._pidfile, NORTHD, f"--unixctl={self._control}")


def _leave_or_remove(server: OvnServer) -> None:
    with suppress(NetkitError):
        server.leave()
    server.remove()


def _must_be_connected(server: OvnServer) -> None:
    if not server.wait_connected():
        here = server.settings.address if server.settings else ""
        raise KernelError(
            f"most servers of {server.name} do not answer, which leaving them needs: try again "
            "when they are back, or netkit ovn down --force here, and on another host netkit "
            f"ovn down {here}"
        )
