"""Determine on which networks a drop rule has effect, by the current settings of links."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network, ip_network

from netkit.errors import KernelError, NotFound
from netkit.network.access import AccessRule, source_network
from netkit.network.api import Networks
from netkit.spec import NetworkRecord
from runtime.container.model import Container
from runtime.network import rule_visibility
from runtime.network.access_request import AccessRequest


class Holding:
    """`shown`: why frames bridged by a link bypass the rules; "" if they do not."""

    def __init__(self, networks: Networks, shown: Callable[[str], str]) -> None:
        self._networks = networks
        self._shown_by = shown

    def of(self, rule: AccessRule) -> list[rule_visibility.Gap]:
        """Networks on which a drop rule currently has no effect."""
        if rule.verdict != "drop" or rule.published:
            return []
        here = {e.network for e in self._networks.endpoints(sandbox=rule.target)}
        source = self._networks.endpoints(sandbox=rule.source) if rule.source else []
        theirs = {e.network for e in source}
        joined = [record for record in self._networks.all() if record.id in here]
        sources = [source_network(text) for text in rule.sources]
        with suppress(KernelError):  # no warning where the setting cannot be read
            return list(rule_visibility.gaps(sources, self._homes(joined, theirs), self._shown_by))
        return []

    def warnings(
        self, request: AccessRequest, target: Container, source: Container | None
    ) -> list[str]:
        """Warnings for a rule to be added.  NotSupported if it would have no effect at all."""
        if request.verdict != "drop" or request.published:
            return []
        sources = [source_network(text) for text in request.sources or ()]
        theirs = {r.id for r in self.joined(source)} if source else set()
        return rule_visibility.check_visible(
            sources, self._homes(self.joined(target), theirs), self._shown_by
        )

    def _homes(
        self, joined: Iterable[NetworkRecord], theirs: set[str]
    ) -> Iterator[rule_visibility.TargetNetwork]:
        """`theirs`: ids of networks of the source."""
        for record in joined:
            policy = self._networks.policy(record.id)
            if policy is None:
                continue
            nets = [ip_network(s.subnet) for s in record.spec.subnets if s.subnet]
            yield rule_visibility.TargetNetwork(
                name=record.spec.name,
                subnets=tuple(n for n in nets if isinstance(n, IPv4Network)),
                policy=policy,
                shared=record.id in theirs,
            )

    def joined(self, c: Container) -> Iterator[NetworkRecord]:
        """Networks of a container, running or not."""
        for word in c.networks:
            with suppress(NotFound):  # removed meanwhile: the container will not start
                yield self._networks.find(word)
