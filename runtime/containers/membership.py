"""Which networks a container may be on, and joining and leaving them: `network connect`."""

from __future__ import annotations

from netkit.errors import Conflict, InvalidSpec, NotFound
from netkit.spec import NetworkRecord
from runtime.containers.config import EndpointSettings
from runtime.containers.joining import endpoint_spec
from runtime.containers.model import Container
from runtime.containers.runs import Runs
from runtime.containers.sandboxes import Sandboxes
from runtime.containers.store import ContainerStore


class Membership:
    def __init__(self, store: ContainerStore, sandboxes: Sandboxes, runs: Runs) -> None:
        self._store = store
        self._sandboxes = sandboxes
        self._runs = runs

    def check(self, c: Container) -> None:
        """Networks exist and take what is asked of them; the target of container: exists."""
        try:
            if c.host_config.network_of is not None:
                self._store.find(c.host_config.network_of)
            self._check_each(c)
        except NotFound as e:
            # 404 would make the stock client pull the image
            raise InvalidSpec(str(e)) from e

    def _check_each(self, c: Container) -> None:
        seen: set[str] = set()
        for wanted, settings in c.networks.items():
            record = self._sandboxes.network(wanted)
            if record.id in seen:
                raise InvalidSpec(f'network "{wanted}" is specified multiple times')
            seen.add(record.id)
            endpoint_spec(c, settings, record)

    def connect(self, ref: str, network: str, settings: EndpointSettings) -> None:
        c = self._store.find(ref)
        record = self._sandboxes.network(network)
        with self._runs.lock(c.id):
            _check_connect(c, record)
            if _wish_for(c, record) is not None:
                raise Conflict(
                    f"endpoint with name {c.name} already exists in network {record.spec.name}"
                )
            endpoint_spec(c, settings, record)
            if c.state.alive:
                self._sandboxes.connect(c, record, settings)
            c.networks[record.spec.name] = settings
            if c.host_config.network_mode == "none":
                c.networks.pop("none", None)
            self._store.save(c)

    def disconnect(self, ref: str, network: str, *, force: bool) -> None:
        record = self._sandboxes.network(network)
        try:
            c = self._store.find(ref)
        except Exception:
            if force and self._sandboxes.forget_endpoint(record, ref):
                return
            raise
        with self._runs.lock(c.id):
            if "host" in {c.host_config.network_mode, record.spec.driver}:
                raise InvalidSpec("container cannot be disconnected from host network or "
                                  "connected to host network")  # fmt: skip
            word = _wish_for(c, record)
            if word is None:
                raise InvalidSpec(
                    f"container {c.id} is not connected to network {record.spec.name}"
                )
            if c.state.alive:
                self._sandboxes.disconnect(c, record)
            c.networks.pop(word)
            self._store.save(c)


def _check_connect(c: Container, record: NetworkRecord) -> None:
    if c.host_config.network_of is not None:
        raise InvalidSpec("container sharing network namespace with another container or host "
                          "cannot be connected to any other network")  # fmt: skip
    if "host" in {c.host_config.network_mode, record.spec.driver}:
        raise InvalidSpec("container cannot be connected to host network or disconnected from it")
    if record.spec.driver == "null":
        raise InvalidSpec("container cannot be connected to multiple networks with one of "
                          "the networks in private (none) mode")  # fmt: skip


def _wish_for(c: Container, record: NetworkRecord) -> str | None:
    """The word by which the container asks for this network: its name or (part of) its id."""
    for word in c.networks:
        if word == record.spec.name or record.id.startswith(word):
            return word
    return None
