"""A host with the weave driver on a kernel in memory, and the overlay's process likewise."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from netkit.driver import NoFirewall
from netkit.errors import NotFound
from netkit.network.controller import Controller
from netkit.spec import EndpointSpec, NetworkSpec, Sandbox, SubnetSpec
from netkit.store import Database
from netkit.testing.kernel import NETNS, FakeKernel, Inline
from plugins.weave.driver import Weave
from runtime.container.config import Config, EndpointSettings, HostConfig
from runtime.container.model import Container
from runtime.network.endpoint_settings import endpoint_spec
from runtime.network.weave.addresses import AllocatedAddresses, ident_of
from runtime.network.weave.following import Following
from tests.unit.runtime.network.weave.fake_process import FakeChannel, FakeProcess


def box(name: str = "web") -> Sandbox:
    id = name.encode().hex().ljust(64, "0")
    return Sandbox(id=id, name=name, ns=f"{NETNS}/{name}")


class HostBench:
    def __init__(self, folder: Path, process: FakeProcess | None = None) -> None:
        self.process: Any = process or FakeProcess()
        self.addresses = AllocatedAddresses(self.process)
        self.database = Database(folder / "db")
        self.net = Controller(
            self.database, Inline(FakeKernel(), "0"), {"weave": Weave()}, NoFirewall(),
            engine="0", overlay_addresses=self.addresses,
        )  # fmt: skip
        self.net._lifecycle.ensure_predefined = lambda: None  # type: ignore[method-assign]
        self.net.restore({})
        self.following = Following(self.process, self.net.overlay_networks)
        self.following.on_sync.append(self.addresses.agree)
        self.addresses.connect(
            self.net.overlay_networks, self.following.notify, lambda: self.following.unable
        )
        self.net.on_change = self.following.notify

    def network(self, name: str = "lane", subnet: str = "10.32.0.0/24", **options: str) -> str:
        spec = NetworkSpec(
            name=name, driver="weave", subnets=(SubnetSpec(subnet=subnet),), options=options
        )
        return self.net.create(spec).record.id

    def run(self, network: str, name: str = "web", *, addresses: Sequence[str] = ()) -> str:
        """Start a container; its first address."""
        spec = EndpointSpec(network=network, names=(name,), addresses=tuple(addresses))
        (record,) = self.net.open(box(name), [spec], [])
        return record.address

    def agree(self, *, fresh: bool = True) -> dict[str, str]:
        """One comparison of addresses, as the following thread does it."""
        channel = FakeChannel(self.process)
        self.process.channels.append(channel)
        with channel:
            return self.addresses.agree(channel, fresh)  # type: ignore[arg-type]

    def held(self, network: str, name: str) -> list[str]:
        ident = ident_of(network, box(name).id)
        return [address for address, who in self.process.held.items() if who == ident]


def eventually(what: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)
    return found


class Containers:
    """Of runtime.lifecycle what attaching needs: `live` are those that run."""

    def __init__(self, net: Controller) -> None:
        self._net = net
        self._all: dict[str, Container] = {}

    def start(self, name: str) -> Container:
        found = container(name)
        found.state.status = "running"
        self._all[found.id] = found
        self._net.open(box(name), [], [])
        return found

    def find(self, ref: str) -> Container:
        for c in self._all.values():
            if ref in (c.id, c.name):
                return c
        raise NotFound(f"No such container: {ref}")

    def connect(self, ref: str, network: str, settings: EndpointSettings) -> None:
        c, record = self.find(ref), self._net.find(network)
        self._net.connect(box(c.name), endpoint_spec(c, settings, record))
        c.networks[record.spec.name] = settings

    def readdress(self, ref: str, network: str, settings: EndpointSettings) -> None:
        c, record = self.find(ref), self._net.find(network)
        self._net.readdress(c.id, endpoint_spec(c, settings, record))
        c.networks[record.spec.name] = settings

    def disconnect(self, ref: str, network: str, *, force: bool) -> None:
        c, record = self.find(ref), self._net.find(network)
        self._net.disconnect(c.id, record.id)
        del c.networks[record.spec.name]


def container(name: str) -> Container:
    return Container(
        id=box(name).id, name=name, created="", image="sha256:0", config=Config(),
        host_config=HostConfig(), networks={}, mounts=[],
    )  # fmt: skip
