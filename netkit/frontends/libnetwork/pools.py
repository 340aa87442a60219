"""The remote IPAM `netkit`: address pools, and addresses of them, for dockerd's networks.

A pool is asked for before its network exists.  Once that is one of netkit's, each address is
reserved on it, in the cluster or overlay that it belongs to as well, for the sandbox that will have
it (`Lease.holder`): other containers on it, dockerd's or not, get others.  A pool of another
driver's network (dockerd's own bridge) has its addresses in `docker_leases` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_interface
from typing import Protocol

from netkit.driver import Subnet, Traits
from netkit.errors import Conflict, InvalidSpec, NotFound, NotSupported
from netkit.frontends.libnetwork.messages import (
    ENDPOINT_NAME,
    GATEWAY,
    REQUEST_TYPE,
    ReleaseAddress,
    ReleasePool,
    RequestAddress,
    RequestPool,
    short,
)
from netkit.frontends.libnetwork.options import NETWORK, joined_network
from netkit.frontends.libnetwork.pool_addresses import gateway_of, lowest_free, parse, with_length
from netkit.frontends.libnetwork.tables import CHOSEN, LEASE, REQUESTED, Lease, PoolRow, Tables
from netkit.ipam.pools import (
    Pool,
    allocate_subnet,
    parse_subnets,
    requested_prefix_length,
)
from netkit.locks import KeyedLocks
from netkit.model import IPNetwork
from netkit.spec import NetworkRecord, SubnetSpec

LOCAL, GLOBAL = "netkit-local", "netkit-global"  # names of address spaces
LOST_ANSWER = 60  # seconds before the start, in which an answer may have been lost with netkitd
CAPABILITIES = {"RequiresMACAddress": False, "RequiresRequestReplay": False}
SPACES = {"LocalDefaultAddressSpace": LOCAL, "GlobalDefaultAddressSpace": GLOBAL}


class Networks(Protocol):
    """What is needed of `netkit.network`."""

    def find(self, ref: str) -> NetworkRecord: ...
    def all(self) -> list[NetworkRecord]: ...
    def traits(self, record: NetworkRecord) -> Traits: ...
    def lease(self, sandbox_id: str, network_id: str, ip: str = "") -> str: ...
    def forget(self, sandbox_id: str) -> None: ...
    def close(self, sandbox_id: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Thread-safe.  `token` makes an unused id of 64 hex digits, `now` is in seconds since the
    epoch, `begun` when this process began; `occupied` as for `netkit.network.Controller`."""

    tables: Tables
    networks: Networks
    defaults: Sequence[Pool]
    occupied: Callable[[], Iterable[IPNetwork]]
    token: Callable[[], str]
    now: Callable[[], int]
    begun: int
    locks: KeyedLocks

    def recover(self) -> None:
        """After a start: release what was being allocated, and was not acknowledged."""
        for lease in self.tables.leases():
            if lease.address is None:
                self._drop(lease)

    def unbound(self) -> list[IPNetwork]:
        """List pools that are no network of netkit's: no other network may get these addresses."""
        return [IPv4Network(p.cidr) for p in self.tables.pools() if not p.network]

    # pools

    def request_pool(self, request: RequestPool) -> Mapping[str, object]:
        if request.v6:
            raise NotSupported("IPv6 is not supported yet: leave out --ipv6")
        name = joined_network(request.options or {})
        with self.locks.hold("pools"):
            if name:
                return self._shared(request, name)
            subnet = self._asked(request) or self._chosen(request)
            same = self._repeated(subnet)
            row = same or PoolRow(
                id=self.token()[-16:],
                cidr=str(subnet.cidr),
                range=str(subnet.ip_range or ""),
                network="",
                space=request.space or LOCAL,
                since=self.now(),
            )
            if same is None:
                self.tables.add_pool(row)
        return {"PoolID": row.id, "Pool": row.cidr, "Data": {}}

    def _shared(self, request: RequestPool, name: str) -> Mapping[str, object]:
        """A pool that is a network which exists."""
        record = self.networks.find(name)
        if not record.spec.subnets:
            raise Conflict(f"network {name} has no subnet: leave out --ipam-driver")
        spec = record.spec.subnets[0]
        if request.pool and request.pool != spec.subnet:
            raise Conflict(f"network {name} has subnet {spec.subnet}, not {short(request.pool)}")
        here = IPv4Network(spec.subnet)
        if not request.pool and any(here.overlaps(n) for n in self.occupied() if n.version == 4):
            # dockerd would ask for another pool for ever: it wants none that its host has a route
            # to, unless the user names it.
            raise Conflict(
                f"this host is on network {name} itself: give --subnet {spec.subnet}, too"
            )
        row = PoolRow(
            id=self.token()[-16:],
            cidr=spec.subnet,
            range="",
            network=record.id,
            space=request.space or LOCAL,
            since=self.now(),
        )
        self.tables.add_pool(row)
        gateway = with_length(gateway_of(spec), row)
        return {"PoolID": row.id, "Pool": row.cidr, "Data": {GATEWAY: gateway}}

    def _asked(self, request: RequestPool) -> Subnet | None:
        """The pool that the user named; None: any."""
        spec = SubnetSpec(subnet=request.pool or "", ip_range=request.sub_pool or "")
        if not spec.subnet:
            if spec.ip_range:
                raise InvalidSpec("an ip-range needs a --subnet")
            return None
        if requested_prefix_length(spec) is not None:
            return None
        (subnet,) = parse_subnets([spec])
        assert isinstance(subnet.cidr, IPv4Network)
        for record in self.networks.all():
            if self.networks.traits(record).overlay:
                continue  # one of its networks may be within another: it is checked when it is made
            for other in record.spec.subnets:
                if other.subnet and IPv4Network(other.subnet).overlaps(subnet.cidr):
                    raise Conflict(
                        f"Pool overlaps with other one on this address space: {subnet.cidr} and "
                        f"{other.subnet} of network {record.spec.name}; to join that one, give "
                        f"--ipam-opt and -o {NETWORK}={record.spec.name}"
                    )
        for row in self.tables.pools():
            if not row.network and IPv4Network(row.cidr).overlaps(subnet.cidr):
                if self._repeated(subnet) == row:
                    continue
                raise Conflict(
                    "Pool overlaps with other one on this address space: "
                    f"{subnet.cidr} and {row.cidr} of another network"
                )
        return subnet

    def _repeated(self, subnet: Subnet) -> PoolRow | None:
        """The pool of an earlier request for the same, of which the answer was lost."""
        for row in self.tables.pools():
            same = (row.cidr, row.range) == (str(subnet.cidr), str(subnet.ip_range or ""))
            if same and not row.network and not self.tables.leases(row.id):
                return row
        return None

    def _chosen(self, request: RequestPool) -> Subnet:
        size = requested_prefix_length(SubnetSpec(subnet=request.pool or ""))
        taken = [
            IPv4Network(s.subnet)
            for record in self.networks.all()
            for s in record.spec.subnets
            if s.subnet
        ]
        busy = [*taken, *self.unbound(), *self.occupied()]
        return Subnet(cidr=allocate_subnet(self.defaults, busy, size))

    def release_pool(self, request: ReleasePool) -> Mapping[str, object]:
        self.drop_pool(request.pool)
        return {}

    def drop_pool(self, id: str) -> None:
        """Release a pool with all its addresses."""
        with self.locks.hold(id):
            for lease in self.tables.leases(id):
                self._drop(lease)
            self.tables.delete_pool(id)

    # addresses

    def request_address(self, request: RequestAddress) -> Mapping[str, object]:
        options = request.options or {}
        with self.locks.hold(request.pool):
            pool = self.tables.pool(request.pool)
            if pool is None:
                raise NotFound(
                    f"no address pool {short(request.pool)}: it was released, or netkit's database "
                    "was lost; remove the network, and create it anew"
                )
            text = parse(pool, request.address or "")
            if options.get(REQUEST_TYPE) == GATEWAY:
                found = self._request_gateway(pool, text)
            elif pool.network:
                found = self._reserve(pool, text, options.get(ENDPOINT_NAME, ""))
            else:
                found = self._take(pool, text, LEASE)
        return {"Address": with_length(found, pool), "Data": {}}

    def _request_gateway(self, pool: PoolRow, text: str) -> str:
        if not pool.network:
            return self._take(pool, text, REQUESTED if text else CHOSEN)
        has = gateway_of(self.networks.find(pool.network).spec.subnets[0])
        if text and text != has:
            raise Conflict(f"the gateway of subnet {pool.cidr} is {has}, not {text}")
        return has

    def _take(self, pool: PoolRow, text: str, kind: str) -> str:
        """An address of a pool that is no network of netkit's."""
        leases = {lease.address: lease for lease in self.tables.leases(pool.id)}
        if kind == CHOSEN:
            text = next((str(a) for a, each in leases.items() if each.kind == CHOSEN), "")
        found = text or lowest_free(pool, {str(a) for a in leases})
        there = leases.get(found)
        if there is not None and not self._answer_was_lost(there, kind):
            raise Conflict(f"Address already in use: {found} of pool {pool.cidr}")
        if there is None:
            self.tables.add_lease(Lease(self.token(), pool.id, found, kind, "", self.now()))
        return found

    def _answer_was_lost(self, lease: Lease, kind: str) -> bool:
        """Whether it may be the same request again, of which netkitd's end cut off the answer."""
        if lease.kind == kind != LEASE:
            return True
        return self.begun - LOST_ANSWER <= lease.since < self.begun

    def _reserve(self, pool: PoolRow, text: str, name: str) -> str:
        """An address on a network of netkit's."""
        there = self.tables.lease_on(pool.network, text) if text else None
        if there is not None and self.tables.endpoint_of(there.holder) is None:
            return text  # asked for again: nothing has it yet
        lease = Lease(self.token(), pool.id, None, LEASE, name, self.now())
        # Intent first: what has no address after a kill is released by `recover`.
        if not self.tables.add_lease(lease):
            raise NotFound(f"no address pool {short(pool.id)}: it was released")
        try:
            found = self.networks.lease(lease.holder, pool.network, text)
            address = str(ip_interface(found).ip)
            self.tables.settle_lease(lease.holder, address)
        except BaseException:
            self._drop(lease)
            raise
        return address

    def release_address(self, request: ReleaseAddress) -> Mapping[str, object]:
        with self.locks.hold(request.pool):
            lease = self.tables.lease(request.pool, request.address.partition("/")[0])
            if lease is not None:
                self._drop(lease)
        return {}

    def drop(self, lease: Lease) -> None:
        """Release an address that dockerd does not know of."""
        with self.locks.hold(lease.pool):
            self._drop(lease)

    def _drop(self, lease: Lease) -> None:
        if lease.kind == LEASE:
            self.networks.close(lease.holder)  # an endpoint whose removal dockerd gave up
            self.networks.forget(lease.holder)
        self.tables.delete_lease(lease.holder)
