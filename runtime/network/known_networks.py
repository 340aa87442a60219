"""List the networks of this engine for `explain` and `trace`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from netkit.diagnose.explain.facts import KnownNetwork
from netkit.driver import OverlayPorts
from netkit.errors import NotFound
from netkit.network.api import Networks


def known_networks(networks: Networks) -> Iterator[KnownNetwork]:
    """Yield each network with its driver's traits and policy; skips those removed meanwhile."""
    for record in networks.all():
        with suppress(NotFound):
            policy, traits = networks.policy(record.id), networks.traits(record)
            yield KnownNetwork(
                id=record.id,
                name=record.spec.name,
                openvswitch=traits.openvswitch,
                icc=policy is None or policy.icc,
                port_security=traits.port_security,
                overlay=networks.overlay(record.id),
            )


def overlay_ports(networks: Networks) -> dict[str, OverlayPorts]:
    """By name, of the networks that reach other hosts by the overlay's process."""
    return {n.name: n.overlay for n in known_networks(networks) if n.overlay is not None}
