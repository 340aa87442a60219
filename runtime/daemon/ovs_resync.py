"""Repair of Open vSwitch networks when the switch or its database changed."""

from __future__ import annotations

from netkit.driver import Traits
from netkit.errors import KernelError
from netkit.kernel.host import Host
from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.network.controller import Controller
from netkit.reconcile.resync import ResyncResult


class OvsRepairs:
    """A netkit.reconcile.resync.Resyncer for networks that are in Open vSwitch."""

    def __init__(self, networks: Controller, host: Host, database: Ovsdb) -> None:
        self._networks = networks
        self._host = host
        self._database = database

    def repair(self) -> ResyncResult:
        """Repair; also deletes what could not be deleted while Open vSwitch did not answer."""
        networks = self._networks
        needed = any(networks.traits(record).openvswitch for record in networks.all())
        if not needed and not self._database.in_use:
            return ResyncResult((), False)
        if not self._host.vswitchd.alive:  # checked first: a timeout would block the queue
            if not needed:
                return ResyncResult((), False)
            raise KernelError("ovs-vswitchd is not running")
        if not self._host.vswitchd.serves:  # requests for flows would block the queue
            raise KernelError("ovs-vswitchd has not found its database again")
        return networks.repair_drivers(in_openvswitch, self._host.switched)


def in_openvswitch(traits: Traits) -> bool:
    return traits.openvswitch
