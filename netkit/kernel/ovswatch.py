"""Has somebody changed Open vSwitch, or did it start anew?  A hint where to look, never a fact.

The database tells of every change.  Of flows nothing is told, so they are counted twice a second;
one that took the place of another is found by the guard's own look, now and then.
"""

from __future__ import annotations

import threading
import time

from netkit.errors import KernelError
from netkit.kernel.host import Host
from netkit.kernel.ovsdb import Ovsdb
from netkit.kernel.vswitchd import Vswitchd
from netkit.networks import Networks
from netkit.plan import Plan

DRIVER = "ovs"  # of plugins/ovs
POLL = 0.5  # seconds between counts of the flows; one costs 0.2 ms


class OvsWatch:
    """A netkit.guard.Watch.  Asks nothing of an Open vSwitch that netkit has no use for."""

    def __init__(self, database: Ovsdb, daemon: Vswitchd) -> None:
        self._database = database
        self._daemon = daemon
        self._told = threading.Event()
        self._over = False
        self._rules = -1
        database.changed.append(self._told.set)

    def wait(self, seconds: float) -> bool:
        """Until there is a hint, somebody calls `wake`, or the time is over.  Was it a hint?"""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if self._told.wait(max(0.0, min(POLL, left))):
                self._told.clear()
                return not self._over
            if self._database.in_use and self._daemon.rules() != self._rules:
                self.settle()
                return True
            if left <= 0:
                return False

    def settle(self) -> None:
        if self._database.in_use:
            self._rules = self._daemon.rules()

    def wake(self) -> None:
        self._over = True
        self._told.set()

    def close(self) -> None:
        self._database.changed.remove(self._told.set)


class OvsRepairs:
    """A netkit.guard.Repairs for the networks of the ovs driver."""

    def __init__(self, networks: Networks, host: Host, database: Ovsdb) -> None:
        self._networks = networks
        self._host = host
        self._database = database

    def repair(self) -> tuple[Plan, bool]:
        """Also takes away what had to stay behind while Open vSwitch did not answer."""
        needed = any(record.spec.driver == DRIVER for record in self._networks.all())
        if not needed and not self._database.in_use:
            return (), False
        if not self._host.vswitchd.alive:  # others must not wait while we find that out
            if not needed:
                return (), False
            raise KernelError("ovs-vswitchd is not running")
        if not self._host.vswitchd.serves:  # flows that are asked for would keep everybody waiting
            raise KernelError("ovs-vswitchd has not found its database again")
        return self._networks.repair_driver(DRIVER, self._host.switched)
