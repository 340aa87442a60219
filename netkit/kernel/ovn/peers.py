"""The other hosts of a network of OVN, and whether tunnels get there.

    northbound database   which engines and chassis a switch is used by
    southbound database   the addresses at which tunnels of a chassis end (table Encap)
    this Open vSwitch     the tunnel that ovn-controller made for it
    this host             a route to it

OVN itself does not notice a tunnel that leads nowhere: it probes none between ordinary chassis.
Sources: ovn-nb(5), ovn-sb(5), ovn-controller(8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from netkit.kernel.ovn.databases import Databases
from netkit.kernel.ovn.rows import Here, users
from netkit.kernel.ovs.idl import Copy, rows
from netkit.kernel.ovs.rows import Plugged, plugged
from netkit.model.ovn import INTEGRATION

if TYPE_CHECKING:
    from netkit.kernel.netlink.fib import Found

PATIENCE = 1.0  # seconds for a database to connect; one that has been lost for longer gets none
ABSENT = "absent"  # ovn-controller has made no tunnel to it


@dataclass(frozen=True, slots=True, order=True)
class OvnPeer:
    """`state`: what is wrong with the tunnel there; else that of BFD, "unknown" without it."""

    name: str  # of its chassis
    address: str
    state: str


class Peers:
    """`route`: the host's way to an address, as the kernel finds it."""

    def __init__(self, databases: Databases, route: Callable[[IPv4Address], Found]) -> None:
        self._databases = databases
        self._route = route

    def of_network(self, owner: str) -> list[OvnPeer]:
        """Those of the network with this owner mark; none where it is no network of OVN's.

        KernelError if a database does not answer: this is for looks that must not wait.
        """
        north = self._databases.northbound() if self._databases.local.present else None
        if north is None:
            return []
        here = Here(self._databases.engine, self._databases.chassis)
        names = north.view(lambda idl: users(idl, here, owner), PATIENCE)
        if not names:
            return []
        ends = self._databases.southbound().view(lambda idl: _ends(idl, names), PATIENCE)
        ports = self._databases.local.view(plugged)
        tunnels = {p.options.get("remote_ip", ""): p for p in ports if p.bridge == INTEGRATION}
        return sorted(
            OvnPeer(name, address, self._state(address, tunnels)) for name, address in ends.items()
        )

    def _state(self, address: str, tunnels: Mapping[str, Plugged]) -> str:
        if why := self._route(IPv4Address(address)).why:
            return why
        tunnel = tunnels.get(address)
        return tunnel.state if tunnel is not None else ABSENT


def _ends(idl: Copy, names: frozenset[str]) -> dict[str, str]:
    """By the name of a chassis, the IPv4 address where tunnels to it end."""
    out: dict[str, str] = {}
    for row in rows(idl, "Chassis"):
        found = sorted(e.ip for e in row.encaps if "." in e.ip)
        if row.name in names and found:
            out[row.name] = found[0]
    return out

