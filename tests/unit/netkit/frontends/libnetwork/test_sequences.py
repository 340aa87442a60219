"""The sequences of calls that dockerd makes, against the handlers and a kernel that is a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from netkit.model import HOST, Addr, Route
from netkit.spec import EndpointSpec, NetworkSpec, SubnetSpec
from tests.unit.netkit.frontends.libnetwork.dockerd import KEY, Host, id_of
from tests.unit.netkit.network.test_controller import box

FAR = f"nkd{id_of('web')[:12]}"
SUBNET = "10.40.0.0/24"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    h = Host(tmp_path / "db")
    yield h
    for holder in list(h.ports._by_holder):
        h.ports.release(holder)
    h.database.close()


@pytest.fixture
def net(host: Host) -> Host:
    """A host with dockerd's network "back"."""
    assert host.network_create("back", subnet=SUBNET) == {}
    return host


def test_the_plugins_say_what_they_are(host: Host) -> None:
    call = host.front.plugin.call
    assert json.loads(call("bridge", "/Plugin.Activate", b"").body) == {
        "Implements": ["NetworkDriver"]
    }
    assert json.loads(call("", "/Plugin.Activate", b"").body) == {"Implements": ["IpamDriver"]}
    assert host.driver("GetCapabilities") == {"Scope": "local", "ConnectivityScope": "local"}
    assert host.ipam("GetCapabilities")["RequiresRequestReplay"] is False
    assert host.ipam("GetDefaultAddressSpaces")["LocalDefaultAddressSpace"] == "netkit-local"
    assert call("bridge", "/NetworkDriver.AllocateNetwork", b"{}").status == 404


def test_a_container_runs_and_nothing_of_it_is_left(host: Host) -> None:
    before = host.things()
    assert host.network_create("back") == {}
    (record,) = (r for r in host.net.all() if not r.builtin)
    assert record.spec.name == f"docker-{id_of('back')[:12]}"
    made = host.things()
    assert host.run("back", "web") == "172.18.0.2/16"
    host.stop("back", "web", "172.18.0.2/16")
    assert host.things() == made
    host.network_rm("back", "172.18.0.1")
    assert host.things() == before
    assert host.docker_rows() == []
    assert host.reserved() == 0


def test_what_is_inside_the_container_is_dockerds(net: Host) -> None:
    net.run("back", "web")
    inside = [r for r in net.kernel.things.values() if getattr(r, "ns", HOST) != HOST]
    assert inside == []
    assert not any(isinstance(r, Addr) and r.dev == FAR for r in net.kernel.things.values())
    assert not any(isinstance(r, Route) for r in net.kernel.things.values())


def test_join_has_the_name_of_the_far_end_and_the_gateway(net: Host) -> None:
    net.create("back", "web", "10.40.0.7/24")
    name = {"SrcName": FAR, "DstPrefix": "eth"}
    assert net.join("back", "web") == {"InterfaceName": name, "Gateway": "10.40.0.1"}
    (record,) = net.net.endpoints(sandbox=id_of("web"))
    assert record.engine == "docker"
    sandbox = net.net.sandbox(record.sandbox)
    assert sandbox is not None
    assert sandbox.ns == KEY


def test_nothing_is_missed_while_dockerd_has_yet_to_move_the_far_end(net: Host) -> None:
    net.create("back", "web", "10.40.0.7/24")
    assert net.net.check_links().drifts == []
    net.join("back", "web")
    assert net.net.check_links().drifts == []
    assert net.net.links.repair().plan == ()


def test_an_internal_network_has_no_gateway(host: Host) -> None:
    host.network_create("back", subnet=SUBNET, internal=True)
    host.create("back", "web", "10.40.0.7/24")
    joined = host.join("back", "web")
    assert "Gateway" not in joined
    assert joined["DisableGatewayService"] is True


def test_mac_and_address_are_answered_where_none_was_given(net: Host) -> None:
    address = net.ipam("RequestAddress", PoolID=net.pool, Address="", Options=None)["Address"]
    answer = net.create("back", "web", address)
    assert set(answer["Interface"]) == {"MacAddress"}
    assert net.create("back", "db", "10.40.0.9/24", "02:42:0a:00:00:09") == {}
    (record,) = net.net.endpoints(sandbox=id_of("db"))
    assert (record.address, record.mac) == ("10.40.0.9/24", "02:42:0a:00:00:09")


def test_without_an_ipam_the_driver_gives_the_address(host: Host) -> None:
    assert host.network_create("back", ipam=False) == {}
    answer = host.create("back", "web")
    assert answer["Interface"]["Address"] == "172.18.0.2/16"
    host.of_endpoint("DeleteEndpoint", "back", "web")
    host.network_rm("back")
    assert host.reserved() == 0


@pytest.mark.parametrize("times", [2, 3])
def test_a_call_that_is_repeated_has_the_same_answer(host: Host, times: int) -> None:
    def same(answers: list[dict[str, Any]]) -> dict[str, Any]:
        assert answers == [answers[0]] * len(answers)
        assert "Err" not in answers[0]
        return answers[0]

    again = range(times)
    pool = same([host.ipam("RequestPool", Pool=SUBNET, V6=False) for _ in again])["PoolID"]
    kind = {"RequestAddressType": "com.docker.network.gateway"}
    same([host.ipam("RequestAddress", PoolID=pool, Address="", Options=kind) for _ in again])
    data = {"AddressSpace": "netkit-local", "Pool": SUBNET, "Gateway": "10.40.0.1/24"}
    same([host.driver("CreateNetwork", NetworkID=id_of("back"), IPv4Data=[data]) for _ in again])
    ip = "10.40.0.9"
    same([host.ipam("RequestAddress", PoolID=pool, Address=ip, Options=None) for _ in again])
    same([host.create("back", "web", f"{ip}/24") for _ in again])
    same([host.join("back", "web") for _ in again])
    same([host.publish("back", "web", (80, 21410)) for _ in again])
    for method in ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint"):
        same([host.of_endpoint(method, "back", "web") for _ in again])
    same([host.ipam("ReleaseAddress", PoolID=pool, Address=ip) for _ in again])
    same([host.ipam("ReleasePool", PoolID=pool) for _ in again])
    same([host.driver("DeleteNetwork", NetworkID=id_of("back")) for _ in again])
    assert host.docker_rows() == []
    assert host.reserved() == 0


def test_what_is_not_known_is_removed_without_an_error(host: Host) -> None:
    for method in ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint"):
        assert host.of_endpoint(method, "back", "web") == {}
    assert host.driver("DeleteNetwork", NetworkID=id_of("back")) == {}
    assert host.ipam("ReleaseAddress", PoolID="none", Address="10.0.0.1") == {}
    assert host.ipam("ReleasePool", PoolID="none") == {}


def test_what_is_not_known_cannot_be_used(host: Host) -> None:
    assert "not known" in host.create("back", "web", "10.40.0.9/24")["Err"]
    assert "not known" in host.join("back", "web")["Err"]
    assert "not known" in host.publish("back", "web", (80, 21410))["Err"]
    assert "no address pool" in host.ipam("RequestAddress", PoolID="none")["Err"]


def test_ports_are_published_and_released(net: Host) -> None:
    net.run("back", "web", (80, 21410))
    (record,) = net.net.endpoints(sandbox=net.front.tables.endpoints()[0].sandbox)
    assert [(p.container_port, p.host_port) for p in record.ports] == [(80, 21410)]
    net.ipam("RequestAddress", PoolID=net.pool, Address="10.40.0.9", Options=None)
    net.create("back", "two", "10.40.0.9/24")
    error = net.publish("back", "two", (80, 21410))["Err"]
    assert "port is already allocated" in error
    assert net.of_endpoint("RevokeExternalConnectivity", "back", "web") == {}
    assert net.publish("back", "two", (80, 21410)) == {}


def test_the_endpoint_goes_without_a_leave(net: Host) -> None:
    before = net.things()
    address = net.run("back", "web", (80, 21410))
    assert net.of_endpoint("DeleteEndpoint", "back", "web") == {}
    net.release(address)
    assert net.things() == before
    assert net.reserved() == 0


def test_an_address_is_released_although_its_endpoint_was_not_deleted(net: Host) -> None:
    before = net.things()
    net.release(net.run("back", "web"))
    assert net.things() == before
    assert net.reserved() == 0
    assert net.of_endpoint("DeleteEndpoint", "back", "web") == {}


def test_one_address_has_one_container(net: Host) -> None:
    address = net.run("back", "web", ip="10.40.0.9")
    taken = net.ipam("RequestAddress", PoolID=net.pool, Address="10.40.0.9", Options=None)
    assert "Address already in use: 10.40.0.9" in taken["Err"]
    assert "10.40.0.9" in net.create("back", "two", address)["Err"]
    assert net.front.tables.endpoint(id_of("two")) is None


def test_netkits_own_containers_are_on_the_same_network(net: Host) -> None:
    record = next(r for r in net.net.all() if not r.builtin)
    assert net.run("back", "web") == "10.40.0.2/24"
    (own,) = net.net.open(box("own"), [EndpointSpec(network=record.id)], ())
    assert own.address == "10.40.0.3/24"
    assert net.run("back", "two") == "10.40.0.4/24"
    net.network_rm("back", "10.40.0.1")
    assert net.net.find(record.id) == record  # a container is on it
    assert {s.name for s in net.net.of_engine("docker")} == set()


def test_a_network_of_netkits_is_joined_by_its_name(host: Host) -> None:
    subnets = (SubnetSpec(subnet="10.41.0.0/24"),)
    made = host.net.create(NetworkSpec(name="shared", subnets=subnets)).record
    opts = {"netkit.network": "shared"}
    pool = host.ipam("RequestPool", Pool="", Options=opts, V6=False)
    assert pool["Pool"] == "10.41.0.0/24"
    assert pool["Data"] == {"com.docker.network.gateway": "10.41.0.1/24"}
    data = {"AddressSpace": "netkit-local", "Pool": pool["Pool"], "Gateway": "10.41.0.1/24"}
    generic = {"com.docker.network.generic": opts}
    create = {"NetworkID": id_of("back"), "Options": generic, "IPv4Data": [data]}
    assert host.driver("CreateNetwork", **create) == {}
    host.pool = pool["PoolID"]
    host.net.open(box("own"), [EndpointSpec(network=made.id)], ())
    assert host.run("back", "web") == "10.41.0.3/24"
    host.stop("back", "web", "10.41.0.3/24")
    host.network_rm("back", "10.41.0.1")
    assert host.net.find("shared") == made
    assert host.docker_rows() == []


def test_a_network_that_the_host_is_on_is_joined_by_its_subnet(host: Host) -> None:
    """dockerd asks for pools for ever, until it gets one that its host has no route to."""
    subnets = (SubnetSpec(subnet="10.41.0.0/24"),)
    host.net.create(NetworkSpec(name="shared", subnets=subnets))
    host.occupied = (IPv4Network("10.41.0.0/24"),)
    ask = {"Options": {"netkit.network": "shared"}, "V6": False}
    error = host.ipam("RequestPool", Pool="", **ask)["Err"]
    assert error == "this host is on network shared itself: give --subnet 10.41.0.0/24, too"
    assert host.ipam("RequestPool", Pool="10.41.0.0/24", **ask)["Pool"] == "10.41.0.0/24"


def test_a_network_that_is_joined_must_be_the_same(host: Host) -> None:
    subnets = (SubnetSpec(subnet="10.41.0.0/24"),)
    host.net.create(NetworkSpec(name="shared", subnets=subnets))
    answer = host.network_create("back", subnet="10.42.0.0/24", netkit__network="shared")
    assert "exists with subnet 10.41.0.0/24, not 10.42.0.0/24" in answer["Err"]
    answer = host.network_create("back", ipam=False, internal=True, netkit__network="shared")
    assert "is not internal" in answer["Err"]
    assert host.front.tables.networks() == []
    answer = host.network_create("back", subnet="10.41.0.0/24")
    assert "netkit.network=shared" in answer["Err"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"netkit__netwrok": "x"}, "unknown option 'netkit.netwrok'"),
        ({"netkit__scope": "global"}, "needs -o netkit.network=NAME"),
        ({"com__docker__network__driver__mtu": "x"}, "mtu"),
    ],
)
def test_a_bad_option_makes_nothing(host: Host, options: dict[str, str], error: str) -> None:
    before = host.things()
    assert error in host.network_create("back", subnet=SUBNET, **options)["Err"]
    assert host.things() == before
    assert host.front.tables.networks() == []
    host.ipam("ReleaseAddress", PoolID=host.pool, Address="10.40.0.1")
    host.ipam("ReleasePool", PoolID=host.pool)
    assert host.docker_rows() == []


def test_pools_without_a_subnet_are_distinct_and_counted(host: Host) -> None:
    pools = [host.ipam("RequestPool", Pool="", V6=False) for _ in range(3)]
    assert len({p["Pool"] for p in pools}) == 3
    host.ipam("ReleasePool", PoolID=pools[0]["PoolID"])
    assert host.ipam("RequestPool", Pool="", V6=False)["Pool"] == pools[0]["Pool"]


def test_after_a_kill_the_containers_go_on(net: Host) -> None:
    address = net.run("back", "web", (80, 21410))
    before = net.things()
    net.restarted()
    assert net.things() == before
    assert net.ports._by_holder
    net.stop("back", "web", address)
    net.network_rm("back", "10.40.0.1")
    assert net.docker_rows() == []
    assert net.reserved() == 0


def test_ipam_without_a_network_of_netkits(host: Host) -> None:
    pool = host.ipam("RequestPool", Pool=SUBNET, SubPool="10.40.0.128/25", V6=False)["PoolID"]
    first = host.ipam("RequestAddress", PoolID=pool, Address="", Options=None)["Address"]
    second = host.ipam("RequestAddress", PoolID=pool, Address="", Options=None)["Address"]
    assert (first, second) == ("10.40.0.128/24", "10.40.0.129/24")
    taken = host.ipam("RequestAddress", PoolID=pool, Address="10.40.0.129")
    assert "already in use" in taken["Err"]
    host.ipam("ReleasePool", PoolID=pool)
    assert host.docker_rows() == []
