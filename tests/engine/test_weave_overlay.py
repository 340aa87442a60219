"""Two engines on one wire, and the weave overlay between them, by netkit's own routes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from netkit.client.failure import Refused
from netkit.testing.waiting import eventually
from tests.engine import weave_hosts, wire
from tests.engine.daemon import DOCKER, netkit_only
from tests.engine.weave_hosts import Host, Hosts
from tests.engine.wire import HOST

pytestmark = [pytest.mark.root, pytest.mark.engine, netkit_only("it has no weave driver")]


@pytest.fixture
def hosts(weave_hosts_of_module: Hosts) -> Iterator[Hosts]:
    """Hosts h1 and h2, which are peers; there is no container, and no network but weave."""
    weave_hosts.launch(weave_hosts_of_module)
    yield weave_hosts_of_module
    for host in weave_hosts_of_module:
        host.engine.clear(keep_networks=("weave",))


def test_containers_of_two_hosts_reach_each_other(hosts: Hosts) -> None:
    first, second = hosts
    one, two = first.run(name="one"), second.run(name="two")
    eventually(lambda: first.pings("one", two))
    eventually(lambda: second.pings("two", one))


def test_addresses_are_allocated_by_the_hosts_together(hosts: Hosts) -> None:
    first, second = hosts
    first.run(name="one")
    given = [h.run(name=f"more{n}") for n in range(2) for h in hosts]
    assert len(set(given)) == len(given)
    third = first.run("--ip", "10.32.7.7", name="chosen")
    assert third == "10.32.7.7"
    taken = second.engine.docker(
        "run", "-d", "--network", "weave", "--ip", third, "busybox", "true", check=False
    )
    assert taken.returncode == 125
    assert f"{third} is in use at h1" in taken.stderr


def test_a_running_container_is_attached_and_detached(hosts: Hosts) -> None:
    first, second = hosts
    name, there = first.engine.sleeper(), second.run(name="two")
    only = first.post("/attach", Container=name, Addresses=["10.32.8.8/12"])
    assert only == {"Addresses": ["10.32.8.8/12"], "Warnings": []}
    assert "ethwe" in first.engine.out("exec", name, "ip", "link")
    eventually(lambda: first.pings(name, there))
    row = next(r for r in first.ask("GET", "/ps") if r["Name"] == name)
    assert row["Addresses"] == ["10.32.8.8/12"]
    more = first.post("/attach", Container=name, Addresses=["192.168.9.2/24", "net:default"])
    assert more["Addresses"] == ["192.168.9.2/24", "10.32.8.8/12"]
    assert first.post("/detach", Container=name, Addresses=["ip:10.32.8.8/12"]) == {
        "Addresses": ["10.32.8.8/12"]
    }
    shown = first.engine.out("exec", name, "ip", "-4", "addr", "show", "ethwe")
    assert "192.168.9.2/24" in shown
    assert "10.32.8.8" not in shown
    assert first.post("/detach", Container=name) == {"Addresses": ["192.168.9.2/24"]}
    assert "ethwe" not in first.engine.out("exec", name, "ip", "link")


def test_a_host_is_exposed_and_hidden(hosts: Hosts) -> None:
    first, second = hosts
    (address,) = first.post("/expose", Addresses=["10.32.0.200/12"], Names=["h1"])["Addresses"]
    assert address == "10.32.0.200/12"
    there = second.run(name="two")
    ping = ("ping", "-c1", "-W4", there)
    eventually(lambda: wire.run(first.engine.netns, "busybox", *ping).returncode == 0)
    eventually(lambda: second.pings("two", "10.32.0.200"))
    eventually(lambda: second.lookup("h1.weave.local") == ["10.32.0.200"])
    first.post("/expose", Addresses=["192.168.5.250/24"])
    second.post("/attach", Container="two", Addresses=["192.168.5.2/24"])
    eventually(lambda: second.pings("two", "192.168.5.250"))
    second.post("/detach", Container="two", Addresses=["192.168.5.2/24"])
    assert any(r["Container"] == "weave:expose" for r in first.ask("GET", "/ps"))
    assert first.post("/hide") == {"Addresses": [address, "192.168.5.250/24"]}
    assert first.post("/hide") == {"Addresses": []}
    eventually(lambda: second.lookup("h1.weave.local") == [])


def released(host: Host, address: str) -> bool:
    return address not in [held for _, held in host.held()]


def test_addresses_that_were_freed_are_had_again_at_once(hosts: Hosts) -> None:
    first, second = hosts
    for host, next_elsewhere in ((first, False), (first, True), (second, True), (first, False)):
        assert host.run("--ip", "10.32.5.5", name="fixed") == "10.32.5.5"
        host.engine.docker("rm", "-f", "fixed")
        if next_elsewhere:  # which does not wait for this host's release
            eventually(partial(released, host, "10.32.5.5"))
    had = first.run(name="back")
    first.engine.docker("stop", "-t", "0", "back")
    other = first.run(name="between")
    first.engine.docker("start", "back")
    assert first.engine.address("back", "weave") == had != other
    for _ in range(2):
        first.post("/attach", Container="back", Addresses=["10.32.6.6/12"])
        first.post("/detach", Container="back", Addresses=["10.32.6.6/12"])
        third = first.post("/expose", Addresses=["10.32.8.7/12"])
        assert third == {"Addresses": ["10.32.8.7/12"], "Warnings": []}
        more = ["10.32.8.1/12", "10.2.1.132/24"]
        assert first.post("/expose", Addresses=more, Names=["h1.weave.local"])["Addresses"] == more
        assert first.post("/hide", Addresses=["10.32.8.7/12"])["Addresses"] == ["10.32.8.7/12"]
        shown = wire.run(first.engine.netns, "ip", "-4", "addr", "show", first.links[0]).stdout
        assert [each in shown for each in ("10.32.8.7/", *more)] == [False, True, True]
        assert first.post("/hide")["Addresses"] == more


def test_a_network_inside_of_the_overlay_s_range(hosts: Hosts) -> None:
    first, second = hosts
    lane = ("network", "create", "-d", "weave", "--subnet", "10.40.0.0/16")
    first.engine.out(*lane, "-o", "expose=true", "lane")
    second.engine.out(*lane, "lane")
    first.post("/expose")
    first.engine.sleeper("--network", "lane", name="inner1")
    second.engine.sleeper("--network", "lane", name="inner2")
    first.run(name="outer1")
    there = second.engine.address("inner2", "lane")
    assert there.startswith("10.40.")
    assert not first.engine.address("outer1", "weave").startswith("10.40.")
    eventually(lambda: first.pings("inner1", there))
    id = first.engine.out("network", "inspect", "-f", "{{.Id}}", "lane")[:12]
    for address, bridge in ((there, f"wv-{id}"), ("10.32.0.77", first.links[0])):
        route = wire.run(first.engine.netns, "ip", "route", "get", address).stdout
        assert f"dev {bridge} " in route
    first.post("/hide")


def test_names_that_are_added_are_known_everywhere(hosts: Hosts) -> None:
    first, second = hosts
    here = first.run(name="one")
    first.post("/dns/add", Container="one", Name="shop")
    eventually(lambda: second.lookup("shop.weave.local") == [here])
    first.post("/dns/remove", Container="one", Name="shop")
    eventually(lambda: second.lookup("shop.weave.local") == [])
    first.post("/dns/add", Addresses=["192.0.2.9"], Name="far")
    eventually(lambda: second.lookup("far.weave.local") == ["192.0.2.9"])
    first.post("/dns/remove", Name="far")


def test_networks_of_one_name_are_one_segment(hosts: Hosts) -> None:
    first, _ = hosts
    for host in hosts:
        host.engine.out("network", "create", "-d", "weave", "--subnet", "10.50.0.0/24", "lane")
        host.engine.sleeper("--network", "lane", name="apart")
    one, two = (host.engine.address("apart", "lane") for host in hosts)
    assert one != two
    eventually(lambda: first.pings("apart", two))
    assert not first.pings("apart", first.run(name="one"))
    for host in hosts:
        host.engine.out("rm", "-f", "apart")
        host.engine.out("network", "rm", "lane")
    eventually(lambda: "lane" not in [n["name"] for n in first.status["Status"]["networks"]])


def test_after_kills_everything_is_as_before(hosts: Hosts) -> None:
    """That those of the overlay's process cost no packet either is in tests/netns: it depends on
    how long its start takes, which the others wait for."""
    first, second = hosts
    here, there = first.run(name="one"), second.run(name="two")
    eventually(lambda: first.pings("one", there))
    eventually(lambda: all(host.ways() == ["fastdp"] for host in hosts))
    before = [host.held() for host in hosts]
    victim = second.pid
    with pinging(first, "one", there) as lost:
        second.engine.kill9()
        assert second.pid == victim, "the overlay's process goes on"
        second.engine.restart()
        assert second.engine.stop() == 0
        assert second.pid == victim
        second.engine.restart()
    assert lost == [0]
    assert second.pid == victim
    for host in hosts:
        os.kill(host.pid, signal.SIGKILL)
    eventually(lambda: all(host.status["Running"] for host in hosts))
    eventually(lambda: all(host.ways() == ["fastdp"] for host in hosts))
    eventually(lambda: first.pings("one", there))
    assert [host.held() for host in hosts] == before
    assert first.engine.address("one", "weave") == here
    eventually(lambda: all(host.status["Warnings"] == [] for host in hosts))
    late = first.run(name="late")
    eventually(lambda: second.pings("two", late))


def test_stop_and_reset_leave_nothing(hosts: Hosts) -> None:
    first, second = hosts
    first.run(name="one")
    second.run(name="two")
    pid = second.pid
    second.post("/stop")
    assert not os.path.exists(f"/proc/{pid}")
    assert second.status["Launched"] is False
    assert "netkit-weave" not in wire.run(second.engine.netns, "nft", "list", "tables").stdout
    with pytest.raises(Refused, match="netkit weave launch"):
        second.post("/stop")
    second.engine.out("network", "inspect", "weave")
    second.post("/reset")
    for link in wire.run(second.engine.netns, "ip", "-o", "link").stdout.splitlines():
        assert not link.split(": ")[1].startswith(("wv-", "wt-", "wx-")), link
    assert list((second.engine.root / "weave").iterdir()) == []
    assert {f.name for f in (second.engine.rundir / "weave").iterdir()} <= {"log", "errors"}
    networks = second.engine.inspect("two")["NetworkSettings"]["Networks"]
    assert networks == {}
    assert second.post("/launch", Nickname="h2", Peers=[HOST])["Running"]
    second.post("/attach", Container="two")
    eventually(lambda: first.pings("one", second.engine.address("two", "weave")))
    # Launched, it gives its addresses to the other host, and containers leave all the same.
    assert second.post("/reset") == {"Containers": ["two"]}
    assert second.engine.inspect("two")["NetworkSettings"]["Networks"] == {}


def test_what_cannot_be_done_is_refused_with_docker_s_statuses(hosts: Hosts) -> None:
    first, _ = hosts
    first.run(name="one")
    first.run("--ip", "10.32.7.7", name="chosen")
    first.engine.docker("create", "--name", "idle", "busybox", "true")
    for status, path, body in (
        (409, "/launch", {}),
        (404, "/attach", {"Container": "nosuch"}),
        (409, "/attach", {"Container": "idle"}),
        (400, "/attach", {"Container": "one", "Addresses": ["10.32.0.1"]}),
        (404, "/detach", {"Container": "one", "Addresses": ["10.32.99.99/12"]}),
        (400, "/expose", {"Addresses": ["192.168.1.1"]}),
        (409, "/expose", {"Addresses": ["10.32.7.7/12"]}),
        (404, "/hide", {"Addresses": ["192.168.1.1/24"]}),
        (400, "/connect", {"Peers": ["h1:x"]}),
        (404, "/forget", {"Peers": ["192.0.2.99"]}),
        (404, "/rmpeer", {"Peer": "nosuch"}),
        (404, "/dns/remove", {"Name": "nosuch"}),
        (400, "/dns/add", {"Name": "a b", "Addresses": ["10.0.0.1"]}),
        (404, "/dns/add", {"Name": "a", "Addresses": ["10.0.0.1"], "Network": "nosuch"}),
    ):
        with pytest.raises(Refused) as caught:
            first.post(path, **body)
        assert (path, caught.value.status) == (path, status), caught.value
        assert "\n" not in str(caught.value)


def test_a_password_is_in_no_place_that_others_read(hosts: Hosts) -> None:
    _, second = hosts
    secret = "correct horse battery"
    second.post("/reset")
    assert second.post("/launch", Password=secret)["Status"]["encryption"]
    shown = f"{second.status}{second.ask('GET', '/report')}{second.engine.log_tail()}"
    shown += (second.engine.rundir / "weave" / "log").read_text()
    for proc in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for name in ("cmdline", "environ"):
                shown += (proc / name).read_bytes().decode(errors="replace")
    assert secret not in shown
    folders = [second.engine.root / "weave", second.engine.rundir / "weave"]
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]
    assert (folders[0] / "settings").stat().st_mode & 0o777 == 0o600
    second.post("/reset")


@contextmanager
def pinging(host: Host, container: str, address: str) -> Iterator[list[int]]:
    """Ping five times a second; in the end the list has the number of lost ones."""
    lost: list[int] = []
    command = [DOCKER, "-H", host.engine.host, "exec", container, "ping", "-i0.2", "-W9", address]
    ping = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield lost
        time.sleep(0.5)
        host.engine.out("exec", container, "killall", "-INT", "ping")
        text, _ = ping.communicate(timeout=30)
        answered = {int(number) for number in re.findall(r"seq=(\d+)", text)}
        lost.append(max(answered) + 1 - len(answered))  # the last may be on its way
    finally:
        ping.kill()
        ping.wait()
