"""Which firewall this daemon has: the back end that was chosen, why, and what it lacks here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from netkit.driver import Firewall, NoFirewall
from netkit.errors import InvalidSpec, KernelError
from netkit.kernel import backends, bridgefilter, features, leftovers
from netkit.kernel.backends import Backend
from netkit.kernel.host import Host
from netkit.kernel.iptables import Variant
from netkit.kernel.strays import Territory

log = logging.getLogger("netkit.firewall")

CHAINS = ("DOCKER",)  # beginnings of the names of our iptables chains
ENDPOINT_CHAINS = tuple(f"DOCKER-{digit}" for digit in "0123456789abcdef")
TERRITORY = Territory(  # the layout is that of plugins.firewall.layout
    alone=frozenset(
        {
            ("filter", "DOCKER-ACCESS"),
            ("filter", "DOCKER-BRIDGE"),
            ("filter", "DOCKER-CT"),
            ("filter", "DOCKER-FORWARD"),
            ("filter", "DOCKER-INTERNAL"),
            ("nat", "DOCKER-LOCAL"),
        }
    ),
    open=frozenset(
        {
            ("filter", "FORWARD"),
            ("filter", "DOCKER"),
            ("nat", "DOCKER"),
            ("nat", "PREROUTING"),
            ("nat", "OUTPUT"),
            ("nat", "POSTROUTING"),
            ("raw", "PREROUTING"),
        }
    ),
    trees=ENDPOINT_CHAINS,
)


@dataclass(frozen=True, slots=True)
class Firewalling:
    """`backend` is None with --iptables=false: no rules at all, and ours of before are removed."""

    firewall: Firewall
    backend: Backend | None
    variant: Variant | None
    choice: backends.Choice | None = None
    features: features.Features | None = None
    warning: str = ""

    def info(self, host: Host) -> dict[str, Any]:
        """FirewallBackend of /info."""
        if self.choice is None or self.features is None:
            return {"Driver": "none", "Info": [["Chosen", "by --iptables=false"]]}
        committer = host.tools.committer if self.variant is not None else ""
        return dict(features.info(self.choice, self.features, committer))

    def tidy(self, prefix: str) -> None:
        """Remove what we left in other back ends; once the rules of this one are in force."""
        found = leftovers.find("", self.backend, prefix, CHAINS)
        if not found:
            return
        log.info("the firewall back end has changed, removing %s", "; ".join(map(str, found)))
        try:
            leftovers.remove("", found)
        except KernelError as error:
            log.error("could not remove rules of another back end, will try again: %s", error)


def chosen(wish: str, *, enabled: bool) -> Firewalling:
    """KernelError where the host lacks what no network can do without."""
    if not enabled:
        return Firewalling(NoFirewall(), None, None)
    warning = bridgefilter.ensure()
    if warning:
        log.warning("%s", warning)
    choice = backends.choose("", wish)
    found = features.probe(choice.backend)
    found.check()
    log.info("firewall back end %s: %s", choice.backend, choice.reason)
    name = "nftables" if choice.backend == "nftables" else "iptables"
    matches = ("multiport", "mac") if name == "iptables" else ()
    lacks = {match: False for match in matches if not found.works(match)}
    return Firewalling(
        _plugin(name, **lacks), choice.backend, choice.variant, choice, found, warning
    )


def _plugin(name: str, **lacks: bool) -> Firewall:
    for entry in entry_points(group="netkit.firewall", name=name):
        firewall: Firewall = entry.load()(**lacks)
        return firewall
    raise InvalidSpec(f"the firewall {name} is missing: is netkit installed properly?")
