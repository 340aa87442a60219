"""Containers on the host's own segment, by the stock docker command and by netkit's.

The host's NIC and its neighbour are those of `wire`; the neighbour is the LAN's router, too.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.engine import wire
from tests.engine.daemon import Engine, netkit_only
from tests.engine.wire import HOST, NEIGHBOUR, WORLD

pytestmark = [pytest.mark.engine, netkit_only("it has no lan driver")]

CREATE = (
    "network", "create", "--driver", "lan", "-o", "parent=eth0", "--subnet", "10.77.0.0/24",
    "--gateway", NEIGHBOUR, "--ip-range", "10.77.0.128/26", "lan0",
)  # fmt: skip


@pytest.fixture
def engine(own_engine: Engine) -> Engine:
    own_engine.load_image()
    return own_engine


def addressing(engine: Engine, dev: str) -> tuple[str, str]:
    shown = wire.run(engine.netns, "ip", "-4", "-o", "addr", "show", "dev", dev).stdout
    routes = wire.run(engine.netns, "ip", "-4", "route", "show", "dev", dev).stdout
    return " ".join(shown.split()[3:6]), routes


def pings(netns: str, target: str) -> bool:
    return wire.run(netns, "busybox", "ping", "-c1", "-W1", target).returncode == 0


def repaired(engine: Engine) -> None:
    deadline = time.monotonic() + 60
    while engine.netkit("net", "check", check=False).returncode or not pings(
        engine.wire.neighbour, "10.77.0.128"
    ):
        assert time.monotonic() < deadline, engine.log_tail()
        time.sleep(0.2)


def test_a_container_is_a_host_of_the_lan_and_the_nic_is_given_back(engine: Engine) -> None:
    before = addressing(engine, "eth0")
    assert before[0]
    engine.out(*CREATE)
    assert addressing(engine, "br-eth0") == before
    engine.up("--network", "lan0", "busybox", "sleep", "1000", name="web")
    assert engine.address("web", "lan0") == "10.77.0.128"
    assert pings(engine.wire.neighbour, "10.77.0.128")
    for target in (HOST, NEIGHBOUR, WORLD):
        assert "1 packets received" in engine.out("exec", "web", "ping", "-c1", "-W2", target)
    output = engine.netkit("fw", "show", "web").stdout
    assert "by lan0: the LAN itself: every host on it reaches all ports at 10.77.0.128" in output
    engine.docker("restart", "-t", "0", "web")
    assert engine.address("web", "lan0") == "10.77.0.128"
    assert pings(engine.wire.neighbour, "10.77.0.128")
    endpoint = engine.inspect("web")["NetworkSettings"]["Networks"]["lan0"]["EndpointID"]
    lost = addressing(engine, "br-eth0")
    for command in (
        "link set eth0 nomaster", f"link del veth{endpoint[:11]}", "link del br-eth0",
        "link set br-eth0 down", "link set br-eth0 name foo",
    ):  # fmt: skip
        assert wire.run(engine.netns, "ip", *command.split()).returncode == 0
        repaired(engine)
        assert pings(engine.wire.neighbour, "10.77.0.128")
        assert addressing(engine, "br-eth0") == lost, command  # the host's own came back, too
    shown = json.loads(engine.out("network", "inspect", "lan0"))[0]
    assert (shown["Driver"], shown["IPAM"]["Config"][0]["Gateway"]) == ("lan", NEIGHBOUR)
    engine.out("rm", "-f", "web")
    engine.out("network", "rm", "lan0")
    assert addressing(engine, "eth0") == before
    assert wire.run(engine.netns, "ip", "link", "show", "br-eth0").returncode != 0


def test_an_address_that_the_neighbour_uses_is_skipped(engine: Engine) -> None:
    engine.out(*CREATE)
    wire.run(engine.wire.neighbour, "ip", "addr", "add", "10.77.0.128/24", "dev", "eth0")
    try:
        engine.up("--network", "lan0", "busybox", "sleep", "1000", name="web")
        assert engine.address("web", "lan0") == "10.77.0.129"
        taken = engine.docker("run", "--rm", "--network", "lan0", "--ip", "10.77.0.128",
                              "busybox", "true", check=False)  # fmt: skip
        assert "10.77.0.128 is in use on br-eth0" in taken.stderr
    finally:
        wire.run(engine.wire.neighbour, "ip", "addr", "del", "10.77.0.128/24", "dev", "eth0")


def test_what_a_kill_of_the_daemon_leaves_goes_on_and_is_taken_over(engine: Engine) -> None:
    before = addressing(engine, "eth0")
    engine.out(*CREATE)
    engine.up("--network", "lan0", "busybox", "sleep", "1000", name="web")
    engine.kill9()
    assert pings(engine.wire.neighbour, "10.77.0.128")
    engine.start()
    assert pings(engine.wire.neighbour, "10.77.0.128")
    assert addressing(engine, "br-eth0") == before
    engine.out("rm", "-f", "web")
    engine.out("network", "rm", "lan0")
    assert addressing(engine, "eth0") == before


def test_a_port_cannot_be_published_on_the_lan(engine: Engine) -> None:
    engine.out(*CREATE)
    tried = engine.docker(
        "run", "-d", "--network", "lan0", "-p", "8080:80", "busybox", "true", check=False
    )
    assert tried.returncode != 0
    assert "lan0 publishes no ports" in tried.stderr


def test_a_drop_rule_holds_for_a_neighbour_on_the_lan(engine: Engine) -> None:
    engine.out(*CREATE)
    engine.up("--network", "lan0", "busybox", "sleep", "1000", name="web")
    assert pings(engine.wire.neighbour, "10.77.0.128")
    engine.netkit("fw", "drop", "--src", NEIGHBOUR, "--to", "web")
    assert not pings(engine.wire.neighbour, "10.77.0.128")
    assert pings(engine.netns, "10.77.0.128")


def test_a_drop_rule_that_an_existing_bridge_hides_packets_from_is_refused_with_the_command(
    engine: Engine,
) -> None:
    """The host's NIC stays where it is: a second neighbour lives on the bridge."""
    for command in (
        "sysctl -qw net.bridge.bridge-nf-call-iptables=0", "ip link add br9 type bridge",
        "ip addr add 10.9.0.1/24 dev br9", "ip link set br9 up",
    ):  # fmt: skip
        assert wire.run(engine.netns, *command.split()).returncode == 0
    engine.out("network", "create", "--driver", "lan", "-o", "bridge=br9", "--subnet",
               "10.9.0.0/24", "--gateway", "10.9.0.1", "-o", "probe=0", "lan9")  # fmt: skip
    for name in ("web", "mate", "lone"):
        engine.up("--network", "lan9", "busybox", "sleep", "1000", name=name)
    web = engine.address("web", "lan9")

    def reaches(name: str) -> bool:
        return engine.docker("exec", name, "ping", "-c1", "-W1", web, check=False).returncode == 0

    done = engine.netkit("fw", "drop", "--src", "mate", "--to", "web", check=False)
    assert done.returncode != 0
    assert "would not hold on network lan9" in done.stderr
    command = done.stderr.split("type `", 1)[1].split("`")[0]
    assert engine.netkit("fw", "ls", "-q").stdout == ""
    assert reaches("mate")
    assert wire.run(engine.netns, *command.split()).returncode == 0
    made = engine.netkit("fw", "drop", "--src", "mate", "--to", "web")
    assert made.stderr == ""
    assert not reaches("mate")
    assert reaches("lone")


def test_an_address_comes_from_the_lans_dhcp_server(engine: Engine, tmp_path: Path) -> None:
    config = tmp_path / "udhcpd.conf"
    config.write_text(
        "start 10.77.0.60\nend 10.77.0.69\ninterface eth0\noption subnet 255.255.255.0\n"
        f"option router {NEIGHBOUR}\nlease_file {tmp_path}/leases\npidfile {tmp_path}/pid\n"
    )
    (tmp_path / "leases").touch()
    argv = wire.inside(engine.wire.neighbour, "busybox", "udhcpd", "-f", str(config))
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        engine.out("network", "create", "--driver", "lan", "--ipam-driver", "dhcp",
                   "-o", "parent=eth0", "lan0")  # fmt: skip
        engine.up("--network", "lan0", "busybox", "sleep", "1000", name="web")
        settings = engine.inspect("web")["NetworkSettings"]["Networks"]["lan0"]
        assert settings["IPAddress"].startswith("10.77.0.6")
        assert (settings["IPPrefixLen"], settings["Gateway"]) == (24, NEIGHBOUR)
        assert pings(engine.wire.neighbour, settings["IPAddress"])
        assert "1 packets received" in engine.out("exec", "web", "ping", "-c1", "-W2", WORLD)
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize(
    "own_engine",
    [(f"--firewall-backend={b}",) for b in ("iptables-nft", "nftables", "iptables-legacy")],
    indirect=True,
    ids=lambda flags: flags[0].partition("=")[2],
)
def test_the_guard_of_ports_is_put_back_when_another_tool_removes_it(own_engine: Engine) -> None:
    own_engine.out(*CREATE)
    own_engine.up("--network", "lan0", "busybox", "sleep", "1000", name="web")
    before = guard(own_engine)
    assert "10.77.0.128" in before
    wire.run(own_engine.netns, "nft", "flush", "ruleset")
    until = time.monotonic() + 30
    while guard(own_engine) != before:
        assert time.monotonic() < until
        time.sleep(0.1)


def guard(engine: Engine) -> str:
    """Return the tables of the bridge family, without counters and handles."""
    shown = wire.run(engine.netns, "nft", "-s", "list", "tables", "bridge").stdout
    tables = [line.split()[2] for line in shown.splitlines()]
    return "\n".join(
        wire.run(engine.netns, "nft", "-s", "list", "table", "bridge", t).stdout for t in tables
    )
