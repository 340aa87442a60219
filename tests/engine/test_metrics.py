"""/metrics of a running engine: traffic that was sent is counted, drift that was made is found."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from netkit.lab.openvswitch import OpenVSwitch
from runtime.metrics.series import BY_NAME
from tests.engine import wire
from tests.engine.daemon import Engine, netkit_only
from tests.engine.wire import Wire

pytestmark = [
    netkit_only("other series"),
    pytest.mark.skipif(not shutil.which("ovs-vswitchd"), reason="needs openvswitch-switch"),
]

PORT = 9323
URL = f"http://127.0.0.1:{PORT}/metrics"
Labels = dict[str, str]


class Scrape:
    """What one scrape has."""

    def __init__(self, text: str) -> None:
        self.values = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float:
        """The sum of those with these labels; each has to be there."""
        found = [
            value for (each, has), value in self.values.items()
            if each == name and labels.items() <= dict(has).items()
        ]  # fmt: skip
        assert found, f"no {name} with {labels}"
        return sum(found)

    def has(self, name: str, **labels: str) -> bool:
        return any(
            each == name and labels.items() <= dict(has).items() for each, has in self.values
        )


def curl(engine: Engine, *args: str) -> subprocess.CompletedProcess[str]:
    return wire.run(engine.netns, "curl", "-sS", "--noproxy", "*", "--max-time", "30", *args)


def scrape(engine: Engine) -> Scrape:
    done = curl(engine, "--fail", URL)
    assert done.returncode == 0, done.stderr
    return Scrape(done.stdout)


def await_scrape(engine: Engine, true: Callable[[Scrape], bool], what: str) -> Scrape:
    deadline = time.monotonic() + 60
    while not true(found := scrape(engine)):
        assert time.monotonic() < deadline, f"never: {what}\n{engine.log_tail()}"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with Open vSwitch and metrics, configured by a file."""
    folder = tmp_path_factory.mktemp("metrics")
    laid = Wire.lay()
    vswitch = OpenVSwitch(f"/run/netns/{laid.host}", folder)
    try:
        vswitch.start()
        config = folder / "daemon.json"
        config.write_text(json.dumps({"metrics-addr": f"127.0.0.1:{PORT}"}))
        engine = Engine(laid, flags=("--ovs-db", vswitch.remote, "--config", str(config)))
        try:
            engine.start()
            engine.load_image()
            yield engine
        finally:
            engine.destroy()
    finally:
        vswitch.remove()
        laid.remove()


@pytest.fixture
def engine(measured: Engine) -> Iterator[Engine]:
    yield measured
    measured.clear()


@pytest.mark.parametrize("driver", ["bridge", "ovs"])
def test_bytes_grow_by_what_was_sent(engine: Engine, driver: str) -> None:
    engine.docker("network", "create", "-d", driver, "wire")
    sender = engine.sleeper("--network", "wire", name="sender")
    target = engine.sleeper("--network", "wire", name="target")
    argv = ("exec", sender, "ping", "-c", "1", "-W", "5", "target")
    deadline = time.monotonic() + 60
    while engine.docker(*argv, check=False).returncode != 0:
        assert time.monotonic() < deadline
    before = scrape(engine)
    engine.docker("exec", sender, "ping", "-q", "-c", "20", "-i", "0.01", "-s", "1000", target)
    after = scrape(engine)
    least = 20 * (1000 + 8 + 20 + 14)  # ICMP, IP and Ethernet heads
    for container in (sender, target):
        labels = {"network": "wire", "container": container, "engine": "netkit"}
        for way in ("receive", "transmit"):
            name = f"netkit_endpoint_{way}_bytes_total"
            grown = after.get(name, **labels) - before.get(name, **labels)
            assert least <= grown <= least + 20_000, (container, way)
            name = f"netkit_endpoint_{way}_packets_total"
            assert after.get(name, **labels) - before.get(name, **labels) >= 20
    assert after.get("netkit_endpoints", driver=driver, engine="netkit") == 2


def test_received_is_what_the_container_received(engine: Engine) -> None:
    name = engine.sleeper(name="quiet")
    before = scrape(engine)
    sent = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"for _ in range(50): s.sendto(bytes(1000), ('{engine.address(name)}', 9))"
    )
    assert wire.run(engine.netns, sys.executable, "-c", sent).returncode == 0
    after = scrape(engine)

    def grown(way: str) -> float:
        series = f"netkit_endpoint_{way}_bytes_total"
        return after.get(series, container=name) - before.get(series, container=name)

    assert grown("receive") >= 50 * (1000 + 8 + 20 + 14)
    assert grown("transmit") < 20_000  # "port unreachable", of which few are sent


def test_objects_are_counted(engine: Engine) -> None:
    before = scrape(engine)
    engine.docker("network", "create", "--subnet", "10.66.0.0/24", "net66")
    engine.docker("volume", "create", "vol")
    one = engine.sleeper("--network", "net66", "-p", "8080:80", "-p", "53:53/udp")
    engine.docker("create", "--name", "never", "busybox", "true")
    engine.docker("pause", one)
    after = scrape(engine)
    assert after.get("netkit_containers", state="paused") == 1
    assert after.get("netkit_containers", state="created") == 1
    assert after.get("netkit_containers", state="running") == 0
    assert after.get("netkit_volumes") == before.get("netkit_volumes") + 1
    assert after.get("netkit_images") == 1
    assert after.get("netkit_networks", driver="bridge") == 2
    assert after.get("netkit_published_ports", protocol="tcp") == 1
    assert after.get("netkit_published_ports", protocol="udp") == 1
    ipam = {"network": "net66", "subnet": "10.66.0.0/24"}
    assert after.get("netkit_ipam_addresses", **ipam) == 254
    assert after.get("netkit_ipam_allocated_addresses", **ipam) == 2  # the gateway's too
    for cli in (engine.docker, engine.netkit):
        (shown,) = json.loads(cli("network", "inspect", "-v", "net66").stdout)
        assert shown["Status"]["IPAM"]["Subnets"] == {
            "10.66.0.0/24": {"IPsInUse": 4, "DynamicIPsAvailable": 252}
        }
    name = "netkit_api_requests_total"
    assert after.get(name, method="POST", code="2xx") > before.get(name, method="POST", code="2xx")
    assert engine.docker("inspect", "absent", check=False).returncode != 0
    assert scrape(engine).get(name, method="GET", code="4xx") >= 1
    assert after.get("netkit_converges_total", outcome="changed") > before.get(
        "netkit_converges_total", outcome="changed"
    )
    assert after.get("netkit_converge_duration_seconds_count") == after.get(
        "netkit_converges_total"
    )
    assert after.get("netkit_scrape_failed") == 0
    assert after.get("netkit_overlay_launched") == 0
    engine.docker("unpause", one)


def test_drift_is_found_and_repaired(engine: Engine) -> None:
    engine.sleeper()
    before = scrape(engine)
    shown = wire.run(engine.netns, "ip", "-j", "link", "show", "master", "docker0").stdout
    (veth,) = [link["ifname"] for link in json.loads(shown)]
    assert wire.run(engine.netns, "ip", "link", "set", veth, "down").returncode == 0
    labels = {"guard": "links", "kind": "link"}

    def repaired(now: Scrape) -> bool:
        name = "netkit_drift_repaired_total"
        was = before.get(name, **labels) if before.has(name, **labels) else 0
        return now.has(name, **labels) and now.get(name, **labels) > was

    after = await_scrape(engine, repaired, "the link is repaired")
    assert after.get("netkit_drift_found_total", **labels) >= 1
    assert after.get("netkit_drift_last_repair_timestamp_seconds", guard="links") > 0


def test_every_series_that_is_served_is_described(engine: Engine) -> None:
    engine.sleeper()
    found = {name for name, _ in scrape(engine).values}
    plain = {name.removesuffix(suffix) for name in found for suffix in ("_bucket", "_sum", "_count")
             if name.removesuffix(suffix) in BY_NAME}  # fmt: skip
    histograms = {f"{name}{s}" for name in plain for s in ("_bucket", "_sum", "_count")}
    assert sorted(found - histograms - BY_NAME.keys()) == []


def test_formats_are_negotiated_and_compressed(engine: Engine) -> None:
    shown = curl(engine, "-D", "-", "-o", "/dev/null", URL).stdout.lower()
    assert "content-type: text/plain; version=0.0.4; charset=utf-8" in shown
    open_ = ("-H", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    text = curl(engine, *open_, URL).stdout
    assert text.endswith("# EOF\n")
    assert len(list(openmetrics_families(text))) > 40
    assert curl(engine, "-I", URL).stdout.startswith("HTTP/1.1 200")
    argv = ("curl", "-sS", "--noproxy", "*", "-H", "Accept-Encoding: gzip", URL)
    packed = subprocess.run(
        wire.inside(engine.netns, *argv), capture_output=True, check=True, timeout=60
    ).stdout
    assert b"netkit_build_info" in gzip.decompress(packed)


def test_what_is_not_a_scrape_is_refused(engine: Engine) -> None:
    def status(*args: str) -> str:
        return curl(engine, "-o", "/dev/null", "-w", "%{http_code}", *args).stdout

    assert status(f"http://127.0.0.1:{PORT}/") == "404"
    assert status(f"http://127.0.0.1:{PORT}/containers/json") == "404"
    assert status("-X", "POST", URL) == "405"
    assert status("-H", "Origin: http://evil.example", URL) == "403"
    assert status("-H", "Host: evil.example", URL) == "403"


SLOW = """
import socket, sys, time
held = []
for n in range(40):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    s.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: x" if n % 2 else b"")
    held.append(s)
print("held", flush=True)
time.sleep(600)
"""


def test_scrapers_that_do_nothing_are_in_nobodys_way(engine: Engine) -> None:
    slow = subprocess.Popen(
        wire.inside(engine.netns, sys.executable, "-c", SLOW, str(PORT)),
        stdout=subprocess.PIPE,
    )
    try:
        assert slow.stdout is not None
        assert slow.stdout.readline() == b"held\n"
        engine.run("busybox", "true")
        await_answer = time.monotonic() + 60
        while curl(engine, "--fail", URL).returncode != 0:
            assert time.monotonic() < await_answer
            time.sleep(0.2)
    finally:
        slow.kill()
        slow.wait()


def test_counters_outlive_a_kill_and_the_address_needs_a_restart(engine: Engine) -> None:
    name = engine.sleeper(name="lasting")
    engine.docker("exec", name, "ping", "-q", "-c", "3", "-s", "1000", wire.HOST)
    before = scrape(engine)
    config = Path(engine.flags[-1])
    config.write_text(json.dumps({"metrics-addr": f"127.0.0.1:{PORT + 1}"}))
    try:
        os.kill(engine.pid, signal.SIGHUP)
        deadline = time.monotonic() + 60
        while "reload: metrics-addr needs a restart of netkitd" not in engine.log_tail():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert scrape(engine).has("netkit_build_info")
    finally:
        config.write_text(json.dumps({"metrics-addr": f"127.0.0.1:{PORT}"}))
    engine.kill9()
    engine.restart()
    series = "netkit_endpoint_transmit_bytes_total"
    after = scrape(engine)
    assert after.get(series, container=name) >= before.get(series, container=name) > 3000
    assert after.get("process_start_time_seconds") > before.get("process_start_time_seconds")


def test_an_overlay_that_hangs_does_not_hold_up_a_scrape(engine: Engine) -> None:
    engine.netkit("weave", "launch")
    try:
        # A scrape may have the values of one that began before.
        now = await_scrape(engine, lambda now: now.get("netkit_overlay_up") == 1, "it is launched")
        assert now.get("netkit_overlay_launched") == 1
        assert now.get("netkit_overlay_peers", state="alive") == 1
        pids = [
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if f"netkit.overlay\0--state\0{engine.root}" in commandline(folder)
        ]
        assert len(pids) == 1
        os.kill(pids[0], signal.SIGSTOP)
        after = await_scrape(engine, lambda now: now.get("netkit_overlay_up") == 0, "it hangs")
        os.kill(pids[0], signal.SIGCONT)
        assert after.get("netkit_overlay_launched") == 1
        assert after.get("netkit_scrape_failed") == 0
        await_scrape(engine, lambda now: now.get("netkit_overlay_up") == 1, "it answers again")
    finally:
        engine.netkit("weave", "reset", "--force")


def commandline(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
