"""A container that is renamed while it waits for its restart keeps its network."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from netkit.network.config import NetworkConfig
from netkit.spec import NetworkSpec
from netkit.testing.kernel import NETNS
from runtime.container.config import EndpointSettings, HostConfig
from runtime.container.model import State
from runtime.network.sandbox import ContainerNetwork
from tests.unit.netkit.network.test_controller import IP, Bench
from tests.unit.runtime.api.test_shapes import container


def test_the_next_run_has_the_endpoints_of_the_last(tmp_path: Path) -> None:
    """Other containers may share the namespace, and a new one would cut them off."""
    bench = Bench(tmp_path / "db", NetworkConfig(ip=IP))
    bench.net.start()
    bench.net.create(NetworkSpec(name="lan"))
    networks = {"lan": EndpointSettings(), "bridge": EndpointSettings()}
    c = container("web", networks=networks, host_config=HostConfig(network_mode="lan"))
    stubs = {
        "paths": SimpleNamespace(namespace=lambda id: f"{NETNS}/{id}"),
        "store": SimpleNamespace(all=lambda: [c], relating=lambda: [c], find=lambda ref: c),
        "files": SimpleNamespace(write=lambda *_: None),
    }
    sandboxes = ContainerNetwork(
        **cast(dict[str, Any], stubs), networks=bench.net, sandboxes=bench.net,
        events=cast(Any, None), settle_names=lambda: None,
    )  # fmt: skip
    before = sandboxes.open(c)
    c.state = State(status="restarting")
    c.name = "shop"
    sandboxes.renamed(c)
    after = sandboxes.open(c)
    assert [e.id for e in after] == [e.id for e in before]
    assert {e.owner_name for e in after} == {"shop"}
    bench.database.close()
