"""`netkit net trace` over the weave overlay, held to packets between two engines."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from netkit.lab.probe import Seen, probe
from netkit.testing.waiting import eventually
from tests.engine import weave_hosts, wire
from tests.engine.daemon import netkit_only
from tests.engine.test_networks import WEB
from tests.engine.weave_hosts import Host, Hosts

pytestmark = [pytest.mark.root, pytest.mark.engine, netkit_only("it has no weave driver")]
ONE, TWO, THREE = "10.32.1.1", "10.32.2.1", "10.32.2.2"
SETTLE = 60.0  # seconds until a trace and packets must agree: peers are noticed to be gone


@dataclass(frozen=True)
class Pair:
    """Containers `one` on the first host, `two` and `three` on the second, all on network weave."""

    first: Host
    second: Host

    def trace(self, *args: str, back: bool = False, alone: bool = False) -> dict[str, Any]:
        here, there = (self.second, self.first) if back else (self.first, self.second)
        via = () if alone else ("--via", f"there={there.engine.host}")
        argv = ("net", "trace", "--format", "json", *via, *args)
        done = here.engine.netkit(*argv, check=False)
        assert not done.stderr, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def probe(self, container: str, address: str) -> Seen:
        host = self.first if container == "one" else self.second
        sandbox = host.engine.inspect(container)["NetworkSettings"]["SandboxKey"]
        return probe(sandbox, "tcp", address, 80, 1.5)

    def agrees(self, code: str, source: str = "one", target: str = TWO) -> dict[str, Any]:
        """The trace, once it has that code; packets must not contradict it."""
        deadline = time.monotonic() + SETTLE
        while True:
            found = self.trace(source, target, "tcp/80", back=not source.startswith("one"))
            address = found["packet"].split()[2] if found["packet"] else target
            seen = self.probe(source.partition(":")[0], address) if found["code"] == code else None
            if seen is not None and (seen.verdict == "open" if code == "delivered" else
                                     not seen.reached):  # fmt: skip
                return found
            assert time.monotonic() < deadline, (found["code"], found["words"], seen)
            time.sleep(0.2)


@pytest.fixture(scope="module")
def pair(weave_hosts_of_module: Hosts) -> Pair:
    first, second = weave_hosts_of_module
    weave_hosts.launch((first, second))
    for host, name, address in ((first, "one", ONE), (second, "two", TWO),
                                (second, "three", THREE)):  # fmt: skip
        host.engine.up("--network", "weave", "--ip", address, *WEB, name=name)
    made = Pair(first, second)
    made.agrees("delivered")
    return made


def ways(found: dict[str, Any]) -> list[str]:
    return [s["why"] for s in (*found["request"], *found["answer"]) if s["what"] == "overlay"]


def changed(host: Host, command: str) -> None:
    assert wire.run(host.engine.netns, *command.split()).returncode == 0, command


def wrong(host: Host) -> str:
    """What `net check` and `fw check` have to report; "" for nothing."""
    found = [host.engine.netkit(each, "check", check=False) for each in ("net", "fw")]
    return "".join(each.stdout for each in found if each.returncode)


@contextmanager
def done(host: Host, command: str, undo: str) -> Iterator[None]:
    changed(host, command)
    try:
        yield
    finally:
        wire.run(host.engine.netns, *undo.split())


def test_it_goes_through_the_overlay_and_says_by_which_way(pair: Pair) -> None:
    eventually(lambda: all("fastdp" in way for way in ways(pair.agrees("delivered"))))
    there, arrived, *_ = ways(pair.agrees("delivered", "two", ONE))
    assert there.startswith("fastdp to h1 (10.77.0.1): VXLAN number ")
    assert there.endswith("udp/6784; probed 1422 bytes")
    assert arrived.startswith("fastdp from 10.77.0.2 by eth0: VXLAN number ")
    found = pair.trace("one", "two", "tcp/80", alone=True)  # its name is known here
    assert (found["code"], found["words"]) == (
        "beyond", "it leaves the host by fastdp tunnel to h2 (10.77.0.2), where no engine could be "
        f"asked; two is on h2 ({TWO})")  # fmt: skip
    assert found["fix"] == "follow it there: --via h2=URL"
    assert pair.trace("one", "two", "tcp/81")["code"] == "not-listening"
    assert pair.agrees("no-neighbour", "one", "10.32.9.9")["verdict"] == "UNROUTED"


def test_what_another_tool_does_to_the_overlay_is_repaired_and_packets_flow(pair: Pair) -> None:
    first, second = pair.first, pair.second
    (bridge, tap, vxlan), (other, _, far) = first.links, second.links
    for commands in (
        ((first, f"ip link del {vxlan}"), (first, f"ip link del {tap}"),
         (second, f"ip link set {far} nomaster")),
        ((first, "nft flush ruleset"), (first, f"ip link set {bridge} down"),
         (second, f"ip link del {other}")),
    ):  # fmt: skip
        for host, command in commands:
            changed(host, command)
        pair.agrees("delivered")
        eventually(lambda: not wrong(first) + wrong(second))


def test_what_a_container_may_not_send_does_not_leave_its_host(pair: Pair) -> None:
    sandbox = pair.first.engine.inspect("one")["NetworkSettings"]["SandboxKey"]
    inside = f"nsenter --net={sandbox} ip addr"
    with done(pair.first, f"{inside} add 10.32.1.9/12 dev eth0", f"{inside} del 10.32.1.9/12 dev "
              "eth0"):  # fmt: skip
        argv = f"nsenter --net={sandbox} ip route add {TWO} dev eth0 src 10.32.1.9".split()
        assert wire.run(pair.first.engine.netns, *argv).returncode == 0
        pair.agrees("source-guard")
    pair.agrees("delivered")


def test_a_rule_that_drops_holds_for_other_hosts_and_for_neighbours(pair: Pair) -> None:
    engine = pair.second.engine
    explain = ("fw", "explain", "one", "two", "80")
    eventually(lambda: engine.netkit(*explain, check=False).returncode == 0)  # it knows the name
    for source, written in (("one", "one"), ("one", ONE), ("three", "three")):
        rule = engine.netkit("fw", "drop", "--src", written, "--to", "two").stdout.strip()
        found = pair.agrees("access-rule", source)
        assert found["fix"] == f"netkit fw rm {rule[:12]}", found
        asked = engine.netkit("fw", "explain", source, "two", "80", check=False)
        assert re.search("DROPPED: dropped by rule .* of filter DOCKER-ACCESS", asked.stdout)
        engine.netkit("fw", "rm", rule)
        pair.agrees("delivered", source)
    there = engine.netkit("fw", "explain", "two", "one", "80", check=False)
    assert "to the overlay's other hosts by wv-" in there.stdout, there
    assert "but containers of weave on other hosts do" in engine.netkit("fw", "show").stdout


def test_an_address_of_several_is_followed_as_any_other(pair: Pair) -> None:
    for host, name, address in ((pair.first, "one", "192.168.7.1"),
                                (pair.second, "three", "192.168.7.3")):  # fmt: skip
        host.post("/attach", Container=name, Addresses=[f"{address}/24"])
    found = pair.agrees("delivered", "one", "192.168.7.3")
    assert found["packet"] == "192.168.7.1 -> 192.168.7.3 tcp/80"
    pair.agrees("delivered")


def test_names_are_followed_on_a_network_of_both_and_not_by_bridges_of_one_host(
    pair: Pair,
) -> None:
    for host, name in ((pair.first, "one"), (pair.second, "three")):
        host.engine.docker("network", "connect", "bridge", name)
    bridged = pair.first.engine.address("one", "bridge")
    assert pair.second.engine.address("three", "bridge") == bridged, "both have the same"
    for source, target, packet in (
        ("one", "three:weave", f"{ONE} -> {THREE}"), ("one", "two", f"{ONE} -> {TWO}"),
        ("one:weave", "two", f"{ONE} -> {TWO}"), ("two", "one", f"{TWO} -> {ONE}"),
    ):  # fmt: skip
        found = pair.agrees("delivered", source, target)
        assert found["packet"] == f"{packet} tcp/80", (source, target)
    assert "one:NETWORK, chooses" in found["notes"][0]
    found = pair.trace("one", "three")  # nothing else is a ping
    assert (found["code"], found["packet"]) == ("delivered", f"{ONE} -> {THREE} icmp")
    refused = pair.first.engine.netkit(
        "net", "trace", "--via", f"there={pair.second.engine.host}", "one", "three:bridge", "80",
        check=False,
    )  # fmt: skip
    assert "one and three have no network in common" in refused.stderr
    for host, name in ((pair.first, "one"), (pair.second, "three")):
        host.engine.docker("network", "disconnect", "bridge", name)


def test_what_does_not_fit_is_named(pair: Pair) -> None:
    eventually(lambda: "fastdp" in ways(pair.agrees("delivered"))[0])
    assert pair.trace("one", "two", "icmp", "--size", "1400")["code"] == "delivered"
    assert pair.trace("one", "two", "icmp", "--size", "1401")["code"] == "too-big"
    narrow, wide = (f"ip link set eth0 mtu {mtu}" for mtu in (1300, 1500))
    with done(pair.first, narrow, wide):
        found = pair.trace("one", "two", "icmp", "--size", "1400")
        assert found["code"] == "too-big" or "sleeve" in ways(found)[0], found
        eventually(
            lambda: pair.trace("one", "two", "icmp", "--size", "1400")["code"] == "delivered"
        )
        # Each side notices by itself that the path is narrow, within 15 s.
        eventually(lambda: pings(pair.first, "one", TWO, size=1400))


def pings(host: Host, container: str, address: str, *, size: int) -> bool:
    """With a packet of that many bytes."""
    ping = ("exec", container, "ping", "-c1", "-W4", "-s", str(size - 28), address)
    return host.engine.docker(*ping, check=False).returncode == 0


def test_what_a_firewall_does_to_the_outer_packet_is_shown_until_another_way_is_taken(
    pair: Pair,
) -> None:
    drop = "INPUT -p udp --dport 6784 -j DROP"
    with done(pair.second, f"iptables -I {drop}", f"iptables -D {drop}"):
        found = pair.trace("one", "two", "tcp/80")
        assert found["code"] == "fw-drop" or "sleeve" in ways(found)[0], found
        there = ways(pair.agrees("delivered"))[0]
        assert there.startswith("sleeve to h2 (10.77.0.2), udp/6783, in clear; ")
        for host in (pair.first, pair.second):
            changed(host, f"ip link del {host.links[1]}")
            pair.agrees("delivered")
        both = "INPUT -p udp --dport 6783 -j DROP"
        with done(pair.second, f"iptables -I {both}", f"iptables -D {both}"):
            found = pair.agrees("fw-drop")
            assert "the outer packet, udp/6783 to 10.77.0.2: dropped in the host" in found["words"]
        pair.agrees("delivered")


def test_what_is_wrong_with_the_overlay_is_found_and_a_host_without_it_named(pair: Pair) -> None:
    """Last of all: the second host's state is damaged afterwards."""
    engine, service = pair.second.engine, pair.second.service
    assert wrong(pair.second) == ""
    for name in ("overlay.db", "overlay.db-wal"):
        service.folders.database.with_name(name).write_bytes(b"damaged")
    os.kill(pair.second.pid, signal.SIGKILL)
    eventually(lambda: "launched and does not run" in wrong(pair.second))
    assert wire.run(engine.netns, "nft", "delete", "table", "ip", "netkit-weave").returncode == 0
    words = "table ip netkit-weave, which checks who sends VXLAN frames to weave, is gone"
    assert wrong(pair.second).count(words) == 2, "by either command"
    pair.second.post("/stop")
    assert wrong(pair.second) == ""
    found = pair.agrees("overlay-off", "two", ONE)
    assert found["fix"] == "netkit weave launch"
    pair.agrees("delivered", "three")
    found = pair.agrees("no-neighbour")
    assert "h2 has it, but is dead" in found["words"], found
