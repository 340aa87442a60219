"""Chapter 13 of the course (containers among each other), typed line by line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.engine import wire
from tests.engine.daemon import Engine
from tests.engine.test_networks import PAGE
from tests.engine.wire import Wire

Run = Callable[..., subprocess.CompletedProcess[str]]
IMAGE = "cct"  # the course's, with EXPOSE 80


@pytest.fixture(scope="module", params=[(), ("--icc=false", "--iptables=true")], ids=str)
def daemon(request: pytest.FixtureRequest) -> Iterator[Engine]:
    lan = Wire.lay()
    try:
        engine = Engine(lan, flags=request.param)
        try:
            engine.start()
            engine.load_image()
            engine.load_image(IMAGE, ["EXPOSE 80"])
            yield engine
        finally:
            engine.destroy()
    finally:
        lan.remove()


@pytest.fixture(params=["docker", "netkit"])
def typed(request: pytest.FixtureRequest, daemon: Engine) -> Iterator[Run]:
    yield daemon.docker if request.param == "docker" else daemon.netkit
    daemon.clear(keep_images=("busybox:latest", f"{IMAGE}:latest"))


def reads(run: Run, name: str, url: str) -> bool:
    done = run("exec", name, "timeout", "1", "wget", "-q", "-O", "-", url, check=False)
    return done.returncode == 0 and PAGE in done.stdout


def address(run: Run, name: str) -> str:
    return run("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name).stdout.strip()


def host(engine: Engine, line: str) -> str:
    done = wire.run(engine.netns, *line.split())
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def test_13_2_to_13_4_icc_and_links(daemon: Engine, typed: Run) -> None:
    icc = "--icc=false" not in daemon.flags
    web = "httpd -f -h /www".split()
    typed("run", "-d", "--name", "cct1", IMAGE, *web)
    typed("run", "-d", "--name", "cct2", IMAGE, "sleep", "10000")
    typed("run", "-d", "--name", "cct3", "--link=cct1:webtest", IMAGE, "sleep", "10000")
    assert reads(typed, "cct2", f"http://{address(typed, 'cct1')}/") == icc
    assert reads(typed, "cct3", "http://webtest/")
    env = typed("exec", "cct3", "env").stdout
    assert f"WEBTEST_PORT_80_TCP=tcp://{address(typed, 'cct1')}:80" in env
    assert f"{address(typed, 'cct1')}\twebtest" in typed("exec", "cct3", "cat", "/etc/hosts").stdout
    listing = host(daemon, "iptables -L -n")
    for chain in ("Chain FORWARD", "Chain DOCKER ", "Chain DOCKER-USER", "Chain DOCKER-FORWARD"):
        assert chain in listing
    pair = [
        line.split()[:6] for line in listing.splitlines()
        if line.startswith("ACCEPT") and address(typed, "cct3") in line and "pt:80" in line
    ]  # fmt: skip
    assert len(pair) == (0 if icc else 2)
    typed("restart", "-t", "0", "cct1")  # "still valid after docker was restarted"
    assert reads(typed, "cct3", "http://webtest/")
    daemon.kill9()
    daemon.restart()
    assert reads(typed, "cct3", "http://webtest/")
    assert reads(typed, "cct2", f"http://{address(typed, 'cct1')}/") == icc


def test_13_5_the_way_out_and_the_drop(daemon: Engine, typed: Run) -> None:
    assert host(daemon, "sysctl net.ipv4.conf.all.forwarding").split()[-1] == "1"
    assert "Chain FORWARD" in host(daemon, "iptables -t filter -L -n")
    assert " to:172" not in host(daemon, "iptables -t nat -L -n")
    typed("run", "-d", "-p", "80", "--name", "cct5", IMAGE, "httpd", "-f", "-h", "/www")
    port = typed("port", "cct5").stdout.split(":")[-1].strip()
    inside = address(typed, "cct5")
    assert f"to:{inside}:80" in host(daemon, "iptables -t nat -L -n")
    url = f"http://{wire.HOST}:{port}/"
    wire.connected(daemon.wire.neighbour, url)
    rule = f"DOCKER -s {wire.NEIGHBOUR} -d {inside} -p TCP --dport 80 -j DROP"
    host(daemon, f"iptables -I {rule}")
    assert wire.fetch(daemon.wire.neighbour, url, timeout=1) is None
    assert wire.fetch(daemon.netns, url) is not None  # the host is not the one meant
    host(daemon, f"iptables -D {rule}")
    wire.connected(daemon.wire.neighbour, url)
    by_name = daemon.netkit(
        "fw", "drop", "--src", wire.NEIGHBOUR, "--to", "cct5", "--port", "80/tcp"
    )
    assert wire.fetch(daemon.wire.neighbour, url, timeout=1) is None
    assert wire.fetch(daemon.netns, url) is not None
    daemon.netkit("fw", "rm", by_name.stdout.strip())
    wire.connected(daemon.wire.neighbour, url)
