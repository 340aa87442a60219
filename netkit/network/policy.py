"""Resolve the access rules in force for an endpoint: names become addresses.

    rule of the user's        CIDR, or all addresses of the source container, -> target container;
                              it may be another host's, on a network that this one knows of
    link (docker run --link)  the parent's address on a network -> the child's exposed ports there

Where neighbours are kept apart, one that is let through is known by its MAC address as well: an
IP address can be spoofed, a MAC address on such a network cannot.

What was last rendered for each endpoint is remembered, so that exactly that can be deleted; and
so that a rule stays in force while its row, or the row of its source, cannot be read.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import IPv4Network, ip_interface, ip_network
from typing import cast

from netkit.driver import Access, TrafficPolicy
from netkit.errors import Conflict
from netkit.model import IPNetwork
from netkit.network.access import UNREADABLE, AccessRule, AccessRuleStore
from netkit.network.endpoint_store import EndpointStore
from netkit.network.entry import NetworkEntry
from netkit.spec import EndpointRecord

MANY = 16  # endpoints whose rules are looked for one by one
InForce = Mapping[str, tuple[Access, ...]]  # by endpoint id
RulesOn = Callable[[str], list[AccessRule]]  # those stored on a sandbox, in order


class PolicyResolver:
    """Thread-safe.  `elsewhere`: endpoints of containers of other hosts; `complete`: whether those
    are all.
    """

    def __init__(
        self,
        records: EndpointStore,
        rules: AccessRuleStore,
        elsewhere: Callable[[], Iterable[EndpointRecord]],
        complete: Callable[[], bool] = lambda: True,
    ) -> None:
        self._records = records
        self._rules = rules
        self._elsewhere = elsewhere
        self._complete = complete
        self._lock = threading.Lock()
        self._noted: dict[str, tuple[Access, ...]] = {}

    # what should be

    def at_once(self) -> RulesOn:
        """`rules` for who resolves for many."""
        return self._rules.on()

    def resolve(
        self,
        joined: Iterable[tuple[NetworkEntry, EndpointRecord]],
        rules: RulesOn | None = None,
    ) -> InForce:
        on = rules or (lambda id: self._rules.stored(target=id))
        return {record.id: self._wanted(entry, record, on) for entry, record in joined}

    def _wanted(
        self, entry: NetworkEntry, record: EndpointRecord, on: RulesOn
    ) -> tuple[Access, ...]:
        if entry.policy is None or not record.address:
            return ()
        return (*self._user_rules(entry.policy, record, on), *self._links(entry, record))

    def _user_rules(
        self, policy: TrafficPolicy, record: EndpointRecord, on: RulesOn
    ) -> Iterable[Access]:
        for rule in self._rules_on(record, on):
            if rule.verdict == UNREADABLE or self._partly_known(rule.source):
                with self._lock:
                    noted = self._noted.get(record.id, ())
                yield from (known := [a for a in noted if a.id == rule.id and not a.link])
                if known or rule.verdict == UNREADABLE:
                    continue
            for mac, sources in self._sources(policy, record, rule):
                yield Access(
                    id=rule.id,
                    verdict="accept" if rule.verdict == "accept" else "drop",
                    sources=sources,
                    mac=mac,
                    priority=rule.seq,
                    proto=rule.proto,
                    first=rule.first,
                    last=rule.last,
                    published=rule.published,
                )

    @staticmethod
    def _rules_on(record: EndpointRecord, on: RulesOn) -> list[AccessRule]:
        """Rules on its sandbox, or on the container that another engine runs in it."""
        found = on(record.sandbox)
        if not record.container:
            return found
        return sorted([*found, *on(record.container)], key=lambda rule: rule.seq)

    def _partly_known(self, source: str) -> bool:
        """Whether there are rows about a source that cannot be read."""
        if not source:
            return False
        rows = self._records.count(source) or len(self._records.of_container(source))
        if not rows:
            return not self._complete()
        known = self._records.of_sandbox(sandbox=source) or self._records.of_container(source)
        return len(known) < rows

    def unclear(self, damaged: Collection[str], here: Collection[str]) -> set[str]:
        """Return targets of rules that cannot be read, or whose sources are not all known.

        `damaged`: sandboxes with endpoints whose rows cannot be read; `here`: all with endpoints.
        """
        complete = self._complete()
        return {
            rule.target
            for rule in self._rules.stored()
            if rule.verdict == UNREADABLE
            or rule.source in damaged
            or (rule.source and rule.source not in here and not complete)
        }

    def must_be_readable(self, sandbox: str, name: str) -> None:
        """Raise Conflict while a rule about it cannot be read, since it may have to block."""
        for rule in self._rules.stored(target=sandbox):
            if rule.verdict == UNREADABLE:
                raise Conflict(
                    f"container {name} cannot be started: access rule {rule.id} about it cannot be "
                    f"read: remove it with `netkit fw rm {rule.id}`, and add it anew"
                )

    def _sources(
        self, policy: TrafficPolicy, target: EndpointRecord, rule: AccessRule
    ) -> Iterable[tuple[str, tuple[IPNetwork, ...]]]:
        """Sources by MAC address, "" for what has none; nothing if no source has an address."""
        found = {"": [ip_network(text) for text in rule.sources]}
        for r in self._endpoints(rule.source):
            near = rule.verdict == "accept" and not policy.icc and r.network == target.network
            if addresses := _hosts(r):
                found.setdefault(r.mac if near else "", []).extend(addresses)
        return [(mac, tuple(sorted(sources))) for mac, sources in found.items() if sources]

    def _endpoints(self, sandbox: str) -> list[EndpointRecord]:
        """Of a container of this host or another; none of none."""
        if not sandbox:
            return []
        others = [r for r in self._elsewhere() if r.sandbox == sandbox]
        own = self._records.of_sandbox(sandbox=sandbox, ready=True)
        return [*(own or self._records.of_container(sandbox)), *others]

    def _links(self, entry: NetworkEntry, child: EndpointRecord) -> Iterable[Access]:
        if entry.policy is None or entry.policy.icc:
            return
        for parent in self._records.of_sandbox(
            network=child.network, opening=child.sandbox, ready=True
        ):
            sources = _hosts(parent)
            if not sources:
                continue
            for opened in parent.spec.opens:
                if opened.sandbox != child.sandbox:
                    continue
                for proto, port in opened.ports:
                    yield Access(
                        id=_link_id(parent.sandbox, child.sandbox, proto, port),
                        verdict="accept",
                        sources=sources,
                        proto=proto,
                        first=port,
                        last=port,
                        link=True,
                        mac=parent.mac,
                    )

    def affected_sandboxes(self, records: Iterable[EndpointRecord]) -> set[str]:
        """Return sandboxes whose rules name these endpoints' sandboxes as a source; of containers
        of other engines, the engine's ids."""
        out: set[str] = set()
        records = list(records)
        if len(records) > MANY:  # of a large overlay: most are in no rule
            sources = {rule.source for rule in self._rules.of_sandbox()}
            records = [
                r for r in records
                if r.sandbox in sources or r.container in sources or r.spec.opens
            ]  # fmt: skip
        for record in records:
            for id in filter(None, (record.sandbox, record.container)):
                out |= {rule.target for rule in self._rules.of_sandbox(source=id)}
            out |= {opened.sandbox for opened in record.spec.opens}
        return out

    # what is

    def applied(self, records: Iterable[EndpointRecord]) -> InForce:
        with self._lock:
            return {r.id: self._noted.get(r.id, ()) for r in records}

    def set_applied(self, rendered: InForce) -> None:
        with self._lock:
            self._noted |= rendered

    def forget(self, records: Iterable[EndpointRecord]) -> None:
        with self._lock:
            for r in records:
                self._noted.pop(r.id, None)


def _hosts(record: EndpointRecord) -> tuple[IPv4Network, ...]:
    """All addresses of an endpoint, each by itself."""
    return tuple(cast(IPv4Network, ip_network(ip_interface(a).ip)) for a in record.addresses)


def _link_id(*words: object) -> str:
    return hashlib.sha256("\0".join(map(str, words)).encode()).hexdigest()[:12]
