"""Construct netkitd's side of the weave overlay."""

from __future__ import annotations

from runtime.daemon.bootstrap_network import NetworkServices
from runtime.daemon.discovery import host_routes
from runtime.lifecycle.service import ContainerService
from runtime.network.networks import NetworksService
from runtime.network.weave.service import WeaveService


def build_weave_service(
    below: NetworkServices, networks: NetworksService, containers: ContainerService
) -> WeaveService:
    controller, addresses = below.networks, below.overlay_addresses
    made = WeaveService(addresses, networks, controller.overlay_networks, containers, host_routes)
    controller.on_change = made.following.notify
    return made
