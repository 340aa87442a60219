"""Construct builds, on top of containers and registries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from netkit.store import Database
from runtime.build import leftovers
from runtime.daemon.bootstrap_containers import ContainerServices
from runtime.deferred import deferred
from runtime.images.pulling import Puller
from runtime.paths import Paths

if TYPE_CHECKING:
    from runtime.build.service import BuildService


def build_build_service(
    paths: Paths, database: Database, above: ContainerServices, puller: Puller
) -> tuple[BuildService, Callable[[], None]]:
    """Return builds, and what removes leftovers of a killed daemon's at the start."""

    def make() -> BuildService:
        from runtime.build.service import BuildService

        return BuildService(
            folder=paths.builds,
            database=database,
            images=above.images,
            parts=above.parts,
            puller=puller,
        )

    containers = above.parts.service
    return deferred(make), partial(
        leftovers.sweep, paths.builds, database, above.images, containers
    )
