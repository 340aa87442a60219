"""The two databases of an OVN, each a server of a cluster on this host."""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path
from typing import ClassVar

from netkit.cluster.servers import POLL, LocalServer
from netkit.errors import Conflict, InvalidSpec, KernelError, NetkitError
from netkit.kernel import port_holders

RELEASE = 2.0  # seconds until one that was killed must have released its ports
SCHEMAS = Path("/usr/share/ovn")


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

    def up(self, address: str, other: str) -> bool:
        """Make the server, or continue where an earlier call ended; True if it is new.

        `other`: the host whose cluster is joined; "": a new cluster.
        """
        settings = self.settings
        if settings is None:
            _check_ports(self, address)
            self.join(address, other) if other else self.create(address)
        elif self.lost:
            self.rejoin([*settings.servers, *filter(None, [other])])
        else:
            self.run_again()
            if len(settings.servers) > 1:
                self.wait_joined(settings.servers[1])
        self.kick_former()
        return settings is None

    def memory(self) -> str:
        """What `ovs-appctl memory/show` prints: "cells:20 monitors:1 sessions:3".  KernelError."""
        return self._ask("memory/show")

    def run_again(self) -> None:
        """Start it if it does not run.  Conflict where its ports are taken."""
        settings = self.settings
        if settings is not None and not self.alive:
            _check_ports(self, settings.address)
            self.start()


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


def _check_ports(server: OvnServer, address: str) -> None:
    """ovsdb-server starts all the same where its ports are taken, and only logs it."""
    deadline = time.monotonic() + RELEASE
    for port in (server.clients, server.peers):
        while (error := _bind(address, port)) is not None:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise _unusable(error, server.name, address, port) from None
            time.sleep(POLL)


def _bind(address: str, port: int) -> OSError | None:
    """Why a server could not listen there; None if it can."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
        except OSError as error:
            return error
    return None


def _unusable(error: OSError, name: str, address: str, port: int) -> NetkitError:
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidSpec(f"this host has no address {address}: give one of its own (--address)")
    if error.errno != errno.EADDRINUSE:
        return KernelError(f"{name} cannot listen at {address}:{port}: {error.strerror}")
    who = port_holders.holder("tcp", address, port) or "another process"
    return Conflict(
        f"{name} needs {address}:{port}, which {who} has.  An OVN that runs already is used as it "
        "is: netkitd --ovn-nb and --ovn-sb"
    )
