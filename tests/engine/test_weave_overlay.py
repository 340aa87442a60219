"""Two engines on one wire, and the weave overlay between them, by netkit's own routes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from netkit.client.endpoint import parse_host
from netkit.client.engine import Engine as Client
from netkit.overlay.folders import Folders
from netkit.overlay.service import Service
from tests.engine.daemon import Engine, netkit_only
from tests.engine.wire import HOST, Wire

pytestmark = [pytest.mark.root, pytest.mark.engine, netkit_only("it has no weave driver")]


class Host:
    """An engine, and the calls of its API that are about the overlay."""

    def __init__(self, wire: Wire) -> None:
        self.engine = Engine(wire)

    def ask(self, method: str, path: str = "", **body: Any) -> Any:
        client = Client(parse_host(self.engine.host, None))
        try:
            return client.call(method, f"/netkit/weave{path}", None, body or None)
        finally:
            client.close()

    def post(self, path: str, **body: Any) -> Any:
        return self.ask("POST", path, **body)

    @property
    def status(self) -> Any:
        return self.ask("GET")

    @property
    def service(self) -> Service:
        return Service(Folders(self.engine.root / "weave", self.engine.rundir / "weave"))

    @property
    def pid(self) -> int:
        with self.service.channel() as channel:
            return channel.pid

    def established(self) -> bool:
        status = self.status["Status"]
        return any(c["state"] == "established" for c in status["connections"]) if status else False

    def run(self, *flags: str, name: str) -> str:
        """Start a container on network weave; its address there."""
        self.engine.sleeper("--network", "weave", *flags, name=name)
        return self.engine.address(name, "weave")

    def pings(self, container: str, address: str) -> bool:
        ping = ("exec", container, "ping", "-c1", "-W4", address)
        return self.engine.docker(*ping, check=False).returncode == 0


def eventually(what: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    yield from two_hosts()


def two_hosts() -> Iterator[tuple[Host, Host]]:
    """The first host's peer is the second; both are launched, and stay so."""
    there = Wire.lay()
    with ExitStack() as stack:
        stack.callback(there.remove)
        found = []
        for end in (there, Wire(host=there.neighbour, neighbour=there.host)):
            host = Host(end)
            stack.callback(host.engine.destroy)
            host.engine.start()
            host.engine.load_image()
            found.append(host)
        first, second = found
        stack.callback(lambda: [print(h.engine.log_tail()) for h in found])
        assert first.post("/launch", Nickname="h1")["Running"]
        second.post("/launch", Nickname="h2", Peers=[HOST])
        eventually(second.established)
        yield first, second


def test_containers_of_two_hosts_reach_each_other(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    one, two = first.run(name="one"), second.run(name="two")
    eventually(lambda: first.pings("one", two))
    eventually(lambda: second.pings("two", one))


def test_addresses_are_allocated_by_the_hosts_together(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    given = [h.run(name=f"more{n}") for n in range(2) for h in hosts]
    assert len(set(given)) == len(given)
    third = first.run("--ip", "10.32.7.7", name="chosen")
    assert third == "10.32.7.7"
    taken = second.engine.docker(
        "run", "-d", "--network", "weave", "--ip", third, "busybox", "true", check=False
    )
    assert taken.returncode == 125
    assert f"{third} is in use at h1" in taken.stderr
