"""Protocols of the engine as a whole, and of facts on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from runtime.api.backend.builds import Builds
from runtime.api.backend.cni import Cni
from runtime.api.backend.containers import Containers, Execs
from runtime.api.backend.images import Images
from runtime.api.backend.networks import Cluster, Firewall, Networks, Ovn, Trace, Watch
from runtime.api.backend.registries import Registries
from runtime.api.backend.volumes import Volumes
from runtime.api.backend.weave import Weave
from runtime.events import Events


class System(Protocol):
    def info(self) -> dict[str, Any]: ...
    def version(self) -> dict[str, Any]: ...
    def disk_usage(self, types: Iterable[str]) -> dict[str, Any]:
        """{"LayersSize": bytes}; Images, Containers, Volumes, BuildCache override what the API
        derives from the other protocols."""
        ...


class Engine(Protocol):
    """All protocols that the API's handlers use.

    In the filters of all `prune` methods `until` is in seconds since the epoch, as text.
    """

    @property
    def containers(self) -> Containers: ...
    @property
    def execs(self) -> Execs: ...
    @property
    def builds(self) -> Builds: ...
    @property
    def images(self) -> Images: ...
    @property
    def registries(self) -> Registries: ...
    @property
    def events(self) -> Events: ...
    @property
    def system(self) -> System: ...
    @property
    def networks(self) -> Networks: ...
    @property
    def volumes(self) -> Volumes: ...
    @property
    def firewall(self) -> Firewall: ...
    @property
    def trace(self) -> Trace: ...
    @property
    def watch(self) -> Watch: ...
    @property
    def cluster(self) -> Cluster: ...
    @property
    def ovn(self) -> Ovn: ...
    @property
    def weave(self) -> Weave: ...
    @property
    def cni(self) -> Cni: ...
