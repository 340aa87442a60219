"""Implement the API's calls about servers of OVN on this host, and look after them."""

from __future__ import annotations

import logging
import threading
from ipaddress import IPv4Address
from typing import Any

from netkit import threads
from netkit.cluster import ovn_status
from netkit.cluster.ovn import OvnServers
from netkit.cluster.ovn_status import OvnStatus, ServerView
from netkit.cluster.remotes import own_address
from netkit.cluster.tls import FLAGS
from netkit.errors import InvalidSpec, NetkitError

LOOK = 1.0  # seconds between looks whether all runs

log = logging.getLogger("netkit.ovn")


class OvnService:
    """Implements backend.Ovn.  `tls`: netkitd has certificates."""

    def __init__(self, servers: OvnServers, *, tls: bool = False) -> None:
        self._servers = servers
        self._tls = tls  # netkitd has certificates
        self._turns = threading.Lock()  # held while servers come, go or are started again
        self._begun = threading.Event()  # there are servers to look after, or it is closed
        self._stop = threading.Event()
        self._problem = ""
        self._thread = threads.looping("netkit-ovn", self._run, over=self._stop.is_set)

    def start(self) -> None:
        """Conflict where the servers that are here were made with TLS, and we have no files."""
        self._servers.found()
        if self._servers.settings is not None:
            self._begun.set()
        self._thread.start()

    def close(self) -> None:
        """The servers run on, for the other hosts."""
        self._stop.set()
        self._begun.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._begun.wait()
            with self._turns:
                if not self._stop.is_set():
                    self._look()
            self._stop.wait(LOOK)

    def _look(self) -> None:
        """Log a failure once; the next look tries again."""
        try:
            self._servers.ensure()
        except NetkitError as error:
            if self._problem != str(error):
                log.warning("servers of OVN: %s", error)
            self._problem = str(error)
        else:
            if self._problem:
                log.info("servers of OVN: all is well again")
            self._problem = ""

    def up(self, address: str, other: str, *, insecure: bool) -> dict[str, Any]:
        there = own_address(other) if other else ""
        here = self._address(address, there)
        servers = self._servers
        new, exposed = servers.settings is None, not IPv4Address(here).is_loopback
        if new and exposed and not (insecure or self._tls):
            raise InvalidSpec(
                f"servers at {here} without TLS let every host that reaches them change all "
                f"networks: start netkitd with {', '.join(FLAGS)}, or use --insecure where only "
                "your hosts reach them"
            )
        with self._turns:
            if not insecure and servers.certificates is not None:
                servers.certificates.check()  # ovsdb-server does not report why a peer is refused
            servers.up(here, there, tls=not insecure)
            self._begun.set()
        return self.status()

    def _address(self, address: str, there: str) -> str:
        known = self._servers.north.settings or self._servers.south.settings
        if not address and known is not None:
            return known.address
        return own_address(address, f"tcp:{there}" if there else "")

    def down(self, host: str = "", *, force: bool) -> None:
        if host and force:
            raise InvalidSpec("force is about this host: leave out the address of the other")
        with self._turns:
            if host:
                self._servers.kick(own_address(host))
                return
            if force:
                self._servers.remove()
            else:
                self._servers.down()
            self._begun.clear()
            self._problem = ""

    def status(self) -> dict[str, Any]:
        servers = self._servers
        settings = servers.settings
        found = OvnStatus(servers=(), northd="", problems=())
        if settings is not None:
            found = ovn_status.status(servers)
        problems = [self._problem] if self._problem else []
        return {
            "Address": settings.address if settings is not None else "",
            "TLS": settings is not None and settings.tls,
            "Northbound": servers.north.remotes,
            "Southbound": servers.south.remotes,
            "Quorum": found.quorum,
            "Northd": found.northd,
            "Servers": [_rendered(view) for view in found.servers],
            "Problems": [*problems, *found.problems],
        }


def _rendered(view: ServerView) -> dict[str, Any]:
    return {
        "Database": view.database, "Address": view.address, "Self": view.local, "Role": view.role,
        "Index": view.index, "Lag": view.lag, "Clients": view.clients, "Problem": view.problem,
    }  # fmt: skip
