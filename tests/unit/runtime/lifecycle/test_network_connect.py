"""Which networks a container may join besides those it has: by what their drivers declare."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from netkit.driver import Traits
from netkit.errors import Forbidden, InvalidSpec
from netkit.spec import NetworkRecord, NetworkSpec
from runtime.container.config import Config, EndpointSettings, HostConfig
from runtime.container.model import Container
from runtime.lifecycle.network_connect import NetworkConnector

TRAITS = {
    "plain": Traits(),
    "hostlike": Traits(needs_host_namespace=True),
    "private": Traits(exclusive=True),
}


class Fakes:
    """A store, sandboxes and runs in one; `joined` has the networks that were joined."""

    def __init__(self, mode: str, *networks: str) -> None:
        self.joined: list[str] = []
        self.places: list[str] = []
        self.c = Container(
            id="c" * 64, name="web", created="", image="sha256:1", config=Config(),
            host_config=HostConfig(network_mode=mode),
            networks={n: EndpointSettings() for n in networks},
        )  # fmt: skip

    def find(self, _ref: str) -> Container:
        return self.c

    def network(self, ref: str) -> NetworkRecord:
        return NetworkRecord(id=ref * 9, spec=NetworkSpec(name=ref, driver=ref), created="")

    def traits(self, record: NetworkRecord) -> Traits:
        return TRAITS[record.spec.driver]

    def lock(self, _id: str) -> Any:
        return nullcontext()

    def admit(self, c: Container) -> None: ...

    def save(self, c: Container) -> None:
        self.joined = [*c.networks]

    def endpoints(self, _c: Container) -> list[Any]:
        return [SimpleNamespace(network=id) for id in self.places]

    def connect(self, _c: Container, record: NetworkRecord, _settings: EndpointSettings) -> None:
        self.places.append(record.id)

    def disconnect(self, _c: Container, record: NetworkRecord) -> None:
        self.places.remove(record.id)

    def reserve_on(self, *_: object) -> None: ...
    def unreserve(self, *_: object) -> None: ...


def member(fakes: Fakes) -> NetworkConnector:
    return NetworkConnector(fakes, fakes, fakes, rules=True, forwards=lambda: True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "has", "joins", "why"),
    [
        ("bridge", "bridge", "hostlike", "cannot connect container to host network"),
        ("host", "host", "plain", "sharing network namespace with another container or host"),
        ("bridge", "bridge", "private", "multiple networks"),
        ("none", "none", "plain", "multiple networks"),
    ],
)
def test_networks_that_exclude_each_other_are_refused(
    mode: str, has: str, joins: str, why: str
) -> None:
    with pytest.raises(InvalidSpec, match=why):
        member(Fakes(mode, has)).connect("web", joins, EndpointSettings())


def test_other_networks_are_joined_and_left() -> None:
    fakes = Fakes("bridge", "bridge")
    member(fakes).connect("web", "plain", EndpointSettings())
    assert fakes.joined == ["bridge", "plain"]
    member(fakes).disconnect("web", "plain", force=False)
    assert fakes.joined == ["bridge"]


def test_the_network_of_a_container_in_host_mode_is_not_left() -> None:
    fakes = Fakes("host", "hostlike")
    with pytest.raises(InvalidSpec, match="cannot disconnect container from host network"):
        member(fakes).disconnect("web", "hostlike", force=False)


def test_a_running_container_that_lost_its_place_is_connected_again_or_disconnected() -> None:
    fakes = Fakes("bridge", "bridge")
    fakes.c.state.status = "running"
    member(fakes).connect("web", "plain", EndpointSettings())
    with pytest.raises(Forbidden, match="already exists in network plain"):
        member(fakes).connect("web", "plain", EndpointSettings())
    fakes.places.clear()  # its address is another host's by now
    member(fakes).connect("web", "plain", EndpointSettings(aliases=["shop"]))
    assert fakes.c.networks["plain"].aliases == ["shop"]
    fakes.places.clear()
    member(fakes).disconnect("web", "plain", force=False)
    assert fakes.joined == ["bridge"]
