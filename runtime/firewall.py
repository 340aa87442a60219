"""Who may reach whom, for the front ends: access rules by name, drift and repair, a summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network, ip_network
from typing import Any

import msgspec

from netkit.access import AccessRule, parse_port, source_network
from netkit.errors import InvalidSpec, NotFound
from netkit.explain import live, words
from netkit.explain.answer import explain
from netkit.explain.question import question
from netkit.plan import Plan
from netkit.service import NetworkService
from netkit.spec import EndpointRecord, NetworkRecord
from runtime import unseen
from runtime.containers import linking
from runtime.containers.model import Container
from runtime.containers.store import ContainerStore
from runtime.ports.engine import Events
from runtime.ports.networks import AccessRequest

ICC = "com.docker.network.bridge.enable_icc"
MODE = "com.docker.network.bridge.gateway_mode_ipv4"


class EngineFirewall:
    """Implements ports.Firewall."""

    def __init__(
        self,
        networks: NetworkService,
        store: ContainerStore,
        events: Events,
        *,
        backend: Callable[[], dict[str, Any]],
        namespace: Callable[[str], str],
        shown: Callable[[str], str],
        elsewhere: Callable[[], list[EndpointRecord]],
    ) -> None:
        """`shown`: why rules do not see what a link of the host bridges; "" if they do.
        `elsewhere`: endpoints of containers of other hosts.
        """
        self._networks = networks
        self._store = store
        self._events = events
        self._backend = backend
        self._namespace = namespace
        self._shown_by = shown
        self._elsewhere = elsewhere

    # access rules

    def rules(self, ref: str = "") -> list[dict[str, Any]]:
        """All, or those about one container; in the order in which they are looked at."""
        wanted = self._store.find(ref).id if ref else ""
        return [
            self._shown(rule)
            for rule in self._networks.access()
            if not wanted or wanted in {rule.target, rule.source}
        ]

    def add(self, request: AccessRequest) -> dict[str, Any]:
        target = self._store.find(request.to)
        self._check_network(target)
        source, distant = self._source(request.container) if request.container else (None, "")
        proto, first, last = parse_port(request.port) if request.port else ("", 0, 0)
        warnings = self._unseen(request, target, source)
        rule = self._networks.allow(
            AccessRule(
                verdict=request.verdict,
                target=target.id,
                sources=tuple(request.sources or ()),
                source=source.id if source else distant,
                proto=proto,
                first=first,
                last=last,
                published=request.published,
            ),
            first=request.first,
        )
        self._tell("create", rule)
        return {**self._shown(rule), "Warnings": warnings}

    def _source(self, ref: str) -> tuple[Container | None, str]:
        """A container of this host, or the id of one that another host has on a network of both."""
        try:
            return self._store.find(ref), ""
        except NotFound:
            known = {r.sandbox: r.owner_name for r in self._elsewhere()}
            found = {id for id, name in known.items() if name == ref}
            found = found or {id for id in known if id.startswith(ref)}
            if len(found) > 1:
                raise InvalidSpec(
                    f"several containers of other hosts are called {ref}: give the id of one"
                ) from None
            if not found:
                raise
            return None, found.pop()

    def _unseen(
        self, request: AccessRequest, target: Container, source: Container | None
    ) -> list[str]:
        if request.verdict != "drop" or request.published:
            return []
        sources = [source_network(text) for text in request.sources or ()]
        return unseen.warnings(sources, self._homes(target, source), self._shown_by)

    def _homes(self, target: Container, source: Container | None) -> Iterator[unseen.Home]:
        theirs = {r.id for r in self._joined(source)} if source else set()
        for record in self._joined(target):
            policy = self._networks.policy(record.id)
            if policy is None:
                continue
            nets = [ip_network(s.subnet) for s in record.spec.subnets if s.subnet]
            yield unseen.Home(
                name=record.spec.name,
                subnets=tuple(n for n in nets if isinstance(n, IPv4Network)),
                policy=policy,
                shared=record.id in theirs,
            )

    def _joined(self, c: Container) -> Iterator[NetworkRecord]:
        """Networks of a container, running or not."""
        for word in c.networks:
            with suppress(NotFound):  # removed meanwhile: the container will not start
                yield self._networks.find(word)

    def _check_network(self, target: Container) -> None:
        if target.host_config.network_mode == "host":
            raise InvalidSpec(
                f"container {target.name} is on the host's network: use the host's own firewall"
            )
        if target.host_config.network_of is not None:
            raise InvalidSpec(
                f"container {target.name} shares the network of another: make the rule for that one"
            )

    def remove(self, ref: str) -> dict[str, Any]:
        rule = self._networks.disallow(ref)
        self._tell("destroy", rule)
        return self._shown(rule)

    def _tell(self, action: str, rule: AccessRule) -> None:
        what = {"name": self._name(rule.target), "verdict": rule.verdict, "type": "access"}
        self._events.emit("firewall", action, rule.id, what)

    def _shown(self, rule: AccessRule) -> dict[str, Any]:
        return {
            "Id": rule.id,
            "Verdict": rule.verdict,
            "Sources": list(rule.sources),
            "From": self._name(rule.source) if rule.source else "",
            "To": self._name(rule.target),
            "Port": _port(rule),
            "Published": rule.published,
            "InForce": self._in_force(rule),
        }

    def _in_force(self, rule: AccessRule) -> bool:
        """Both containers run: there are packets to look at."""
        return all(self._runs(id) for id in (rule.target, rule.source) if id)

    def _runs(self, id: str) -> bool:
        c = self._store.get(id)
        return c.state.alive if c else any(r.sandbox == id for r in self._elsewhere())

    def _name(self, id: str) -> str:
        c = self._store.get(id)
        names = () if c else (r.owner_name for r in self._elsewhere() if r.sandbox == id)
        return c.name if c else next(iter(names), id[:12])

    # against other tools

    def drift(self) -> list[str]:
        return shown(self._networks.drift())

    def repair(self) -> list[str]:
        return shown(self._networks.repair()[0])

    def explain(self, source: str, target: str, port: str) -> dict[str, Any]:
        """Why a packet arrives or not, by the rules that are live at this moment."""
        asked = question(source, target, port)
        facts = live.look(
            "",
            self._networks.all(),
            self._networks.endpoints(),
            self._namespace,
            self._networks.origins(),
        )
        found = explain(asked, facts)
        return {"Text": words.text(found), "Explanation": msgspec.to_builtins(found)}

    # in people's terms

    def show(self, ref: str = "") -> dict[str, Any]:
        chosen = [self._store.find(ref)] if ref else [c for c in self._store.all() if c.state.alive]
        networks = {n.id: n for n in self._networks.all()}
        return {
            **self._backend(),
            "Containers": [self._container(c, networks) for c in reversed(chosen)],
        }

    def _container(self, c: Container, networks: dict[str, NetworkRecord]) -> dict[str, Any]:
        live = self._networks.endpoints(sandbox=c.id)
        return {
            "Name": c.name,
            "Running": c.state.alive,
            "Mode": c.host_config.network_mode,
            "Networks": [_network(e, networks[e.network]) for e in live if e.network in networks],
            "Published": [
                {"HostIp": p.host_ip, "HostPort": p.host_port, "Port": p.container_port,
                 "Proto": p.proto}
                for e in live for p in e.ports
            ],
            "LinksTo": {alias: self._name(id) for alias, id in linking.of(c).items()},
            "LinkedFrom": self._parents(c),
            "Exposed": [f"{port}/{proto}" for proto, port in linking.exposed(c)],
            "Rules": self.rules(c.id),
        }  # fmt: skip

    def _parents(self, c: Container) -> list[str]:
        return sorted(p.name for p in self._store.all() if c.id in linking.of(p).values())


def _network(e: EndpointRecord, record: NetworkRecord) -> dict[str, Any]:
    options = record.spec.options
    return {
        "Name": record.spec.name,
        "Driver": record.spec.driver,
        "Address": e.address.partition("/")[0],
        "Internal": record.spec.internal,
        "Icc": options.get(ICC, "true").lower() not in {"false", "0", "f"},
        "Mode": options.get(MODE) or "nat",
    }


def _port(rule: AccessRule) -> str:
    if not rule.proto:
        return ""
    span = f"{rule.first}" if rule.first == rule.last else f"{rule.first}-{rule.last}"
    return f"{span}/{rule.proto}" if rule.first else rule.proto


def shown(plan: Plan) -> list[str]:
    """Steps as a diff: what is missing and comes back is +, what is too much is -, ~ is moved."""
    return [str(op) for op in plan]
