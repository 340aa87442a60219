"""Detect drop rules without effect: some traffic between neighbours bypasses netfilter.

    routed by the host                     filtered by every back end
    bridged by Linux, br_netfilter on      filtered: netkit turns it on for bridges that need it
    bridged by Linux, off                  not: an existing bridge (`lan -o bridge=`, `-b`), or no
                                           br_netfilter module
    switched by Open vSwitch               filtered by the driver's flows

Accept rules are not affected: unfiltered packets arrive anyway.  Nor are drop rules on published
ports: such packets are routed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from netkit.driver import TrafficPolicy
from netkit.errors import NotSupported


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetNetwork:
    """One network of the container that a rule applies to."""

    name: str
    subnets: tuple[IPv4Network, ...]
    policy: TrafficPolicy
    shared: bool = False  # the source container is connected to it, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A network on which a drop rule has no effect: at all (`whole`), or between containers."""

    network: str
    why: str
    whole: bool

    def __str__(self) -> str:
        where = "on" if self.whole else "between containers of"
        return f"{where} {self.network}: {self.why}"


def check_visible(
    sources: Iterable[IPv4Network], homes: Iterable[TargetNetwork], shown: Callable[[str], str]
) -> list[str]:
    """Warnings on a drop rule's gaps.  NotSupported if it would have no effect at all.

    `shown` returns why frames bridged by a link of the host bypass its rules, with advice; "" if
    they do not.
    """
    out = []
    for gap in gaps(sources, homes, shown):
        if gap.whole:
            raise NotSupported(f"the rule would not hold on network {gap.network}: {gap.why}")
        out.append(f"the rule does not hold between containers of {gap.network}: {gap.why}")
    return out


def gaps(
    sources: Iterable[IPv4Network], homes: Iterable[TargetNetwork], shown: Callable[[str], str]
) -> Iterator[Gap]:
    """Yield the networks on which a drop rule does not filter all packets it should."""
    sources = list(sources)
    for home in homes:
        why = _why_not(home, shown)
        if not why:
            continue
        segment = home.policy.mode == "bridged"  # all packets arrive over the bridge
        within = any(s.subnet_of(net) for s in sources for net in home.subnets)
        whole = home.shared or within or segment
        if whole or any(s.overlaps(net) for s in sources for net in home.subnets):
            yield Gap(network=home.name, why=why, whole=whole)


def _why_not(home: TargetNetwork, shown: Callable[[str], str]) -> str:
    policy = home.policy
    if not policy.icc:  # ports are isolated on the bridge; permitted traffic is routed
        return ""
    return shown(policy.link)
