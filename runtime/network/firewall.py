"""Implement the API's firewall calls: access rules by container, drift, repair, summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from netkit.diagnose.explain import live, words
from netkit.diagnose.explain.answer import explain
from netkit.diagnose.explain.facts import Facts
from netkit.diagnose.explain.question import question
from netkit.errors import InvalidSpec, KernelError, NetkitError, NotFound, NotSupported
from netkit.model import Rule
from netkit.model.layout import FirewallLayout
from netkit.network.access import UNREADABLE, AccessRule, parse_port
from netkit.network.api import Networks, Policies
from netkit.reconcile.plan import Plan
from netkit.spec import EndpointRecord
from netkit.store import LeftOut
from runtime.container.model import Container
from runtime.container.ports import requested_ports
from runtime.events import Events
from runtime.network import findings, rule_visibility
from runtime.network.access_request import AccessRequest
from runtime.network.attached import in_order
from runtime.network.elsewhere import Elsewhere
from runtime.network.enforcement import Holding
from runtime.network.everyone import Containers, by_container
from runtime.network.firewall_overview import Overview
from runtime.network.known_networks import known_networks

NO_RULES = "netkit writes no rules (--iptables=false)"


class FirewallService:
    """Implements ports.Firewall."""

    def __init__(
        self,
        networks: Networks,
        store: Containers,
        events: Events,
        *,
        policies: Policies,
        backend: Callable[[], dict[str, Any]],
        namespace: Callable[[str], str],
        shown: Callable[[str], str],
        elsewhere: Callable[[], list[EndpointRecord]],
        host_of: Callable[[EndpointRecord], str] = lambda _: "",
        left_out: Callable[[], list[LeftOut]] = list,
        layouts: Sequence[FirewallLayout] = (),
        checks: Callable[[], list[str]] = list,
    ) -> None:
        """`shown`: why frames bridged by a link bypass the rules; "" if they do not.
        `elsewhere`: endpoints on other hosts, `host_of` one its host's name.
        `left_out`: rows that cannot be read.  `layouts`: of all firewall plugins.
        `checks`: more findings, about checks of frames.
        """
        self._networks = networks
        self._policies = policies
        self._store = store
        self._events = events
        self._backend = backend
        self._namespace = namespace
        self._holding = Holding(networks, shown)
        self._elsewhere = Elsewhere(networks, store, elsewhere, host_of)
        self._left_out = left_out
        self._layouts = layouts
        self._checks = checks

    # access rules

    def rules(self, ref: str = "") -> list[dict[str, Any]]:
        """All access rules, or those of one container, in the order of evaluation."""
        wanted = self._store.find(ref).id if ref else ""
        return [
            self._shown(rule)
            for rule in self._policies.access()
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
        warnings = [*self._holding.warnings(request, target, source)]
        if source is not None and request.container == source.name:
            warnings += self._elsewhere.namesakes(source.name)
        rule = self._policies.add_access_rule(
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
        self._emit("create", rule)
        return {**self._shown(rule), "Warnings": warnings}

    def _source(self, ref: str) -> tuple[Container | None, str]:
        """A container of this host, or the id of one of another host on a shared network."""
        try:
            return self._store.find(ref), ""
        except NotFound:
            found = self._elsewhere.find(ref)
            if not found:
                raise
            return None, found[0].sandbox

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
        """InvalidSpec if none of these ports is published, or can be at a later start."""
        specs = requested_ports(target.config, target.host_config).published
        if any(s.proto == proto and not s.host_first for s in specs):
            return  # an ephemeral host port: known only after the start
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
        """Is it on a network that publishes ports at the container's own address (no NAT)?"""
        policies = (self._networks.policy(n.id) for n in self._holding.joined(target))
        return any(p is not None and not p.translates for p in policies)

    def remove(self, ref: str) -> dict[str, Any]:
        rule = self._policies.remove_access_rule(ref)
        self._emit("destroy", rule)
        return self._shown(rule)

    def _emit(self, action: str, rule: AccessRule) -> None:
        what = {"name": self._name(rule.target), "verdict": rule.verdict, "type": "access"}
        self._events.emit("firewall", action, rule.id, what)

    def _shown(self, rule: AccessRule) -> dict[str, Any]:
        return {
            "Id": rule.id,
            "Verdict": rule.verdict,
            "Sources": list(rule.sources),
            "From": self._name(rule.source) if rule.source else "",
            "FromHost": self._host(rule.source) if rule.source else "",
            "To": self._name(rule.target),
            "Port": _port(rule),
            "Published": rule.published,
            "InForce": not (why := self._idle(rule)),
            "Status": why or self._held(rule),
        }

    def _idle(self, rule: AccessRule) -> str:
        """Why the rule has no effect now; "" if it has."""
        if rule.verdict == UNREADABLE:
            return "its row cannot be read: its rules in the kernel stay"
        if not self.enforced:
            return f"not in force: {NO_RULES}"
        if not all(self._runs(id) for id in (rule.target, rule.source) if id):
            return "waiting"
        known = [e for e in self._networks.endpoints(sandbox=rule.target) if e.address]
        if not any(self._networks.policy(e.network) is not None for e in known):
            return "not in force: the container is on no network with rules"
        if rule.published and not any(_published(rule, e) for e in known):
            return "not in force: the port is not published"
        return next((f"not in force {gap}" for gap in self._gaps(rule) if gap.whole), "")

    def _gaps(self, rule: AccessRule) -> list[rule_visibility.Gap]:
        return self._holding.of(rule) if self.enforced else []

    def _held(self, rule: AccessRule) -> str:
        return "; ".join(["in force", *(f"but not {gap}" for gap in self._gaps(rule))])

    def _runs(self, id: str) -> bool:
        c = self._store.get(id)
        return c.state.alive if c else any(r.sandbox == id for r in self._elsewhere.endpoints())

    def _name(self, id: str) -> str:
        c = self._store.get(id)
        names = () if c else (r.owner_name for r in self._elsewhere.endpoints() if r.sandbox == id)
        return c.name if c else next(iter(names), id[:12])

    def _host(self, id: str) -> str:
        """Name of the other host that has a container; "": this one, or it is not known."""
        if self._store.get(id) is not None:
            return ""
        found = (r for r in self._elsewhere.endpoints() if r.sandbox == id)
        return next(filter(None, map(self._elsewhere.host_of, found)), "")

    # summary

    def show(self, ref: str = "") -> dict[str, Any]:
        chosen = [self._store.find(ref)] if ref else [c for c in self._store.all() if c.state.alive]
        facts, unread = Facts(interfaces={}, routes=()), ""
        try:
            facts = self._facts()
        except KernelError as error:  # a tool is missing or fails: show the rest
            unread = str(error)
        overview = Overview(self._networks, self._store, facts, self._missing)
        return {
            **self._backend(),
            "Enforced": self.enforced,
            "Unread": unread,
            "Containers": [{**overview.of(c), "Rules": self.rules(c.id)} for c in reversed(chosen)],
        }

    def _missing(self) -> list[Rule]:
        with suppress(NetkitError):
            plan = self._policies.drift()
            return [op.after for op in plan if op.before is None and isinstance(op.after, Rule)]
        return []

    def _facts(self) -> Facts:
        return live.look(
            "",
            known_networks(self._networks),
            in_order(by_container(self._networks.endpoints()), self._networks.all()),
            self._namespace,
            self._policies.rule_origins(),
            self._layouts,
        )

    # drift and repair

    @property
    def enforced(self) -> bool:
        """Does netkit write rules at all?"""
        return bool(self._backend().get("Driver") != "none")

    def drift(self) -> list[str]:
        return bridge_filter_reason(self._policies.drift())

    def findings(self) -> list[str]:
        """Problems that `repair` cannot fix, each with advice."""
        names = {r.id: self._name(r.target) for r in self._policies.access()}
        out = findings.unreadable(self._networks, self._left_out(), names)
        out += [*self._not_held(), *self._checks(), *self._policies.unenforced()]
        return out + (findings.taken(self._networks, self._facts) if self.enforced else [])

    def _not_held(self) -> list[str]:
        return [
            f"access rule {rule.id} to {self._name(rule.target)} does not hold {gap}"
            for rule in self._policies.access()
            for gap in self._gaps(rule)
        ]

    def repair(self) -> list[str]:
        return bridge_filter_reason(self._policies.repair()[0])

    def explain(self, source: str, target: str, port: str) -> dict[str, Any]:
        """Explain by the current rules of the kernel why a packet arrives or not."""
        begin = self._elsewhere.source(source, target)
        asked = question(begin, self._elsewhere.target(target, source), port)
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


def bridge_filter_reason(plan: Plan) -> list[str]:
    """Steps as lines of a diff: + is added, - is deleted, ~ is moved."""
    return [str(op) for op in plan]
