"""What a firewall is: see netkit.driver."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

from netkit.driver.values import Access, Endpoint, Network, PortMapping, TrafficPolicy
from netkit.model import Resource
from netkit.model.layout import FirewallLayout


class Firewall(Protocol):
    """Render policies as rules.  All methods are pure."""

    layout: ClassVar[FirewallLayout]  # its chains and sets, for code that reads them back

    def owns_chain(self, name: str) -> str | None:
        """Return the id prefix of the endpoint that this iptables chain is for, if any."""
        ...

    def setup(self, owner: str) -> Iterable[Resource]:
        """Resources needed before any network: chains and the jumps to them."""
        ...

    def network(self, net: Network, policy: TrafficPolicy) -> Iterable[Resource]: ...

    def endpoint(
        self,
        net: Network,
        policy: TrafficPolicy,
        ep: Endpoint,
        ports: Sequence[PortMapping],
        access: Sequence[Access] = (),
    ) -> Iterable[Resource]: ...


class NoFirewall:
    """`--iptables=false`: no rules at all, hence no published ports from outside either."""

    layout: ClassVar[FirewallLayout] = FirewallLayout()

    def owns_chain(self, name: str) -> str | None:
        return None

    def setup(self, owner: str) -> Iterable[Resource]:
        return ()

    def network(self, net: Network, policy: TrafficPolicy) -> Iterable[Resource]:
        return ()

    def endpoint(
        self,
        net: Network,
        policy: TrafficPolicy,
        ep: Endpoint,
        ports: Sequence[PortMapping],
        access: Sequence[Access] = (),
    ) -> Iterable[Resource]:
        return ()
