"""Two hosts with dockerd each, on one network of netkit's drivers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from netkit.lab.openvswitch import OpenVSwitch
from tests.engine.daemon import KIND
from tests.engine.dockerd import DockerHost
from tests.engine.wire import HOST, NEIGHBOUR, Wire

pytestmark = [
    pytest.mark.skipif(KIND == "dockerd", reason="it is about netkitd beside dockerd"),
    pytest.mark.skipif(not shutil.which("ovs-vswitchd"), reason="needs openvswitch-switch"),
]
Hosts = tuple[DockerHost, DockerHost]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with ExitStack() as stack:
        wire = Wire.lay()
        stack.callback(wire.remove)
        found = []
        for home in (wire.host, wire.neighbour):
            switch = OpenVSwitch(f"/run/netns/{home}", tmp_path_factory.mktemp("ovs"))
            stack.callback(switch.stop)
            switch.start()
            host = DockerHost(wire, home, netkitd=("--ovs-db", switch.remote))
            stack.callback(host.destroy)
            host.start()
            host.docker.load_image()
            found.append(host)
        yield found[0], found[1]


@pytest.fixture(autouse=True)
def nothing_is_left(hosts: Hosts) -> Iterator[None]:
    yield
    for host in hosts:
        host.docker.clear()
        host.wait("nothing is left", lambda host=host: not host.networks() and not host.links())


def create(host: DockerHost, driver: str, *flags: str, subnet: str = "10.46.0.0/16") -> None:
    host.docker.docker(
        "network", "create", "-d", driver, "--ipam-driver", "netkit", "-o", "netkit.network=lane",
        "--subnet", subnet, *flags, "lane",
    )  # fmt: skip


def reach(hosts: Hosts) -> None:
    """Both containers reach each other, by address and by name; netkit knows why."""
    here, there = hosts
    for host, name in ((here, "here"), (there, "there")):
        host.docker.sleeper("--network", "lane", "--dns", "127.0.0.12", name=name)
        host.named(name)
    ends = {"here": here.docker.address("here", "lane")}
    ends["there"] = there.docker.address("there", "lane")
    assert len({*ends.values()}) == 2
    here.wait("the way", lambda: pings(here, "here", ends["there"]))
    assert pings(there, "there", ends["here"])


def pings(host: DockerHost, source: str, target: str) -> bool:
    ping = ("exec", source, "ping", "-c1", "-W5", target)
    return host.docker.docker(*ping, check=False).returncode == 0


def test_an_ovs_network(hosts: Hosts) -> None:
    here, there = hosts
    create(here, "netkit-ovs", "--ip-range", "10.46.1.0/24", "--gateway", "10.46.1.1",
           "-o", f"peers={NEIGHBOUR}")  # fmt: skip
    create(there, "netkit-ovs", "--ip-range", "10.46.2.0/24", "--gateway", "10.46.2.1",
           "-o", f"peers={HOST}")  # fmt: skip
    reach(hosts)
    way = trace(here, "here", there.docker.address("there", "lane"))
    assert f"goes to tunnel to {NEIGHBOUR}" in way, way


def trace(host: DockerHost, source: str, target: str) -> str:
    """The way, as far as netkit of this host knows it."""
    return host.netkit.netkit("net", "trace", source, target, check=False).stdout


@pytest.fixture
def launched(hosts: Hosts) -> Iterator[Hosts]:
    here, there = hosts
    here.netkit.netkit("weave", "launch")
    there.netkit.netkit("weave", "launch", HOST)
    yield hosts
    for host in hosts:
        host.docker.clear()
        host.netkit.netkit("weave", "reset", check=False)


def test_the_weave_network(launched: Hosts) -> None:
    for host in launched:
        host.docker.docker(
            "network", "create", "-d", "netkit-weave", "--ipam-driver", "netkit",
            "--ipam-opt", "netkit.network=weave", "-o", "netkit.network=weave", "lane",
        )  # fmt: skip
    reach(launched)
    for host, other in zip(launched, ("there", "here"), strict=True):
        name = {"there": "here", "here": "there"}[other]
        host.wait("the name", lambda host=host, name=name, other=other: pings(host, name, other))
        assert pings(host, name, f"{other}.weave.local")
        way = trace(host, name, other)
        assert " tunnel to " in way, way


def test_a_weave_network_of_ones_own(launched: Hosts) -> None:
    for host in launched:
        create(host, "netkit-weave", subnet="10.32.64.0/18")
    reach(launched)


def agreed(host: DockerHost) -> bool:
    """Whether this host's cluster has a leader, and both hosts as servers."""
    status = host.net("/netkit/cluster")
    return bool(status["Answers"] and status["Leader"] and len(status["Servers"]) == 2)


def test_an_ovs_network_of_all_hosts_of_a_cluster(hosts: Hosts) -> None:
    here, there = hosts
    here.netkit.netkit("cluster", "init", "--address", HOST)
    there.netkit.netkit("cluster", "join", "--address", NEIGHBOUR, HOST)
    for host in hosts:
        host.wait("both hosts", lambda host=host: agreed(host))
    try:
        create(here, "netkit-ovs", "-o", "netkit.scope=global")
        there.wait("the network", lambda: there.netkit.netkit(
            "net", "inspect", "lane", check=False).returncode == 0)  # fmt: skip
        create(there, "netkit-ovs", "--ipam-opt", "netkit.network=lane")
        reach(hosts)
        here.wait("the name", lambda: pings(here, "here", "there"))
        taken = there.docker.docker(
            "run", "--rm", "--network", "lane", "--ip", here.docker.address("here", "lane"),
            "busybox", "true", check=False,
        )  # fmt: skip
        assert "is held by container here" in taken.stderr
    finally:
        for host in (there, here):
            host.docker.clear()
            host.netkit.netkit("cluster", "leave", check=False)
