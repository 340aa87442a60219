"""Construct what streams changes of networks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from netkit.kernel.netlink.counters import counted_links
from netkit.model import HOST
from netkit.reconcile.resync import ResyncLoop
from runtime.daemon.bootstrap_network import NetworkServices
from runtime.watch.service import WatchService


def build_watch_service(below: NetworkServices) -> WatchService:
    links = partial(counted_links, HOST, f"netkit:{below.engine_id}:")
    guards = {
        "firewall": below.guard, "openvswitch": below.ovs_guard, "links": below.link_guard,
    }  # fmt: skip
    return WatchService(below.networks, below.peers, links, partial(_repaired, guards))


def _repaired(guards: Mapping[str, ResyncLoop]) -> dict[str, int]:
    """Sums over kinds."""
    return {name: sum(g.drift.counts().repaired.values()) for name, g in guards.items()}
