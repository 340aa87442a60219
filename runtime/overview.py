"""What the firewall of this host means for one container: facts that `fw show` puts in words."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_interface
from typing import Any

from netkit.explain.facts import Facts
from netkit.service import NetworkService
from netkit.spec import EndpointRecord, NetworkRecord
from runtime import foreignrules
from runtime.containers import linking
from runtime.containers.model import Container
from runtime.containers.store import ContainerStore

ICC = "com.docker.network.bridge.enable_icc"
MODE = "com.docker.network.bridge.gateway_mode_ipv4"


class Overview:
    """Of one moment, at which the host was as `facts` say."""

    def __init__(self, networks: NetworkService, store: ContainerStore, facts: Facts) -> None:
        self._networks = networks
        self._store = store
        self._facts = facts
        self._known = {n.id: n for n in networks.all()}

    def of(self, c: Container) -> dict[str, Any]:
        endpoints = self._networks.endpoints(sandbox=c.id)
        live = [e for e in endpoints if e.network in self._known]
        return {
            "Name": c.name,
            "Running": c.state.alive,
            "Mode": c.host_config.network_mode,
            "Networks": [self._network(e, self._known[e.network]) for e in live],
            "Published": [
                {"HostIp": p.host_ip, "HostPort": p.host_port, "Port": p.container_port,
                 "Proto": p.proto}
                for e in live for p in e.ports
            ],
            "LinksTo": {alias: self._name(id) for alias, id in linking.of(c).items()},
            "LinkedFrom": self._parents(c),
            "Exposed": [f"{port}/{proto}" for proto, port in linking.exposed(c)],
            "Foreign": self._foreign(live),
        }  # fmt: skip

    def _foreign(self, endpoints: list[EndpointRecord]) -> list[dict[str, object]]:
        """Rules of other tools that may decide about the container's packets."""
        homes = []
        for e in endpoints:
            policy = self._networks.policy(e.network)
            address = ip_interface(e.address).ip if e.address else None
            if policy is not None and isinstance(address, IPv4Address):
                homes.append(foreignrules.Home(address, policy.link))
        published = {p.host_port for e in endpoints for p in e.ports if p.host_port}
        return foreignrules.concerning(self._facts.rules, homes, published) if homes else []

    def _network(self, e: EndpointRecord, record: NetworkRecord) -> dict[str, Any]:
        """`Strangers`: ports of its bridge behind which are no containers of ours; to whom
        rules are applied if what is bridged is `Filtered`."""
        options, policy = record.spec.options, self._networks.policy(record.id)
        link = policy.link if policy else ""
        bridged = bool(policy and policy.mode == "bridged")
        seen = self._facts.interfaces.get(link)
        return {
            "Name": record.spec.name,
            "Driver": record.spec.driver,
            "Address": e.address.partition("/")[0],
            "Internal": record.spec.internal,
            "Icc": options.get(ICC, "true").lower() not in {"false", "0", "f"},
            "Mode": "bridged" if bridged else options.get(MODE) or "nat",
            "Link": link,
            "Strangers": self._facts.strangers(link),
            "Filtered": bool(seen and seen.filtered),
            "Trusted": list(policy.trusted) if policy and policy.translates else [],
        }

    def _parents(self, c: Container) -> list[str]:
        return sorted(p.name for p in self._store.all() if c.id in linking.of(p).values())

    def _name(self, id: str) -> str:
        c = self._store.get(id)
        return c.name if c else id[:12]
