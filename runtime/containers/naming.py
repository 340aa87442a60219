"""Names of containers on user-defined networks: from endpoints to the resolver."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from netkit.networks import Networks
from netkit.spec import EndpointRecord, Sandbox
from runtime.containers.files import ContainerFiles
from runtime.containers.store import ContainerStore
from runtime.paths import Paths

log = logging.getLogger("netkit.naming")


class Naming:
    """Implements netkit.service.Names."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._lock = threading.Lock()

    def connect(self, networks: Networks, store: ContainerStore, files: ContainerFiles) -> None:
        self._networks = networks
        self._store = store
        self._files = files

    def publish(self, joined: Sequence[EndpointRecord], left: Sequence[EndpointRecord]) -> None:
        return None

    def restore(self, live: Mapping[str, Sandbox]) -> None:
        return None

    def close(self) -> None:
        return None
