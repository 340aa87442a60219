"""Weave networks on one host, by the stock docker command; the overlay's process is not there."""

from __future__ import annotations

import time
from ipaddress import IPv4Address

import pytest

from netkit.overlay.fabric import Fabric, Member, NetworkTable, Reach, Table
from tests.engine import wire
from tests.engine.daemon import Engine, netkit_only
from tests.engine.wire import WORLD

pytestmark = [pytest.mark.engine, netkit_only("it has no weave driver")]


def _links(engine: Engine, name: str) -> list[str]:
    id = engine.out("network", "inspect", "-f", "{{.Id}}", name).strip()
    return [f"w{letter}-{id[:12]}" for letter in "vtx"]


def test_containers_are_apart_from_the_host_and_repaired(engine: Engine) -> None:
    engine.out("network", "create", "-d", "weave", "--subnet", "10.32.0.0/24", "lane")
    for name in ("one", "two"):
        engine.up("--network", "lane", "busybox", "sleep", "1000", name=name)
    ping = ("exec", "one", "ping", "-c1", "-W2")
    assert "1 packets received" in engine.out(*ping, "two")
    assert "default" not in engine.out("exec", "one", "ip", "route")
    assert engine.netkit("net", "check", check=False).returncode == 0
    bridge, tap, vxlan = _links(engine, "lane")
    for command in (
        f"ip link del {tap}", f"ip link del {vxlan}", f"bridge link set dev {tap} learning on",
        f"bridge link set dev {vxlan} isolated off neigh_suppress off",
        f"ip link set {tap} gso_max_size 65536 mtu 1300", f"ip link del {bridge}",
    ):  # fmt: skip
        assert wire.run(engine.netns, *command.split()).returncode == 0, command
        _repaired(engine, ping)
    engine.kill9()
    engine.restart()
    assert engine.netkit("net", "check", check=False).returncode == 0
    refused = engine.docker(
        "run", "--network", "lane", "-p", "80", "busybox", "true", check=False
    )
    assert refused.returncode == 125
    assert "network lane publishes no ports: this host has no address on it" in refused.stderr
    engine.out("rm", "-f", "one", "two")
    engine.out("network", "rm", "lane")
    left = wire.run(engine.netns, "ip", "-o", "link").stdout
    assert not any(name in left for name in (bridge, tap, vxlan))


def _repaired(engine: Engine, ping: tuple[str, ...]) -> None:
    deadline = time.monotonic() + 30
    while (
        engine.netkit("net", "check", check=False).returncode
        or "1 packets received" not in engine.docker(*ping, "two", check=False).stdout
    ):
        assert time.monotonic() < deadline, engine.log_tail()
        time.sleep(0.2)


def test_a_network_that_is_exposed_reaches_the_world_and_publishes_ports(engine: Engine) -> None:
    engine.out("network", "create", "-d", "weave", "-o", "expose=true", "-o", "encrypted=",
               "--subnet", "10.33.0.0/24", "open")  # fmt: skip
    engine.up("--network", "open", "-p", "8080:80", "busybox", "httpd", "-f", "-h", "/www",
              name="web")  # fmt: skip
    assert "1 packets received" in engine.out("exec", "web", "ping", "-c1", "-W2", WORLD)
    assert wire.connected(engine.wire.neighbour, f"http://{wire.HOST}:8080/", within=10)
    _, tap, vxlan = _links(engine, "open")
    links = wire.run(engine.netns, "ip", "-o", "link").stdout
    assert tap in links
    assert vxlan not in links  # nothing can go out in clear


def test_what_the_overlay_s_process_has_set_is_not_netkitd_s_to_remove(engine: Engine) -> None:
    engine.out("network", "create", "-d", "weave", "--subnet", "10.34.0.0/24", "lane")
    engine.up("--network", "lane", "busybox", "sleep", "1000", name="one")
    bridge, tap, vxlan = _links(engine, "lane")
    peer = IPv4Address("10.77.0.2")
    member = Member(mac="02:42:0a:22:00:63", addresses=(IPv4Address("10.34.0.99"),), peer="p")
    net = NetworkTable(vni=9, bridge=bridge, tap=tap, vxlan=vxlan, members=(member,))
    reach = Reach(path="fastdp", address=peer, sources=frozenset({peer}))
    with Fabric(f"/run/netns/{engine.netns}") as fabric:
        outcome = fabric.apply(Table(networks=(net,), peers={"p": reach}))
        assert (outcome.problems, outcome.no_fastdp) == ((), "")
        assert engine.netkit("net", "check", check=False).returncode == 0
        engine.kill9()
        engine.restart()
        engine.docker("restart", "-t", "0", "one")
        assert engine.netkit("net", "check", check=False).returncode == 0
        assert fabric.repair().changed == 0
        engine.out("rm", "-f", "one")
        engine.out("network", "rm", "lane")
        fabric.remove()
