"""Construct netkitd's side of the weave overlay."""

from __future__ import annotations

from runtime.daemon.bootstrap_network import NetworkServices
from runtime.daemon.discovery import host_routes
from runtime.lifecycle.service import ContainerService
from runtime.network.networks import NetworksService
from runtime.network.weave.remote_members import RemoteMembers
from runtime.network.weave.service import WeaveService


def build_weave_service(
    below: NetworkServices, networks: NetworksService, containers: ContainerService
) -> WeaveService:
    controller, addresses = below.networks, below.overlay_addresses
    members = RemoteMembers(controller.overlay_members, addresses.overlay.channel)
    made = WeaveService(
        addresses, networks, controller.overlay_networks, containers, host_routes, members
    )
    controller.on_change = made.following.notify
    networks.kept = made.keeps
    networks.completed = made.as_elsewhere
    return made
