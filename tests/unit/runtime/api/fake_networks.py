"""Networks of the fake engine: records and addresses, no packets."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from netkit.errors import AlreadyExists, Forbidden, NotFound
from netkit.network.address_use import SubnetUse
from netkit.spec import (
    EndpointRecord,
    EndpointSpec,
    NetworkRecord,
    NetworkSpec,
    PortMapping,
    SubnetSpec,
)
from netkit.timestamps import rfc3339
from runtime.api.json import networks as render_networks
from runtime.container.model import Container
from runtime.container.ports import requested_ports
from runtime.events import EventBus
from runtime.filters import Filters


class FakeNetworks:
    def __init__(self, events: EventBus) -> None:
        self._events = events
        self._all: dict[str, NetworkRecord] = {}
        self._endpoints: list[EndpointRecord] = []
        subnet = (SubnetSpec(subnet="172.17.0.0/16", gateway="172.17.0.1"),)
        for name, driver in (("bridge", "bridge"), ("host", "host"), ("none", "null")):
            spec = NetworkSpec(name=name, driver=driver, subnets=subnet if name == "bridge" else ())
            record = self._record(spec, builtin=True)
            self._all[record.id] = record

    def _record(self, spec: NetworkSpec, builtin: bool = False) -> NetworkRecord:
        id = os.urandom(32).hex()
        return NetworkRecord(id=id, spec=spec, created=rfc3339(), builtin=builtin)

    def create(self, spec: NetworkSpec) -> tuple[NetworkRecord, list[str]]:
        if any(n.spec.name == spec.name for n in self._all.values()):
            raise AlreadyExists(f"network with name {spec.name} already exists")
        if not spec.subnets:
            n = len(self._all) + 15
            spec = dataclasses.replace(
                spec, subnets=(SubnetSpec(subnet=f"172.{n}.0.0/16", gateway=f"172.{n}.0.1"),)
            )
        record = self._record(spec)
        self._all[record.id] = record
        self._events.emit("network", "create", record.id, {"name": spec.name, "type": spec.driver})
        return record, []

    def remove(self, ref: str) -> NetworkRecord:
        record = self.find(ref)
        if record.builtin:
            raise Forbidden(f"{record.spec.name} is a pre-defined network and cannot be removed")
        if users := self.endpoints(network=record.id):
            raise Forbidden(
                f"error while removing network: network {record.spec.name} has active endpoints "
                f'(name:"{users[0].owner_name}" id:"{users[0].id[:12]}")'
            )
        return self._all.pop(record.id)

    def find(self, ref: str) -> NetworkRecord:
        hits = [n for n in self._all.values() if ref in {n.id, n.spec.name}]
        hits = hits or [n for n in self._all.values() if n.id.startswith(ref)]
        if len(hits) != 1:
            raise NotFound(f"network {ref} not found")
        return hits[0]

    def all(self) -> list[NetworkRecord]:
        return list(self._all.values())

    def endpoints(
        self, *, network: str | None = None, sandbox: str | None = None
    ) -> list[EndpointRecord]:
        return [e for e in self._endpoints
                if network in {None, e.network} and sandbox in {None, e.sandbox}]  # fmt: skip

    def endpoints_of(self, sandboxes: Sequence[str]) -> list[EndpointRecord]:
        return [e for e in self._endpoints if e.sandbox in sandboxes]

    def occupied(self) -> set[str]:
        return {e.network for e in self._endpoints}

    def peers(self, record: NetworkRecord) -> list[dict[str, str]]:
        return []

    def address_use(self, record: NetworkRecord) -> list[SubnetUse]:
        subnet = ip_network("172.17.0.0/16")
        return [SubnetUse(record.id, subnet, size=65534, allocated=3, in_use=5)]

    def drift(self, refs: Sequence[str] = ()) -> dict[str, Any]:
        for ref in refs:
            self.find(ref)
        return {"Drift": [], "Findings": []}

    def plan(self, refs: Sequence[str] = ()) -> dict[str, Any]:
        for ref in refs:
            self.find(ref)
        return {"Steps": [], "Busy": False}

    def plan_creation(self, spec: NetworkSpec) -> dict[str, Any]:
        if any(n.spec.name == spec.name for n in self._all.values()):
            raise AlreadyExists(f"network with name {spec.name} already exists")
        return {"Network": spec.name, "Driver": spec.driver, "Subnets": [], "Steps": []}

    def plan_removal(self, ref: str) -> dict[str, Any]:
        return {"Network": self.find(ref).spec.name, "Driver": "bridge", "Steps": []}

    def prune(self, filters: Filters) -> tuple[list[str], list[str]]:
        used = {e.network for e in self._endpoints}
        removed = [n for n in self._all.values() if not n.builtin and n.id not in used]
        for n in removed:
            del self._all[n.id]
        return [n.spec.name for n in removed], []

    # for the containers

    def join(self, c: Container) -> None:
        for name, asked in c.networks.items():
            if name in {"none", "host"}:
                continue
            record = self.find(name)
            if self.endpoints(network=record.id, sandbox=c.id):
                continue
            net = ip_network(record.spec.subnets[0].subnet)
            n = len(self.endpoints(network=record.id)) + 2
            requested = asked.ipam_config.ipv4_address if asked.ipam_config else ""
            address = f"{requested or net.network_address + n}/{net.prefixlen}"
            specs = requested_ports(c.config, c.host_config).published
            self._endpoints.append(
                EndpointRecord(
                    id=os.urandom(32).hex(), network=record.id, sandbox=c.id, owner_name=c.name,
                    spec=EndpointSpec(network=record.id, names=(c.name, c.id[:12])),
                    address=address, mac="02:42:ac:11:00:02", ifname="eth0",
                    gateway=record.spec.subnets[0].gateway, is_default=name == "bridge",
                    ports=tuple(
                        PortMapping(proto=s.proto, container_port=s.container_port,
                                    host_ip=s.host_ip or "0.0.0.0",
                                    host_port=s.host_first or 49153 + i)
                        for i, s in enumerate(specs)
                    ),
                )
            )  # fmt: skip

    def leave(self, container: str, network: str | None = None) -> None:
        self._endpoints = [
            e for e in self._endpoints if e.sandbox != container or network not in {None, e.network}
        ]

    def settings(self, c: Container) -> dict[str, Any]:
        live = self.endpoints(sandbox=c.id)
        ids = {n.spec.name: n.id for n in self.all()}
        networks = render_networks.container_networks(c, live, ids)
        return {"SandboxID": c.id, "SandboxKey": "", "Ports": render_networks.ports(c, live),
                "Networks": networks, **networks.get("bridge", {})}  # fmt: skip
