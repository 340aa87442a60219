"""Who may reach whom, for the front ends: access rules by name, drift and repair, a summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network, ip_network
from typing import Any

import msgspec

from netkit.access import AccessRule, parse_port, source_network
from netkit.errors import InvalidSpec, KernelError, NotFound, NotSupported
from netkit.explain import live, words
from netkit.explain.answer import explain
from netkit.explain.facts import Facts
from netkit.explain.question import question
from netkit.plan import Plan
from netkit.service import NetworkService
from netkit.spec import EndpointRecord, NetworkRecord
from runtime import unseen
from runtime.containers.model import Container
from runtime.containers.portspec import parse_bindings
from runtime.containers.store import ContainerStore
from runtime.overview import Overview
from runtime.ports.engine import Events
from runtime.ports.networks import AccessRequest

NO_RULES = "netkit writes no rules (--iptables=false)"


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
        if not self.enforced:
            raise NotSupported(f"the rule would not hold: {NO_RULES}")
        source, distant = self._source(request.container) if request.container else (None, "")
        proto, first, last = parse_port(request.port) if request.port else ("", 0, 0)
        if request.published:
            self._check_published(target, proto, first, last)
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

    def _check_published(self, target: Container, proto: str, first: int, last: int) -> None:
        """InvalidSpec if no port of these is published, nor can be."""
        host = target.host_config
        exposed = list(target.config.exposed_ports or {})
        specs = parse_bindings(host.port_bindings, exposed, host.publish_all_ports)
        if any(s.proto == proto and not s.host_first for s in specs):
            return  # the host's port is chosen at each start
        spans = [(s.host_first, s.host_last) for s in specs if s.proto == proto]
        spans += [(s.container_port, s.container_port) for s in specs
                  if s.proto == proto and self._routed(target)]  # fmt: skip
        if any(low <= last and first <= high for low, high in spans):
            return
        known = ", ".join(f"{s.host_first}/{s.proto}" for s in specs) or "none"
        raise InvalidSpec(
            f"container {target.name} does not publish port {first}/{proto} of the host "
            f"(it publishes {known}): use --port for a port of the container"
        )

    def _routed(self, target: Container) -> bool:
        """Is it on a network whose ports are published at the container's own address?"""
        policies = (self._networks.policy(n.id) for n in self._joined(target))
        return any(p is not None and not p.translates for p in policies)

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
            "InForce": not (why := self._idle(rule)),
            "Status": why or "in force",
        }

    def _idle(self, rule: AccessRule) -> str:
        """Why the rule decides about no packet now; "" if it does."""
        if not self.enforced:
            return f"not in force: {NO_RULES}"
        if not all(self._runs(id) for id in (rule.target, rule.source) if id):
            return "waiting"
        known = [e for e in self._networks.endpoints(sandbox=rule.target) if e.address]
        if not any(self._networks.policy(e.network) is not None for e in known):
            return "not in force: the container is on no network with rules"
        if rule.published and not any(_published(rule, e) for e in known):
            return "not in force: the port is not published"
        return ""

    def _runs(self, id: str) -> bool:
        c = self._store.get(id)
        return c.state.alive if c else any(r.sandbox == id for r in self._elsewhere())

    def _name(self, id: str) -> str:
        c = self._store.get(id)
        names = () if c else (r.owner_name for r in self._elsewhere() if r.sandbox == id)
        return c.name if c else next(iter(names), id[:12])

    # as a summary

    def show(self, ref: str = "") -> dict[str, Any]:
        chosen = [self._store.find(ref)] if ref else [c for c in self._store.all() if c.state.alive]
        facts, unread = Facts(interfaces={}, routes=()), ""
        try:
            facts = self._facts()
        except KernelError as error:  # a tool is missing, or fails
            unread = str(error)
        overview = Overview(self._networks, self._store, facts)
        return {
            **self._backend(),
            "Enforced": self.enforced,
            "Unread": unread,
            "Containers": [
                {**overview.of(c), "Rules": self.rules(c.id)} for c in reversed(chosen)
            ],
        }

    def _facts(self) -> Facts:
        return live.look(
            "",
            self._networks.all(),
            self._networks.endpoints(),
            self._namespace,
            self._networks.origins(),
        )

    # against other tools

    @property
    def enforced(self) -> bool:
        """Does netkit write rules at all?"""
        return bool(self._backend().get("Driver") != "none")

    def drift(self) -> list[str]:
        return shown(self._networks.drift())

    def repair(self) -> list[str]:
        return shown(self._networks.repair()[0])

    def explain(self, source: str, target: str, port: str) -> dict[str, Any]:
        """Why a packet arrives or not, by the rules that are live at this moment."""
        asked = question(source, target, port)
        found = explain(asked, self._facts())
        return {"Text": words.text(found), "Explanation": msgspec.to_builtins(found)}


def _published(rule: AccessRule, e: EndpointRecord) -> bool:
    return any(
        rule.first <= (p.host_port or p.container_port) <= rule.last
        for p in e.ports
        if p.proto == rule.proto
    )


def _port(rule: AccessRule) -> str:
    if not rule.proto:
        return ""
    span = f"{rule.first}" if rule.first == rule.last else f"{rule.first}-{rule.last}"
    return f"{span}/{rule.proto}" if rule.first else rule.proto


def shown(plan: Plan) -> list[str]:
    """Steps as a diff: what is missing and comes back is +, what is too much is -, ~ is moved."""
    return [str(op) for op in plan]
