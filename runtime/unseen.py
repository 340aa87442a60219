"""Drop rules that could not hold: no rule of the host sees what passes between some neighbours.

    routed by the host                     seen by every back end
    bridged by Linux, br_netfilter on      seen, too: bridges of ours that need it ask for it
    bridged by Linux, off                  an existing bridge (`lan -o bridge=`, `-b`), or no module
    switched by Open vSwitch               the driver's flows see to it

An accept is no question: what is not seen arrives anyway.  Nor is a drop by a published port,
which is the host's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def warnings(
    sources: Iterable[IPv4Network], homes: Iterable[Home], shown: Callable[[str], str]
) -> list[str]:
    """What a drop rule will not do.  NotSupported if that is all it is for.

    `shown` says why frames bridged by a link of the host are not shown to its rules, and what
    to do; "" if they are.
    """
    sources, out = list(sources), []
    for home in homes:
        why = _why_not(home, shown)
        if not why:
            continue
        segment = home.policy.mode == "bridged"  # all that comes, comes over the bridge
        within = any(s.subnet_of(net) for s in sources for net in home.subnets)
        if home.shared or within or segment:
            raise NotSupported(f"the rule would not hold on network {home.name}: {why}")
        if any(s.overlaps(net) for s in sources for net in home.subnets):
            out.append(f"the rule does not hold between containers of {home.name}: {why}")
    return out


def _why_not(home: Home, shown: Callable[[str], str]) -> str:
    policy = home.policy
    if not policy.icc:  # neighbours are isolated on the bridge, and routed where they may meet
        return ""
    return shown(policy.link)
