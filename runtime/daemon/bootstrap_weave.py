"""Construct netkitd's side of the weave overlay."""

from __future__ import annotations

from runtime.daemon.bootstrap_network import NetworkServices
from runtime.daemon.discovery import host_routes
from runtime.network.networks import NetworksService
from runtime.network.weave.service import WeaveService


def build_weave_service(below: NetworkServices, networks: NetworksService) -> WeaveService:
    controller = below.networks
    made = WeaveService(
        below.overlay_addresses, networks, controller.overlay_networks, host_routes
    )
    controller.on_change = made.following.notify
    return made
