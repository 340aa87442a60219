"""Drop rules that could not hold: no rule of the host sees what passes between some neighbours.

    routed by the host                     seen by every back end
    bridged by Linux, br_netfilter on      seen, too: bridges of ours that need it ask for it
    bridged by Linux, off                  an existing bridge (`lan -o bridge=`, `-b`), or no module
    switched by Open vSwitch               the driver's flows see to it

An accept is no question: what is not seen arrives anyway.  Nor is a drop by a published port,
which is the host's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from netkit.driver import Policy
from netkit.errors import NotSupported


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """One network of the container that a rule is about."""

    name: str
    subnets: tuple[IPv4Network, ...]
    policy: Policy
    shared: bool = False  # the source is a container that is on it as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Where a drop rule does not hold: at all (`whole`), or between containers of the network."""

    network: str
    why: str
    whole: bool

    def __str__(self) -> str:
        where = "on" if self.whole else "between containers of"
        return f"{where} {self.network}: {self.why}"


def warnings(
    sources: Iterable[IPv4Network], homes: Iterable[Home], shown: Callable[[str], str]
) -> list[str]:
    """What a drop rule will not do.  NotSupported if that is all it is for.

    `shown` says why frames bridged by a link of the host are not shown to its rules, and what
    to do; "" if they are.
    """
    out = []
    for gap in gaps(sources, homes, shown):
        if gap.whole:
            raise NotSupported(f"the rule would not hold on network {gap.network}: {gap.why}")
        out.append(f"the rule does not hold between containers of {gap.network}: {gap.why}")
    return out


def gaps(
    sources: Iterable[IPv4Network], homes: Iterable[Home], shown: Callable[[str], str]
) -> Iterator[Gap]:
    """Networks on which a drop rule holds for no packet that it is about, or not for all."""
    sources = list(sources)
    for home in homes:
        why = _why_not(home, shown)
        if not why:
            continue
        segment = home.policy.mode == "bridged"  # all that comes, comes over the bridge
        within = any(s.subnet_of(net) for s in sources for net in home.subnets)
        whole = home.shared or within or segment
        if whole or any(s.overlaps(net) for s in sources for net in home.subnets):
            yield Gap(network=home.name, why=why, whole=whole)


def _why_not(home: Home, shown: Callable[[str], str]) -> str:
    policy = home.policy
    if not policy.icc:  # neighbours are isolated on the bridge, and routed where they may meet
        return ""
    return shown(policy.link)
