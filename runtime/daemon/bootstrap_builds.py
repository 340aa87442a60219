"""Construct builds, on top of containers and registries."""

from __future__ import annotations

from netkit.store import Database
from runtime.build.service import BuildService
from runtime.daemon.bootstrap_containers import ContainerServices
from runtime.images.pulling import Puller
from runtime.paths import Paths


def build_build_service(
    paths: Paths, database: Database, above: ContainerServices, puller: Puller
) -> BuildService:
    return BuildService(
        folder=paths.builds,
        database=database,
        images=above.images,
        parts=above.parts,
        puller=puller,
    )
