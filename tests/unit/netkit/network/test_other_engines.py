"""Sandboxes of containers that another engine runs: their namespaces are not netkit's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from netkit.errors import Conflict
from netkit.model import Netns
from netkit.network.config import NetworkConfig
from netkit.network.endpoint_store import SandboxRecord
from netkit.reconcile.plan import Op
from netkit.spec import EndpointSpec, NetworkRecord, NetworkSpec, Sandbox, SubnetSpec
from runtime.api.json import networks as render_networks
from tests.unit.netkit.network.test_controller import IP, Bench

NS = "/run/elsewhere/c1"
HERE = ("netns", NS)
BOX = Sandbox(id="c" * 64, name="web", ns=NS, engine="docker", foreign=True, nsid="4:4026532000")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    b = Bench(tmp_path / "db", NetworkConfig(ip=IP))
    b.net.start()
    b.kernel.apply([Op(None, Netns(path=NS))])
    yield b
    b.database.close()


@pytest.fixture
def net(bench: Bench) -> NetworkRecord:
    subnets = (SubnetSpec(subnet="10.60.0.0/24"),)
    return bench.net.create(NetworkSpec(name="back", subnets=subnets)).record


def test_its_namespace_is_there_before_and_after(bench: Bench, net: NetworkRecord) -> None:
    before = bench.things()
    (record,) = bench.net.open(BOX, [EndpointSpec(network=net.id)], [])
    assert (record.engine, record.owner_name, record.address) == ("docker", "web", "10.60.0.2/24")
    assert ("addr", NS, "eth0", record.address) in bench.kernel.things
    bench.net.close(BOX.id)
    assert bench.things() == before
    assert HERE in bench.kernel.things
    assert bench.held() == 0


def test_without_its_namespace_nothing_is_opened(bench: Bench, net: NetworkRecord) -> None:
    bench.kernel.apply([Op(Netns(path=NS), None)])
    before = bench.things()
    with pytest.raises(Conflict, match=f"network namespace {NS} must exist"):
        bench.net.open(BOX, [EndpointSpec(network=net.id)], [])
    assert bench.things() == before
    assert bench.net.of_engine("docker") == []
    assert bench.held() == 0


def test_it_is_closed_although_its_namespace_has_ended(bench: Bench, net: NetworkRecord) -> None:
    bench.net.open(BOX, [EndpointSpec(network=net.id)], [])
    bench.kernel.apply([Op(Netns(path=NS), None)])
    bench.net.close(BOX.id)
    assert bench.net.of_engine("docker") == []
    assert bench.held() == 0


def test_the_next_run_is_in_the_same_namespace(bench: Bench, net: NetworkRecord) -> None:
    want = [EndpointSpec(network=net.id)]
    first = bench.net.open(BOX, want, [])
    link = next(k for k in bench.kernel.things if k[:2] == ("link", "") and "veth" in k[2])
    before = bench.kernel.things[link]
    bench.net.renew(BOX.id)
    assert bench.net.open(BOX, want, []) == first
    assert bench.kernel.things[link] is before


def test_no_settings_of_netkits_containers_are_made_there(tmp_path: Path) -> None:
    settings = NetworkConfig(ip=IP, sysctls={"net.ipv4.ping_group_range": "0 0"})
    b = Bench(tmp_path / "db", settings)
    b.net.start()
    b.kernel.apply([Op(None, Netns(path=NS))])
    b.net.open(BOX, [EndpointSpec(network=b.net.find("bridge").id)], [])
    setting = ("sysctl", NS, "net/ipv4/ping_group_range")
    assert setting not in b.kernel.things
    own = replace(BOX, id="d" * 64, engine="", foreign=False, ns="/run/netkit/netns/d1")
    b.net.open(own, [EndpointSpec(network=b.net.find("bridge").id)], [])
    assert ("sysctl", own.ns, "net/ipv4/ping_group_range") in b.kernel.things
    b.database.close()


def test_a_new_name_is_the_same_engines(bench: Bench, net: NetworkRecord) -> None:
    bench.net.open(BOX, [EndpointSpec(network=net.id)], [])
    bench.net.rename(BOX.id, "front", {net.id: ["front"]})
    assert bench.net.of_engine("docker") == [replace(BOX, name="front")]
    assert bench.net.sandbox(BOX.id) == replace(BOX, name="front")
    (record,) = bench.net.endpoints(sandbox=BOX.id)
    assert (record.owner_name, record.engine) == ("front", "docker")


def test_after_a_restart_it_goes_on_if_its_engine_says_so(
    bench: Bench, net: NetworkRecord
) -> None:
    bench.net.open(BOX, [EndpointSpec(network=net.id)], [])
    before = bench.things()
    bench.killed()
    bench.net.restore({BOX.id: BOX})
    assert bench.things() == before
    assert bench.net.of_engine("docker") == [BOX]
    bench.killed()
    bench.net.restore({})
    assert bench.net.of_engine("docker") == []
    assert HERE in bench.kernel.things


def test_it_is_called_by_its_engine(bench: Bench, net: NetworkRecord) -> None:
    bench.net.open(BOX, [EndpointSpec(network=net.id, ip="10.60.0.9")], [])
    other = replace(BOX, id="e" * 64, name="two")
    with pytest.raises(Conflict, match=r"10\.60\.0\.9 .*container web of docker"):
        bench.net.open(other, [EndpointSpec(network=net.id, ip="10.60.0.9")], [])
    shown = render_networks.network(net, bench.net.endpoints(network=net.id))
    assert shown["Containers"][BOX.id]["Engine"] == "docker"
    own = replace(BOX, id="f" * 64, engine="", foreign=False, ns="/run/netkit/netns/f1")
    bench.net.open(own, [EndpointSpec(network=net.id)], [])
    shown = render_networks.network(net, bench.net.endpoints(network=net.id))
    assert "Engine" not in shown["Containers"][own.id]


def test_rows_of_earlier_versions_are_netkits_own() -> None:
    old = b'{"sandbox":{"id":"a","name":"n","ns":"/run/netkit/netns/a"},"wants":[],"held":[]}'
    sandbox = msgspec.json.decode(old, type=SandboxRecord).sandbox
    assert (sandbox.engine, sandbox.foreign, sandbox.nsid) == ("", False, "")
    assert sandbox.title == "container n"


def test_what_differs_inside_is_shown_and_left_to_its_engine(
    bench: Bench, net: NetworkRecord
) -> None:
    (record,) = bench.net.open(BOX, [EndpointSpec(network=net.id)], [])
    addr = bench.kernel.things["addr", NS, "eth0", record.address]
    bench.kernel.apply([Op(addr, None)])
    drifts = bench.net.check_links(["back"]).drifts
    note = "left alone: docker, which runs the container, may have changed its interfaces"
    assert {(d.wanted.engine, d.note) for d in drifts} == {("docker", note)}
