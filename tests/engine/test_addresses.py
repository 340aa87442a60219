"""Several addresses of one endpoint, and those of other subnets, by the engine's own ways in."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from netkit.testing.waiting import eventually
from tests.engine.daemon import Engine, netkit_only

pytestmark = [pytest.mark.engine, netkit_only("it has no weave driver")]
OPTION = "netkit.addresses"


@pytest.fixture
def lane(engine: Engine) -> Iterator[str]:
    engine.out("network", "create", "-d", "weave", "--subnet", "10.35.0.0/24", "lane")
    yield "lane"
    names = engine.out("ps", "-aq", "--filter", "network=lane").split()
    if names:
        engine.out("rm", "-f", *names)
    engine.out("network", "rm", "lane")


def addresses(engine: Engine, container: str, dev: str = "eth0") -> list[str]:
    """In its namespace: "10.2.1.1/24"."""
    shown = engine.out("exec", container, "ip", "-o", "-4", "addr", "show", "dev", dev)
    return sorted(line.split()[3] for line in shown.splitlines())


def default(engine: Engine, container: str) -> str:
    """The gateway of its default route; "" if it has none."""
    routes = engine.out("exec", container, "ip", "route").splitlines()
    return next((line.split()[2] for line in routes if line.startswith("default")), "")


def reaches(engine: Engine, container: str, address: str) -> bool:
    ping = ("exec", container, "ping", "-c1", "-W5", address)
    return eventually(lambda: engine.docker(*ping, check=False).returncode == 0)


def shown(engine: Engine, container: str) -> dict[str, object]:
    (found,) = json.loads(engine.out("inspect", container))
    networks = found["NetworkSettings"]["Networks"]
    return dict(networks["lane"])


def test_docker_run_and_connect_give_any_addresses(engine: Engine, lane: str) -> None:
    driver = f"driver-opt={OPTION}=192.168.1.2/24 net:default"
    engine.sleeper("--network", f"name={lane},{driver}", name="one")
    assert addresses(engine, "one") == ["10.35.0.1/24", "192.168.1.2/24"]
    endpoint = shown(engine, "one")
    assert (endpoint["IPAddress"], endpoint["IPPrefixLen"]) == ("192.168.1.2", 24)
    assert endpoint["NetkitAddresses"] == ["192.168.1.2/24", "10.35.0.1/24"]
    engine.sleeper(name="two")
    engine.out("network", "connect", "--driver-opt", f"{OPTION}=192.168.1.10/24",
               "--ip", "10.35.0.9", lane, "two")  # fmt: skip
    assert addresses(engine, "two", "eth1") == ["10.35.0.9/24", "192.168.1.10/24"]
    for address in ("192.168.1.2", "10.35.0.1"):
        assert reaches(engine, "two", address)
    assert engine.netkit("net", "check", check=False).returncode == 0


def test_an_address_has_one_owner_from_create_to_rm(engine: Engine, lane: str) -> None:
    taken = f"name={lane},driver-opt={OPTION}=192.168.1.2/24"
    engine.out("create", "--network", taken, "--name", "one", "busybox", "sleep", "1000")
    refused = engine.docker("run", "--network", taken, "--name", "two", "busybox", "true",
                            check=False)  # fmt: skip
    assert refused.returncode == 125
    assert "Address already in use: 192.168.1.2 is held by container one" in refused.stderr
    assert engine.out("ps", "-aq", "--filter", "name=two") == ""
    engine.out("start", "one")
    engine.kill9()
    engine.restart()
    assert addresses(engine, "one") == ["192.168.1.2/24"]
    engine.out("restart", "-t", "0", "one")
    assert addresses(engine, "one") == ["192.168.1.2/24"]
    engine.out("rm", "-f", "one")
    engine.run("--network", taken, "busybox", "true")


@pytest.mark.parametrize(
    ("network", "text", "why"),
    [
        ("lane", "192.168.1.2", "invalid address '192.168.1.2': it has no prefix length"),
        ("lane", "net:10.99.0.0/16", "no subnet of network lane contains 10.99.0.0/16"),
        ("bridge", "192.168.1.2/24", "network bridge is of the bridge driver, whose endpoints"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    engine: Engine, lane: str, network: str, text: str, why: str
) -> None:
    for command in (
        engine.docker("run", "--rm", "--network", f"name={network},driver-opt={OPTION}={text}",
                      "busybox", "true", check=False),
        engine.netkit("run", "--rm", "--net", f"{network}:{text}", "busybox", "true", check=False),
    ):  # fmt: skip
        assert command.returncode == 125
        assert why in command.stderr
    assert engine.out("ps", "-aq") == ""


def test_netkit_s_own_way_is_the_name_with_addresses(engine: Engine, lane: str) -> None:
    engine.netkit("run", "-d", "--name", "one", "--net", f"{lane}:10.2.1.1/24,192.168.1.2/24",
                  "busybox", "sleep", "1000")  # fmt: skip
    assert addresses(engine, "one") == ["10.2.1.1/24", "192.168.1.2/24"]
    engine.netkit("run", "-d", "--name", "two", "--net", lane, "busybox", "sleep", "1000")
    assert addresses(engine, "two") == ["10.35.0.1/24"]
    engine.netkit("net", "disconnect", lane, "two")
    engine.netkit("net", "connect", f"{lane}:192.168.1.3/24", "two")
    assert addresses(engine, "two") == ["192.168.1.3/24"]
    assert reaches(engine, "two", "192.168.1.2")


def test_rules_about_a_container_hold_at_all_of_its_addresses(engine: Engine, lane: str) -> None:
    both = f"name={lane},driver-opt={OPTION}=10.35.0.9/24 192.168.1.2/24"
    engine.sleeper("--network", both, name="one")
    engine.sleeper("--network", f"name={lane},driver-opt={OPTION}=10.35.0.8/24 192.168.1.3/24",
                   name="two")  # fmt: skip
    for address in ("10.35.0.9", "192.168.1.2"):
        assert reaches(engine, "two", address)
    engine.netkit("fw", "drop", "--src", "two", "--to", "one")
    for address in ("10.35.0.9", "192.168.1.2"):
        ping = ("exec", "two", "ping", "-c1", "-W1", address)
        assert engine.docker(*ping, check=False).returncode == 1
    assert "one (10.35.0.9 and 192.168.1.2 on lane)" in engine.netkit("fw", "show", "one").stdout
    assert engine.netkit("fw", "check", check=False).returncode == 0


class Flow:
    """A TCP connection, over which a line goes at once, and another one when it is asked."""

    def __init__(self, engine: Engine, source: str, target: str, address: str) -> None:
        self.engine, self.source, self.target = engine, source, target
        engine.out("exec", "-d", target, "sh", "-c", "sleep 1000 | nc -l -p 7000 >/tmp/got")
        eventually(lambda: ":7000" in self._in(target, "netstat -ltn"))
        lines = "echo first; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo second"
        engine.out("exec", "-d", source, "sh", "-c", f"({lines}) | nc {address} 7000")
        self._received("first")

    def goes_on(self) -> None:
        self._in(self.source, "touch /tmp/go")
        self._received("second")

    def _received(self, line: str) -> None:
        eventually(lambda: line in self._in(self.target, "cat /tmp/got"))

    def _in(self, container: str, script: str) -> str:
        return self.engine.out("exec", container, "sh", "-c", script)


def test_running_containers_get_and_lose_single_addresses(own_engine: Engine) -> None:
    engine = own_engine
    engine.netkit("weave", "launch", "--password", "of some length", "--ipalloc-range",
                  "10.36.0.0/16")  # fmt: skip
    try:
        for name in ("one", "two"):
            engine.sleeper("--network", "weave", name=name)
        first, second = addresses(engine, "one")[0], "10.36.0.77/16"
        engine.netkit("weave", "attach", second, "one")
        flow = Flow(engine, "two", "one", second.partition("/")[0])
        engine.netkit("weave", "attach", "192.168.5.7/24", "one")
        assert addresses(engine, "one") == sorted([first, second, "192.168.5.7/24"])
        assert reaches(engine, "two", "10.36.0.77")
        # One subnet: Linux has the second address as a secondary one of the first.
        engine.netkit("weave", "detach", first, "one")
        assert addresses(engine, "one") == [second, "192.168.5.7/24"]
        flow.goes_on()
        assert reaches(engine, "two", "10.36.0.77")
        assert engine.netkit("net", "check", check=False).returncode == 0
        for name in ("one", "two"):
            assert not default(engine, name)
        gateway = engine.netkit("weave", "expose").stdout.strip()
        for name in ("one", "two"):
            assert default(engine, name) == gateway
        engine.netkit("weave", "hide")
        for name in ("one", "two"):
            assert not default(engine, name)
        assert engine.netkit("net", "check", check=False).returncode == 0
    finally:
        engine.docker("rm", "-f", "one", "two", check=False)
        engine.netkit("weave", "reset", check=False)
