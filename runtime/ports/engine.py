"""Everything a front end is given, with events and the engine's own facts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Protocol

from runtime.ports import Filters
from runtime.ports.containers import Containers, Execs
from runtime.ports.images import Images
from runtime.ports.networks import Cluster, Firewall, Networks, Trace


class Events(Protocol):
    def emit(self, type: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
        """From any thread."""
        ...

    def subscribe(
        self, since: float | None, until: float, filters: Filters
    ) -> AsyncIterator[dict[str, Any]]:
        """First what is remembered since then, then what comes; ends at `until` if not 0.

        Without `since`, what is remembered comes only if `until` is given.
        """
        ...


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
