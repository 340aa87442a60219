"""Everything a front end is given, with events and the engine's own facts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from runtime.api.backend.containers import Containers, Execs
from runtime.api.backend.images import Images
from runtime.api.backend.networks import Cluster, Firewall, Networks, Trace
from runtime.events import Events


class System(Protocol):
    def info(self) -> dict[str, Any]: ...
    def version(self) -> dict[str, Any]: ...
    def disk_usage(self, types: Iterable[str]) -> dict[str, Any]:
        """{"LayersSize": bytes}, and Images, Containers, Volumes, BuildCache where the engine
        knows better than what the API makes of the other ports."""
        ...


class Engine(Protocol):
    """Everything a front end is given.

    In the filters of all `prune` methods `until` is in seconds since the epoch, as text.
    """

    @property
    def containers(self) -> Containers: ...
    @property
    def execs(self) -> Execs: ...
    @property
    def images(self) -> Images: ...
    @property
    def events(self) -> Events: ...
    @property
    def system(self) -> System: ...
    @property
    def networks(self) -> Networks: ...
    @property
    def firewall(self) -> Firewall: ...
    @property
    def trace(self) -> Trace: ...
    @property
    def cluster(self) -> Cluster: ...
