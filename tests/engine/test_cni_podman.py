"""podman 4.3, as Debian has it, with netkit's networks by CNI."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine import podman as podmans
from tests.engine.cni_runtime import Runtime, conf
from tests.engine.daemon import Engine, fresh, netkit_only
from tests.engine.podman import Podman
from tests.engine.wire import HOST, WORLD, run

pytestmark = [
    netkit_only("it has no CNI plugin"),
    pytest.mark.skipif(bool(podmans.absent()), reason=podmans.absent() or "it is there"),
]
BACK = {"subnet": "10.88.7.0/24"}


@pytest.fixture(scope="module")
def of_module(module_engine: Engine) -> Iterator[Podman]:
    with podmans.podman(module_engine) as found:
        yield found


@pytest.fixture
def podman(of_module: Podman, engine: Engine) -> Iterator[Podman]:
    yield of_module
    of_module.clear()


def networks(podman: Podman, ref: str) -> Any:
    return podman.inspect(ref)["NetworkSettings"]["Networks"]


def members(engine: Engine, network: str = "back") -> list[str]:
    shown = json.loads(engine.out("network", "inspect", network))[0]["Containers"]
    return sorted(c["Name"] for c in shown.values())


def test_a_container_has_an_address_names_and_published_ports(podman: Podman) -> None:
    podman.network("back", **BACK)
    assert "back" in podman.out("network", "ls", "-q").split()
    name = fresh("web")
    podman.run("run", "-d", "--name", name, "--network", "back", "--network-alias", "db", "-p",
               "8089:80", "busybox", "httpd", "-f", "-h", "/www")  # fmt: skip
    other = podman.up("--network", "back")
    assert networks(podman, name)["back"]["IPAddress"] == "10.88.7.2"
    assert networks(podman, name)["back"]["Gateway"] == "10.88.7.1"
    mac = podman.out("exec", name, "cat", "/sys/class/net/eth0/address")
    assert networks(podman, name)["back"]["MacAddress"] == mac
    for asked in (name, "db"):
        assert "10.88.7.2" in podman.out("exec", other, "nslookup", asked, check=False)
        assert "hello" in podman.out("exec", other, "wget", "-qO-", f"http://{asked}/")
    answer = run(podman.engine.wire.neighbour, "curl", "-s", f"http://{HOST}:8089/")
    assert "hello" in answer.stdout
    assert podman.out("exec", other, "ping", "-c", "1", "-W", "5", WORLD)
    assert members(podman.engine) == sorted([name, other])
    podman.run("rm", "-f", "-t", "0", name, other)
    assert podman.out("run", "--rm", "--network", "back", "busybox", "hostname", "-i")
    assert members(podman.engine) == []


def test_addresses_of_choice_restart_reload_and_stop(podman: Podman) -> None:
    podman.network("back", **BACK)
    name = podman.up("--network", "back", "--ip", "10.88.7.50", "--mac-address",
                     "02:42:00:00:00:50", "-p", "8089:80")  # fmt: skip
    fixed = {"IPAddress": "10.88.7.50", "MacAddress": "02:42:00:00:00:50"}
    for words in ((), ("restart", "-t", "0"), ("network", "reload")):
        if words:
            podman.run(*words, name)
        shown = networks(podman, name)["back"]
        assert {key: shown[key] for key in fixed} == fixed, words
        assert podman.out("exec", name, "ping", "-c", "1", "-W", "5", "10.88.7.1")
        assert members(podman.engine) == [name]
    podman.run("stop", "-t", "0", name)
    assert members(podman.engine) == []
    podman.run("start", name)
    assert members(podman.engine) == [name]


def test_networks_are_joined_and_left_while_it_runs(podman: Podman) -> None:
    podman.network("zz", subnet="10.88.8.0/24")
    podman.network("aa", subnet="10.88.9.0/24")
    name = podman.up("--network", "zz", "-p", "8089:80")
    podman.run("network", "connect", "aa", name)
    routes = podman.out("exec", name, "ip", "route").splitlines()
    assert [r.split()[2] for r in routes if r.startswith("default")] == ["10.88.8.1"]
    assert podman.out("exec", name, "cat", "/sys/class/net/eth1/operstate") == "up"
    podman.run("network", "disconnect", "zz", name)
    routes = podman.out("exec", name, "ip", "route").splitlines()
    assert [r.split()[2] for r in routes if r.startswith("default")] == ["10.88.9.1"]
    assert (members(podman.engine, "zz"), members(podman.engine, "aa")) == ([], [name])


def test_an_error_is_podmans_and_leaves_nothing(podman: Podman) -> None:
    podman.network("back", **BACK)
    podman.up("--network", "back", "-p", "8089:80")
    done = podman.run("run", "--network", "back", "-p", "8089:80", "busybox", "true", check=False)
    assert done.returncode == 126
    assert "8089" in done.stderr
    assert len(members(podman.engine)) == 1
    podman.network("wrong", subnett="10.88.8.0/24")
    done = podman.run("run", "--network", "wrong", "busybox", "true", check=False)
    assert "unsupported field 'subnett'" in done.stderr


def test_plugins_may_follow_it(podman: Podman) -> None:
    tuning = {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}
    podman.network("back", tuning, **BACK)
    name = podman.up("--network", "back")
    assert podman.out("exec", name, "cat", "/proc/sys/net/ipv4/conf/eth0/arp_filter") == "1"
    assert networks(podman, name)["back"]["IPAddress"] == "10.88.7.2"


def test_the_daemons_kill_is_survived_and_what_podman_did_meanwhile_is_seen(
    podman: Podman, plugin: Runtime
) -> None:
    engine = podman.engine
    podman.network("back", **BACK)
    stays, goes = (podman.up("--network", "back") for _ in range(2))
    engine.kill9()
    podman.run("rm", "-f", "-t", "0", goes, check=False)  # DEL fails, by whichever process calls it
    engine.restart()
    assert members(engine) == [stays]
    assert podman.out("exec", stays, "ping", "-c", "1", "-W", "5", "10.88.7.1")
    again = podman.up("--network", "back")
    assert podman.out("exec", again, "ping", "-c", "1", "-W", "5", stays)
    plugin.call("GC", conf("back", **{"cni.dev/valid-attachments": []}))
    assert members(engine) == []


def test_a_killed_conmon_leaves_what_rm_or_gc_removes(podman: Podman, plugin: Runtime) -> None:
    """conmon would have called podman, and that DEL, when its container ends."""
    engine = podman.engine
    podman.network("back", **BACK)
    removed, collected = (podman.up("--network", "back") for _ in range(2))
    shown = {name: podman.inspect(name) for name in (removed, collected)}
    for name in (removed, collected):
        state = shown[name]["State"]
        os.kill(state["ConmonPid"], signal.SIGKILL)
        assert podman.out("exec", name, "ping", "-c", "1", "-W", "5", "10.88.7.1")
        os.kill(state["Pid"], signal.SIGKILL)
    assert members(engine) == sorted([removed, collected])
    podman.run("rm", "-f", "-t", "0", removed)
    assert members(engine) == [collected]
    plugin.call("GC", conf("back", **{"cni.dev/valid-attachments": []}))
    assert members(engine) == []
    podman.run("rm", "-f", "-t", "0", collected)  # with a DEL of what is not there any more
    assert engine.netkit("net", "check").returncode == 0
    for found in shown.values():  # which podman leaves where conmon did not call it
        for group in Path("/sys/fs/cgroup").glob(f"*/libpod_parent/libpod-{found['Id']}"):
            group.rmdir()


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory, module_engine: Engine) -> Runtime:
    return Runtime(module_engine, tmp_path_factory.mktemp("cni"))


def test_moving_off_as_the_page_says(podman: Podman) -> None:
    """A network goes once no container is on it, also where its file went before the last one."""
    podman.network("app", **BACK)
    one, two = (podman.up("--network", "app") for _ in range(2))
    podman.run("network", "disconnect", "app", one)
    assert members(podman.engine, "app") == [two]
    (podman.networks / "app.conflist").unlink()
    refused = podman.engine.netkit("network", "rm", "app", check=False)
    assert "network app has active endpoints" in refused.stderr
    podman.run("rm", "-f", "-t", "0", two)
    assert podman.engine.netkit("network", "rm", "app").stdout.strip() == "app"
    podman.run("rm", "-f", "-t", "0", one)
