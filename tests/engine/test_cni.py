"""netkit-cni with real namespaces: what it makes, what others see of it, and what kills leave."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.cni_runtime import (
    Failed,
    Json,
    Pod,
    Runtime,
    addresses,
    conf,
    pod,
    runtime_config,
)
from tests.engine.daemon import Engine, netkit_only
from tests.engine.wire import HOST, WORLD, Wire, run

pytestmark = netkit_only("it has no CNI plugin")
SUBNET = "10.88.7.0/24"
KILLS = 5
ATTEMPTS = 30


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory, module_engine: Engine) -> Runtime:
    return Runtime(module_engine, tmp_path_factory.mktemp("cni"))


@pytest.fixture
def cni(plugin: Runtime, engine: Engine) -> Runtime:
    return plugin


def back(**more: Any) -> Json:
    return conf("back", subnet=SUBNET, **more)


def published(host: int, port: int) -> Json:
    mapping = {"hostPort": host, "containerPort": port, "protocol": "tcp"}
    return dict(runtime_config(portMappings=[mapping]))


def test_a_pod_reaches_the_world_and_is_reached_by_a_published_port(
    cni: Runtime, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("here\n")
    with pod("web") as web:
        before = web.ip("addr")
        result = cni.add(back(**published(8088, 80)), web)
        (address,) = [a["addr_info"][0]["local"] for a in web.ip("-4 addr show dev eth0")]
        assert addresses(result) == [f"{address}/24"]
        assert result["interfaces"][2]["mac"] == web.ip("link show dev eth0")[0]["address"]
        assert web.sh(f"busybox ping -c 1 -W 5 {WORLD} > /dev/null && echo yes") == "yes"
        server = subprocess.Popen(
            ["nsenter", f"--net={web.netns}", "busybox", "httpd", "-f", "-p", "80", "-h", tmp_path]
        )
        try:
            answer = _eventually(
                lambda: run(cni.engine.wire.neighbour, "curl", "-sf", f"http://{HOST}:8088/")
            )
            assert answer == "here\n"
        finally:
            server.kill()
            server.wait()
        cni.check(back(), web, result)
        cni.delete(back(), web)
        assert [link["ifname"] for link in web.ip("link")] == ["lo"]
        assert len(web.ip("addr")) == len(before)
    assert json.loads(cni.engine.out("network", "inspect", "back"))[0]["Containers"] == {}


def _eventually(act: Callable[[], subprocess.CompletedProcess[str]]) -> str:
    for _ in range(ATTEMPTS):
        done = act()
        if done.returncode == 0:
            return done.stdout
        subprocess.run(["sleep", "0.1"], check=True)
    raise AssertionError(done.stderr)


def test_pods_and_netkits_containers_reach_each_other_by_name(cni: Runtime) -> None:
    engine = cni.engine
    aliases = dict(runtime_config(aliases={"back": ["db"]}))
    with pod("one") as one, pod("two") as two:
        cni.add(back(**aliases), one)
        result = cni.add(back(), two)
        assert result["dns"]["nameservers"] == ["127.0.0.11"]
        for name in ("one", "db", one.id[:12]):
            assert "10.88.7.2" in two.sh(f"busybox nslookup {name} 127.0.0.11; true")
        own = engine.sleeper("--network", "back")
        assert "10.88.7.3" in engine.out("exec", own, "nslookup", "two", check=False)
        assert engine.address(own, "back") in one.sh(f"busybox nslookup {own} 127.0.0.11; true")
        address = engine.address(own, "back")
        assert one.sh(f"busybox ping -c 1 -W 5 {address} > /dev/null; echo $?") == "0"
        shown = json.loads(engine.netkit("net", "inspect", "back").stdout)[0]["Containers"]
        assert {c["Name"]: c.get("Engine") for c in shown.values()} == {
            "one": "cni", "two": "cni", own: None
        }  # fmt: skip
        engine.docker("rm", "-f", own)
        for at in (one, two):
            cni.delete(back(), at)


def test_policies_and_traces_know_pods_by_name(cni: Runtime) -> None:
    engine = cni.engine
    with pod("one") as one, pod("two") as two:
        for at in (one, two):
            cni.add(back(), at)
        reach = "busybox ping -c 1 -W 5 10.88.7.3 > /dev/null && echo yes || echo no"
        assert one.sh(reach) == "yes"
        traced = engine.netkit("net", "trace", "one", "two", "icmp").stdout
        assert "10.88.7.3" in traced
        engine.netkit("fw", "drop", "--src", "one", "--to", "two")
        assert one.sh(reach.replace("-W 5", "-W 1")) == "no"
        shown = engine.netkit("fw", "ls").stdout
        assert "one" in shown
        assert "in force" in shown
        explained = engine.netkit("fw", "explain", "one", "two", "icmp", check=False).stdout
        assert "10.88.7.3" in explained
        engine.netkit("fw", "rm", *engine.netkit("fw", "ls", "-q").stdout.split())
        assert one.sh(reach) == "yes"
        for at in (one, two):
            cni.delete(back(), at)


def test_check_sees_what_another_tool_has_changed_and_status_the_daemon(cni: Runtime) -> None:
    with pod("web") as web:
        result = cni.add(back(), web)
        cni.check(back(), web, result)
        web.sh(f"ip addr del {addresses(result)[0]} dev eth0")
        with pytest.raises(Failed) as error:
            cni.check(back(), web, result)
        assert error.value.code == 101
        assert f"+ address {addresses(result)[0]} on eth0" in error.value.error["details"]
        cni.call("STATUS", back())
        with pytest.raises(Failed) as error:
            cni.call("STATUS", back(), NETKIT_HOST="unix:///nosuch")
        assert error.value.code == 50
        cni.delete(back(), web)


def test_gc_removes_pods_that_have_ended_without_del(cni: Runtime) -> None:
    with pod("web") as web:
        cni.add(back(), web)
        with pod("lost") as lost:
            cni.add(back(), lost)
        valid = [{"containerID": web.id, "ifname": "eth0"}]
        cni.call("GC", back(**{"cni.dev/valid-attachments": valid}))
        shown = json.loads(cni.engine.out("network", "inspect", "back"))[0]["Containers"]
        assert [c["Name"] for c in shown.values()] == ["web"]
        cni.delete(back(), lost)
        cni.delete(back(), web)


def test_a_pod_on_two_networks_has_one_default_route(cni: Runtime) -> None:
    other = conf("aa", subnet="10.88.8.0/24")
    with pod("web") as web:
        cni.add(back(), web)
        second = cni.add(other, web, "eth1")
        assert "routes" not in second
        assert [r["gateway"] for r in web.ip("route show default")] == ["10.88.7.1"]
        cni.delete(back(), web)
        assert [r["gateway"] for r in web.ip("route show default")] == ["10.88.8.1"]
        cni.delete(other, web, "eth1")


def test_the_daemons_restart_leaves_pods_alone_and_forgets_those_that_ended(
    cni: Runtime,
) -> None:
    engine = cni.engine
    with pod("web") as web:
        result = cni.add(back(**published(8088, 80)), web)
        with pod("lost") as lost:
            cni.add(back(), lost)
        engine.kill9()
        with pytest.raises(Failed) as error:
            cni.delete(back(), web)
        assert error.value.code == 11
        engine.restart()
        shown = json.loads(engine.out("network", "inspect", "back"))[0]["Containers"]
        assert [c["Name"] for c in shown.values()] == ["web"]
        cni.check(back(), web, result)
        assert web.sh(f"busybox ping -c 1 -W 5 {WORLD} > /dev/null && echo yes") == "yes"
        cni.delete(back(), lost)
        cni.delete(back(), web)


def _begun(cni: Runtime, command: str, at: Pod, network: Json) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [cni.plugin], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=cni.env(command, at, "eth0"),
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(network))
    process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_netkitd_killed_at_any_time(cni: Runtime, command: str) -> None:
    engine, r = cni.engine, random.Random(7)
    network = back(**published(8088, 80))
    with pod("keep") as keep:
        kept = cni.add(back(), keep)
        for _ in range(KILLS):
            with pod("web") as web:
                if command == "DEL":
                    cni.add(network, web)
                process = _begun(cni, command, web, network)
                subprocess.run(["sleep", f"{r.random() * 0.06:.3f}"], check=True)
                engine.kill9()
                output, _ = process.communicate(timeout=60)
                acknowledged = process.returncode == 0
                engine.restart()
                if acknowledged and command == "ADD":
                    cni.check(network, web, json.loads(output))
                cni.check(back(), keep, kept)
                cni.delete(network, web)  # as a runtime does after a failure
                assert [link["ifname"] for link in web.ip("link")] == ["lo"]
                assert _containers(engine) == ["keep"]
                cni.check(network, web, cni.add(network, web))
                cni.delete(network, web)
        cni.delete(back(), keep)


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_the_plugin_killed_at_any_time(cni: Runtime, command: str) -> None:
    r = random.Random(8)
    network = back(**published(8088, 80))
    for _ in range(KILLS):
        with pod("web") as web:
            if command == "DEL":
                cni.add(network, web)
            process = _begun(cni, command, web, network)
            subprocess.run(["sleep", f"{r.random() * 0.04:.3f}"], check=True)
            process.kill()
            process.communicate()
            cni.delete(network, web)
            assert [link["ifname"] for link in web.ip("link")] == ["lo"]
            assert _containers(cni.engine) == []


def _containers(engine: Engine) -> list[str]:
    networks = [n["Name"] for n in engine.client.api.networks()]
    if "back" not in networks:
        return []
    shown = json.loads(engine.out("network", "inspect", "back"))[0]["Containers"]
    return sorted(c["Name"] for c in shown.values())


@pytest.fixture
def own_wire() -> Iterator[str]:
    wire = Wire.lay()
    try:
        yield wire.host
    finally:
        wire.remove()


def test_bridges_without_a_daemon(plugin: Runtime, own_wire: str, tmp_path: Path) -> None:
    """`"daemon": "none"`, in a namespace where no netkitd is."""
    once = Runtime(plugin.engine, plugin.folder, {
        "NETKIT_HOST": f"unix://{tmp_path}/none", "NETKIT_CNI_ROOT": f"{tmp_path}/root",
        "NETKIT_CNI_RUN": f"{tmp_path}/run",
    }, at=own_wire)  # fmt: skip
    network = back(daemon="none", **published(8088, 80))
    with pod("one") as one, pod("two") as two:
        result = once.add(network, one)
        assert result["dns"] == {}
        once.add(back(daemon="none"), two)
        assert two.sh("busybox ping -c 1 -W 5 10.88.7.2 > /dev/null; echo $?") == "0"
        assert "dport 8088" in run(own_wire, "iptables-save").stdout
        once.check(network, one, result)
        one.sh("ip route del default")
        once.check(network, one, result)  # each call repairs first
        assert [r["gateway"] for r in one.ip("route show default")] == ["10.88.7.1"]
        with pytest.raises(Failed) as error:
            once.add(conf("x", driver="ovs", daemon="none"), two, "eth1")
        assert error.value.code == 7
        once.delete(network, one)
        once.delete(back(daemon="none"), two)
        once.delete(back(daemon="none"), two)
        assert [link["ifname"] for link in two.ip("link")] == ["lo"]
    assert "8088" not in run(own_wire, "iptables-save").stdout
    assert "veth" not in run(own_wire, "ip", "link").stdout
