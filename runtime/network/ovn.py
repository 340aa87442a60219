"""Implement the API's calls about servers of an OVN on this host, and keep those running."""

from __future__ import annotations

import logging
import threading
from ipaddress import ip_address
from typing import Any

from netkit import threads
from netkit.cluster.ovn import OvnServers
from netkit.cluster.remotes import own_address
from netkit.cluster.tls import FLAGS
from netkit.errors import Forbidden, InvalidSpec, NetkitError

HEARTBEAT = 1.0  # seconds between looks whether servers run

log = logging.getLogger("netkit.ovn")


class OvnService:
    """Implements backend.Ovn.  `tls`: the servers have certificates."""

    def __init__(self, servers: OvnServers, *, tls: bool) -> None:
        self._servers = servers
        self._tls = tls
        self._turns = threading.Lock()  # held in a look, and while servers come or go
        self._hint = threading.Event()
        self._closed = False
        self._problem = ""
        self._thread = threads.looping("netkit-ovn", self._run, over=lambda: self._closed)

    def start(self) -> None:
        self._servers.found()
        self._thread.start()

    def close(self) -> None:
        """Stop looking after the servers, which run on."""
        self._closed = True
        self._hint.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            with self._turns:
                self._look()
            self._hint.wait(HEARTBEAT if self._servers.settings is not None else None)
            self._hint.clear()

    def _look(self) -> None:
        """Start what has died; a failure is logged once, and tried again."""
        try:
            self._servers.ensure()
        except NetkitError as error:
            if str(error) != self._problem:
                log.warning("servers of OVN: %s", error)
            self._problem = str(error)
        else:
            self._problem = ""

    def up(self, address: str, other: str, *, insecure: bool) -> dict[str, Any]:
        there = own_address(other) if other else ""
        here = own_address(address, f"tcp:{there}" if there else "")
        if not (self._tls or insecure or ip_address(here).is_loopback):
            raise InvalidSpec(
                f"without TLS any host that reaches {here} could change every network: start "
                f"netkitd with {', '.join(FLAGS)}, or give --insecure"
            )
        with self._turns:
            self._servers.up(here, there)
        self._hint.set()
        return self.status()

    def down(self, *, force: bool) -> None:
        with self._turns:
            settings = self._servers.settings
            if settings is None:
                raise InvalidSpec("this host has no servers of an OVN: netkit ovn up")
            if force:
                self._servers.remove()
                return
            if len(settings.servers) == 1 and (names := self._servers.switches()):
                raise Forbidden(
                    f"{len(names)} logical switches are in this OVN, and its last servers would "
                    f"go: remove the networks first, or give --force: {', '.join(names[:5])}"
                )
            self._servers.down()

    def status(self) -> dict[str, Any]:
        """Without servers on this host only what it would have."""
        settings, found = self._servers.settings, None
        if settings is not None:
            found = self._servers.status()
        problems = [*(found.problems if found else ())]
        return {
            "Northbound": self._servers.north.remotes,
            "Southbound": self._servers.south.remotes,
            "TLS": self._tls,
            "Address": found.address if found else "",
            "Servers": [*(found.servers if found else ())],
            "NorthboundLeader": found.northbound if found else "",
            "SouthboundLeader": found.southbound if found else "",
            "Northd": found.northd if found else "",
            "Problems": problems + ([self._problem] if self._problem else []),
        }
