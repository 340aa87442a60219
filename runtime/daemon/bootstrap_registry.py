"""Construct the client of registries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netkit.store import Database
from runtime.daemon.config import DaemonConfig
from runtime.deferred import deferred
from runtime.events import EventBus
from runtime.images.store import ImageStore
from runtime.registry.known import KnownBlobs
from runtime.registry.settings import RegistrySettings

if TYPE_CHECKING:
    from runtime.registry.service import RegistryService

UNBOUNDED = 64  # layers at a time, where 0 is configured: each has a thread


def settings(config: DaemonConfig) -> RegistrySettings:
    return RegistrySettings(
        mirrors=config.registry_mirrors,
        insecure=config.insecure_registries,
        certificates=config.folder / "certs.d",
        logins=config.folder / "config.json",
        downloads=min(config.max_concurrent_downloads or UNBOUNDED, UNBOUNDED),
        uploads=min(config.max_concurrent_uploads or UNBOUNDED, UNBOUNDED),
        attempts=config.max_download_attempts,
    )


def build_registry_service(
    config: DaemonConfig, database: Database, images: ImageStore, events: EventBus
) -> RegistryService:
    known = KnownBlobs(database)
    known.keep_only(images.blobs.all(), images.layers.all())

    def make() -> RegistryService:
        from runtime.registry.service import RegistryService

        return RegistryService(images, known, events, settings(config))

    return deferred(make)
