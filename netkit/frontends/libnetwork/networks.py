"""dockerd's networks as networks of netkit's.

A network that dockerd makes is one of netkit's by the name `docker-` and 12 digits of dockerd's id,
which is all that it sends.  By `-o netkit.network=NAME` it is the one with that name, made by any
client: so several dockerds, and netkit's own engine, have containers on one network.  What was made
for dockerd is removed with the last of its networks that it stands for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Protocol

from netkit.errors import Conflict, Forbidden, InvalidSpec, NotFound, NotSupported
from netkit.frontends.libnetwork.messages import (
    ENABLE_IPV4,
    ENABLE_IPV6,
    INTERNAL,
    CreateNetwork,
    NetworkRequest,
    PoolData,
    driver_options,
    flag,
)
from netkit.frontends.libnetwork.options import IPAM_DRIVER, NETWORK, SCOPE, split
from netkit.frontends.libnetwork.tables import CHOSEN, DockerNetwork, PoolRow, Tables
from netkit.locks import KeyedLocks
from netkit.network.remote import SCOPE_GLOBAL
from netkit.spec import CreatedNetwork, NetworkRecord, NetworkSpec, SubnetSpec

LABEL = "netkit.docker.network"  # on a network made for dockerd: the id of dockerd's
ANY_POOL = "0.0.0.0/0"  # of dockerd's `--ipam-driver null`

log = logging.getLogger("netkit.docker")


class Networks(Protocol):
    """What is needed of `netkit.network`."""

    def create(self, spec: NetworkSpec) -> CreatedNetwork: ...
    def remove(self, ref: str) -> NetworkRecord: ...
    def find(self, ref: str) -> NetworkRecord: ...
    def close(self, sandbox_id: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class DockerNetworks:
    """Thread-safe.  Every call may be repeated."""

    tables: Tables
    networks: Networks
    locks: KeyedLocks

    def create(self, driver: str, request: CreateNetwork) -> Mapping[str, object]:
        with self.locks.hold(request.network):
            row = self.tables.network(request.network)
            if row is not None:
                _same_driver(self.networks.find(row.network), driver)
                return {}
            pools = self._pools(request)
            spec = self._spec(driver, request, pools)
            record = self._existing(spec) or self._made(spec)
            self.tables.add_network(request.network, record.id, tuple(p.id for p in pools))
            gateways = {s.gateway for s in record.spec.subnets}
            for lease in (each for p in pools for each in self.tables.leases(p.id)):
                if lease.kind == CHOSEN and lease.address not in gateways:
                    # A network without a host has no gateway: a container may have the address.
                    self.tables.delete_lease(lease.holder)
        return {}

    def _spec(
        self, driver: str, request: CreateNetwork, pools: Sequence[PoolRow]
    ) -> NetworkSpec:
        if request.ipv6 or flag(request.options, ENABLE_IPV6, False):
            raise NotSupported("IPv6 is not supported yet: leave out --ipv6")
        if not flag(request.options, ENABLE_IPV4, True):
            raise NotSupported(
                "networks without IPv4 are not supported yet: leave out --ipv4=false"
            )
        ours, options = split(driver_options(request.options))
        if ours.get(SCOPE, "local") == SCOPE_GLOBAL and not ours.get(NETWORK):
            raise InvalidSpec(
                f"-o {SCOPE}={SCOPE_GLOBAL} needs -o {NETWORK}=NAME, by which the other hosts "
                "have the network"
            )
        chosen = {lease.address for p in pools for lease in self.tables.leases(p.id)
                  if lease.kind == CHOSEN}  # fmt: skip
        return NetworkSpec(
            name=ours.get(NETWORK) or f"docker-{request.network[:12]}",
            driver=driver,
            subnets=tuple(_subnet(d, pools, chosen) for d in _data(request)),
            internal=flag(request.options, INTERNAL, False),
            ipam_driver=ours.get(IPAM_DRIVER) or "default",
            options=options,
            labels={LABEL: request.network},
            scope=ours.get(SCOPE) or "local",
        )

    def _pools(self, request: CreateNetwork) -> list[PoolRow]:
        """The pools of netkit's IPAM that the network's subnets are."""
        spaces = {d.space for d in _data(request)}
        cidrs = {d.pool for d in _data(request)}
        found = [p for p in self.tables.pools() if p.space in spaces and p.cidr in cidrs]
        return [p for p in found if not p.network] or found[:1]

    def _existing(self, spec: NetworkSpec) -> NetworkRecord | None:
        """The network of that name, if what dockerd asks for is what it is.  Conflict."""
        try:
            record = self.networks.find(spec.name)
        except NotFound:
            return None
        if record.spec.name != spec.name:
            return None  # found by the beginning of an id
        _same_driver(record, spec.driver)
        if record.spec.labels.get(LABEL) == spec.labels[LABEL]:
            return record  # made by the same call, of which the end was cut short
        have = {s.subnet for s in record.spec.subnets}
        for subnet in spec.subnets:
            if subnet.subnet not in have:
                raise Conflict(
                    f"network {spec.name} exists with subnet {', '.join(sorted(have)) or 'none'}, "
                    f"not {subnet.subnet}: give --ipam-driver netkit --ipam-opt "
                    f"{NETWORK}={spec.name}"
                )
        if record.spec.internal != spec.internal:
            word = "is" if record.spec.internal else "is not"
            raise Conflict(f"network {spec.name} exists, and {word} internal")
        for key, value in sorted(spec.options.items()):
            if (there := record.spec.options.get(key)) != value:
                raise Conflict(
                    f"network {spec.name} exists with option {key}={there or ''}, not {value}"
                )
        return record

    def _made(self, spec: NetworkSpec) -> NetworkRecord:
        made = self.networks.create(spec)
        for warning in made.warnings:
            log.warning("network %s of dockerd: %s", spec.name, warning)
        return made.record

    def delete(self, request: NetworkRequest) -> Mapping[str, object]:
        """Forget one of dockerd's networks, and what is left of its endpoints."""
        with self.locks.hold(request.network):
            row = self.tables.network(request.network) or self._cut_short(request.network)
            if row is not None:
                for endpoint in self.tables.endpoints(row.id):
                    self.networks.close(endpoint.sandbox)
                    self.tables.delete_endpoint(endpoint.id)
                self._delete(row)
        return {}

    def _cut_short(self, id: str) -> DockerNetwork | None:
        """A network that was made, and of which the row was not written."""
        try:
            record = self.networks.find(f"docker-{id[:12]}")
        except (NotFound, InvalidSpec):
            return None
        return DockerNetwork(id, record.id, "") if record.spec.labels.get(LABEL) == id else None

    def _delete(self, row: DockerNetwork) -> None:
        others = [n for n in self.tables.networks(row.network) if n.id != row.id]
        try:
            made_here = LABEL in self.networks.find(row.network).spec.labels
            if made_here and not others:
                self.networks.remove(row.network)  # with its row here
        except NotFound:
            pass
        except Forbidden as error:  # containers of netkit's own engine are on it
            log.warning("network %s of dockerd stays, as one of netkit's: %s", row.id[:12], error)
        self.tables.delete_network(row.id)


def _same_driver(record: NetworkRecord, driver: str) -> None:
    if record.spec.driver != driver:
        raise Conflict(
            f"network {record.spec.name} exists with driver {record.spec.driver}, not {driver}"
        )


def _data(request: CreateNetwork) -> list[PoolData]:
    """The subnets; none where dockerd does not give out addresses."""
    return [d for d in request.ipv4 or () if d.pool and d.pool != ANY_POOL]


def _subnet(data: PoolData, pools: Sequence[PoolRow], chosen: set[str | None]) -> SubnetSpec:
    gateway = _without_length(data.gateway or "")
    return SubnetSpec(
        subnet=data.pool,
        ip_range=next((p.range for p in pools if p.cidr == data.pool), ""),
        # Where the pool chose it, the network does: not every kind of network has one.
        gateway="" if gateway in chosen else gateway,
        aux={name: _without_length(text) for name, text in (data.aux or {}).items()},
    )


def _without_length(text: str) -> str:
    if not text:
        return ""
    try:
        return str(ip_interface(text).ip)
    except ValueError:
        raise InvalidSpec(f"invalid address {text[:64]!r}") from None
