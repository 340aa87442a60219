"""Choose the firewall back end of this daemon, and probe the features it has on this host."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from netkit.driver import Firewall, NoFirewall
from netkit.errors import InvalidSpec, KernelError
from netkit.kernel.firewall import detect_backend, other_backends
from netkit.kernel.firewall import probe_features as features
from netkit.kernel.firewall.detect_backend import Backend
from netkit.kernel.host import Host
from netkit.kernel.iptables import br_netfilter
from netkit.kernel.iptables.tools import Variant
from netkit.model.layout import FirewallLayout

log = logging.getLogger("netkit.firewall")


@dataclass(frozen=True, slots=True)
class FirewallBackend:
    """The chosen firewall; `backend` is None with --iptables=false, when rules are removed."""

    firewall: Firewall
    backend: Backend | None
    variant: Variant | None
    choice: detect_backend.Choice | None = None
    features: features.Features | None = None
    warning: str = ""

    @property
    def direct(self) -> bool:
        """Whether rules can be written without iptables' tool, as it would write them."""
        return self.features is not None and self.features.works("rules by netlink")

    def info(self, host: Host) -> dict[str, Any]:
        """FirewallBackend of /info."""
        if self.choice is None or self.features is None:
            return {"Driver": "none", "Info": [["Chosen", "by --iptables=false"]]}
        committer = host.tools.committer if self.variant is not None else ""
        committer = f"netlink, {committer}" if self.direct else committer
        return dict(features.info(self.choice, self.features, committer))

    def remove_other_backends(self, prefix: str) -> None:
        """Remove netkit's rules from other back ends, once those of this one are applied."""
        names = tuple(n for layout in layouts() for n in layout.territory.names)
        found = other_backends.find("", self.backend, prefix, names)
        if not found:
            return
        log.info("the firewall back end has changed, removing %s", "; ".join(map(str, found)))
        try:
            other_backends.remove("", found)
        except KernelError as error:
            log.error("could not remove rules of another back end, will try again: %s", error)


def select(requested: str, *, enabled: bool) -> FirewallBackend:
    """Choose a back end.  KernelError if the host lacks a feature that networks require."""
    if not enabled:
        return FirewallBackend(NoFirewall(), None, None)
    warning = br_netfilter.ensure()
    if warning:
        log.warning("%s", warning)
    choice = detect_backend.choose("", requested)
    found = features.probe(choice.backend)
    found.check()
    log.info("firewall back end %s: %s", choice.backend, choice.reason)
    name = "nftables" if choice.backend == "nftables" else "iptables"
    matches = ("multiport", "mac") if name == "iptables" else ()
    # The plugin works without these matches of iptables, e.g. with a rule per port.
    lacks = {match: False for match in matches if not found.works(match)}
    return FirewallBackend(
        _plugin(name, **lacks), choice.backend, choice.variant, choice, found, warning
    )


@cache
def layouts() -> tuple[FirewallLayout, ...]:
    """Layouts of all installed firewalls: the host may still have rules of another one."""
    return tuple(entry.load().layout for entry in entry_points(group="netkit.firewall"))


def _plugin(name: str, **lacks: bool) -> Firewall:
    for entry in entry_points(group="netkit.firewall", name=name):
        firewall: Firewall = entry.load()(**lacks)
        return firewall
    raise InvalidSpec(f"the firewall {name} is missing: is netkit installed properly?")
