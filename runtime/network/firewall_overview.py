"""Collect what the firewall does for one container, for `fw show`."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, ip_interface
from typing import Any

from netkit.diagnose.explain.facts import Facts
from netkit.model import Rule
from netkit.network.api import Networks
from netkit.network.published_ports import reached_at
from netkit.spec import EndpointRecord, NetworkRecord
from runtime.container.links import of as links_of
from runtime.container.model import Container
from runtime.network import foreign_rules, links
from runtime.network.everyone import Containers


class Overview:
    """An overview of one moment, given by the snapshot `facts`."""

    def __init__(
        self,
        networks: Networks,
        store: Containers,
        facts: Facts,
        missing: Callable[[], list[Rule]] = list,
    ) -> None:
        """`missing`: rules of netkit's that are not in the kernel, or lost their comments there."""
        self._networks = networks
        self._store = store
        self._facts = facts
        self._missing = missing
        self._meanings: set[foreign_rules.Meaning] | None = None
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
            "LinksTo": {alias: self._name(id) for alias, id in links_of(c).items()},
            "LinkedFrom": self._parents(c),
            "Exposed": [f"{port}/{proto}" for proto, port in links.exposed(c)],
            "Foreign": self._foreign(live),
        }  # fmt: skip

    def _foreign(self, endpoints: list[EndpointRecord]) -> list[dict[str, object]]:
        """Rules of other tools that may affect the container's packets."""
        homes = []
        for e in endpoints:
            policy = self._networks.policy(e.network)
            for address in (ip_interface(a).ip for a in e.addresses):
                if policy is not None and isinstance(address, IPv4Address):
                    homes.append(foreign_rules.Home(address, policy.link))
        published = {p.host_port for e in endpoints for p in e.ports if p.host_port}
        rules = self._facts.rules
        if not homes or not foreign_rules.concerning(rules, homes, published):
            return []
        return foreign_rules.concerning(rules, homes, published, self._lost())

    def _lost(self) -> set[foreign_rules.Meaning]:
        """Normal forms of rules of netkit's that may have lost their comments."""
        if self._meanings is None:
            self._meanings = {
                m for r in self._missing() for m in foreign_rules.written(r.table, r.chain, r.args)
            }
        return self._meanings

    def _network(self, e: EndpointRecord, record: NetworkRecord) -> dict[str, Any]:
        """`Strangers`: ports of its bridge that are not of netkit's containers; rules apply to
        their traffic if bridged frames are `Filtered`.  `Overlay`: they lead to other hosts."""
        policy = self._networks.policy(record.id)
        link = policy.link if policy else ""
        seen = self._facts.interfaces.get(link)
        return {
            "Name": record.spec.name,
            "Driver": record.spec.driver,
            "Address": str(reached_at(e)) if e.address else "",
            "Addresses": [a.partition("/")[0] for a in e.addresses],
            "Internal": record.spec.internal,
            "Icc": policy is None or policy.icc,
            "Mode": policy.mode if policy and policy.mode != "internal" else "nat",
            "Link": link,
            "Strangers": self._facts.strangers(link),
            "Overlay": self._networks.overlay(record.id) is not None,
            "Filtered": bool(seen and seen.filtered),
            "Trusted": list(policy.trusted) if policy and policy.translates else [],
        }

    def _parents(self, c: Container) -> list[str]:
        return sorted(p.name for p in self._store.all() if c.id in links_of(p).values())

    def _name(self, id: str) -> str:
        c = self._store.get(id)
        return c.name if c else id[:12]
