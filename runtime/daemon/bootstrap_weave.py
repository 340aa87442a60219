"""Construct netkitd's side of the weave overlay."""

from __future__ import annotations

from netkit.network.controller import Controller
from runtime.daemon.discovery import host_routes
from runtime.network.networks import NetworksService
from runtime.network.weave.service import WeaveService, folders
from runtime.paths import Paths


def build_weave_service(
    paths: Paths, controller: Controller, networks: NetworksService
) -> WeaveService:
    made = WeaveService(
        folders(paths.root, paths.run), networks, controller.overlay_networks, host_routes
    )
    controller.on_change = made.following.notify
    return made
