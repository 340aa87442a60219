"""Transactions on the shared state: functions on the local copy.

Each finds out first what is done already, so running twice comes to the same as running once; and
the indexes and references of the database refuse what another host was faster with, upon which it
runs again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, ip_address, ip_network

import msgspec

from netkit.cluster.state import Held, Member, Own, Shared
from netkit.driver import Subnet
from netkit.errors import AlreadyExists, Conflict, Forbidden, InUse, NotFound
from netkit.ipam.pools import UsedSubnet, assignable_range, check_overlap
from netkit.kernel.ovs.idl import Copy, Row, Transaction, rows
from netkit.model import IPAddress
from netkit.network.remote import RemoteContainer
from netkit.spec import NetworkRecord

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def shared(idl: Copy) -> Shared:
    """All valid rows; others are left out: rows become flows, and any member may write them."""
    members = {row.id: _member(row) for row in rows(idl, "Host") if _sound(row.address)}
    networks = {
        row.id: msgspec.json.decode(row.doc, type=NetworkRecord) for row in rows(idl, "Network")
    }
    found = [
        RemoteContainer(
            id=row.id,
            network=row.network.id,
            host=row.host.id,
            host_address=row.host.address,
            sandbox=row.sandbox,
            owner=row.owner,
            address=row.address,
            mac=row.mac,
            names=tuple(sorted(row.names)),
        )
        for row in rows(idl, "Endpoint")
        if row.host.id in members and _sound(row.address) and _MAC.fullmatch(row.mac)
    ]
    return Shared(
        members=members,
        networks=networks,
        endpoints=tuple(sorted(found, key=lambda e: e.id)),
    )


def _sound(address: str) -> bool:
    try:
        return bool(IPv4Address(address))
    except AddressValueError:
        return False


def create(record: NetworkRecord, subnets: Sequence[Subnet], idl: Copy, t: Transaction) -> None:
    if _find(idl, "Network", record.id) is not None:
        return
    _one_after_the_other(idl, t)
    for row in rows(idl, "Network"):
        if row.name == record.spec.name:
            raise AlreadyExists(f"network with name {row.name} already exists in the cluster")
    taken = [UsedSubnet(ip_network(row.subnet), row.name) for row in rows(idl, "Network")]
    for subnet in subnets:
        check_overlap(subnet.cidr, taken)
    row = t.insert(idl.tables["Network"])
    row.id, row.name = record.id, record.spec.name
    row.subnet = str(subnets[0].cidr)
    row.doc = msgspec.json.encode(record).decode()
    for subnet in subnets:
        kept = [a for _, a in subnet.aux] + ([subnet.gateway] if subnet.gateway else [])
        for address in dict.fromkeys(kept):
            _hold(idl, t, row, None, str(address), record.id, "the network")


def _one_after_the_other(idl: Copy, t: Transaction) -> None:
    """Make concurrent creations conflict, by a counter: no index finds overlapping subnets."""
    root = next(rows(idl, "Netkit"), None)
    if root is None:
        t.insert(idl.tables["Netkit"]).serial = 1  # of two that insert it, maxRows refuses one
        return
    # `verify` makes the commit fail where another host has written the column since our copy.
    root.verify("serial")
    root.serial += 1


def remove(id: str, idl: Copy, t: Transaction) -> None:
    network = _find(idl, "Network", id)
    if network is None:
        return
    there = [row for row in rows(idl, "Address") if row.network == network]
    if users := sorted(f"{row.owner} on {_member(row.host[0])}" for row in there if row.host):
        raise Forbidden(f"network {network.name} has active endpoints ({', '.join(users)})")
    for row in there:
        row.delete()
    network.delete()


@dataclass(slots=True)
class Take:
    """Allocate an address of a network to a holder on `me`; `given` is the result."""

    record: NetworkRecord
    subnet: Subnet
    me: str
    holder: str
    owner: str
    ip: str = ""
    given: IPAddress | None = None

    def __call__(self, idl: Copy, t: Transaction) -> None:
        network = _find(idl, "Network", self.record.id)
        host = _find(idl, "Host", self.me)
        if network is None:
            raise NotFound(f"network {self.record.id} not found")
        if host is None:
            raise Conflict("this host is not known in the cluster yet: try again")
        there = {row.address: row for row in rows(idl, "Address") if row.network == network}
        mine = [a for a, row in there.items() if row.holder == self.holder and row.host == [host]]
        # A commit whose reply was lost is repeated: what it took stays its own.
        if self.ip in mine or (mine and not self.ip):
            self.given = ip_address(self.ip or mine[0])
            return
        if self.ip in there:
            row = there[self.ip]
            who = f"container {row.owner} on {_member(row.host[0])}" if row.host else row.owner
            raise InUse(f"Address already in use: {self.ip} is held by {who}")
        self.given = ip_address(self.ip) if self.ip else self._lowest({*there})
        _hold(idl, t, network, host, str(self.given), self.holder, self.owner)

    def _lowest(self, taken: set[str]) -> IPAddress:
        first, last = assignable_range(self.subnet)
        base = self.subnet.cidr.network_address
        for number in range(first, last + 1):
            address = base + (number - int(base))
            if str(address) not in taken:
                return address
        raise Conflict(
            "no available IPv4 addresses on this network's address pools: "
            f"{self.record.spec.name} ({self.record.id[:12]})"
        )


@dataclass(slots=True)
class Settle:
    """Write the rows of one host to match its state: `own` is called as late as possible.

    `lost`: addresses of its own that other hosts hold by now.
    """

    me: Member
    own: Callable[[], Own]
    lost: tuple[Held, ...] = ()

    def __call__(self, idl: Copy, t: Transaction) -> None:
        host = self._register(idl, t)
        own = self.own()
        networks = {row.id: row for row in rows(idl, "Network")}
        self._addresses(idl, t, host, networks, own)
        self._endpoints(idl, t, host, networks, own)

    def _register(self, idl: Copy, t: Transaction) -> Row:
        host = _find(idl, "Host", self.me.id)
        for row in rows(idl, "Host"):
            if row.id != self.me.id and row.address == self.me.address:
                raise Conflict(
                    f"another host of the cluster has the address {row.address}: {row.name} "
                    f"(engine {row.id}); if it never comes back: netkit cluster leave {row.id}"
                )
        if host is None:
            host = t.insert(idl.tables["Host"])
            host.id, host.name, host.address = self.me.id, self.me.name, self.me.address
        elif _member(host) != self.me:
            host.name, host.address = self.me.name, self.me.address
        return host

    def _addresses(
        self, idl: Copy, t: Transaction, host: Row, networks: dict[str, Row], own: Own
    ) -> None:
        wanted = {(h.network, h.address): h for h in own.held if h.network in networks}
        lost = []
        for row in rows(idl, "Address"):
            held = wanted.pop((row.network.id, row.address), None)
            if row.host == [host]:
                if held is not None and held.holder == row.holder:
                    if held.owner and row.owner != held.owner:
                        row.owner = held.owner
                elif held is not None:
                    row.holder, row.owner = held.holder, held.owner or held.holder[:12]
                # Busy: an operation here took the address, and has not written its row yet.
                elif (row.network.id, row.holder) not in own.busy:
                    row.delete()
            elif held is not None:
                lost.append(held)
        self.lost = tuple(lost)
        for held in wanted.values():
            network = networks[held.network]
            owner = held.owner or held.holder[:12]
            _hold(idl, t, network, host, held.address, held.holder, owner)

    def _endpoints(
        self, idl: Copy, t: Transaction, host: Row, networks: dict[str, Row], own: Own
    ) -> None:
        wanted = {id: e for id, e in own.endpoints.items() if e.network in networks}
        # Inserting a second one would violate the index on (network, mac), and with it fail the
        # whole transaction, of all endpoints of this host.
        macs = {(row.network.id, row.mac) for row in rows(idl, "Endpoint") if row.host != host}
        for row in rows(idl, "Endpoint"):
            mine = wanted.pop(row.id, None) if row.host == host else None
            if mine is not None:
                _describe(row, mine)
            elif row.host == host:
                row.delete()
        for e in wanted.values():
            if (e.network, e.mac) in macs:
                continue  # a MAC address the user chose twice: it is flooded to, as without us
            row = t.insert(idl.tables["Endpoint"])
            row.id, row.network, row.host = e.id, networks[e.network], host
            row.sandbox, row.mac, row.owner = e.sandbox, e.mac, e.owner
            row.address, row.names = e.address, sorted(e.names)


def forget(id: str, idl: Copy, t: Transaction) -> None:
    """Delete a host with all its rows."""
    host = _find(idl, "Host", id)
    if host is None:
        return
    for row in rows(idl, "Endpoint"):
        if row.host == host:
            row.delete()
    for row in rows(idl, "Address"):
        if row.host == [host]:
            row.delete()
    host.delete()


def _member(row: Row) -> Member:
    return Member(id=row.id, name=row.name, address=row.address)


def _find(idl: Copy, table: str, id: str) -> Row:
    return next((row for row in rows(idl, table) if row.id == id), None)


def _hold(
    idl: Copy, t: Transaction, network: Row, host: Row, address: str, holder: str, owner: str
) -> None:
    row = t.insert(idl.tables["Address"])
    row.network, row.address, row.holder, row.owner = network, address, holder, owner
    if host is not None:
        row.host = [host]


def _describe(row: Row, e: RemoteContainer) -> None:
    """Write only columns that differ: all hosts are notified of each write."""
    if row.owner != e.owner:
        row.owner = e.owner
    if row.address != e.address:
        row.address = e.address
    if sorted(row.names) != sorted(e.names):
        row.names = sorted(e.names)
