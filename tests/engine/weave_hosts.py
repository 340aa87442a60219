"""Two engines on one wire, for the weave overlay between them, and what is asked of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from netkit.client.endpoint import parse_host
from netkit.client.engine import Engine as Client
from netkit.overlay import verbs
from netkit.overlay.folders import Folders
from netkit.overlay.service import Service
from netkit.testing.waiting import eventually
from tests.engine.daemon import Engine
from tests.engine.wire import HOST, Wire


class Host:
    """An engine, and the calls of its API that are about the overlay."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def ask(self, method: str, path: str = "", query: Any = None, **body: Any) -> Any:
        client = Client(parse_host(self.engine.host, None))
        try:
            return client.call(method, f"/netkit/weave{path}", query, body or None)
        finally:
            client.close()

    def lookup(self, name: str) -> Any:
        return self.ask("GET", "/dns/lookup", {"name": name})["Addresses"]

    def post(self, path: str, **body: Any) -> Any:
        return self.ask("POST", path, **body)

    @property
    def status(self) -> Any:
        return self.ask("GET")

    @property
    def links(self) -> tuple[str, str, str]:
        """Names of the bridge, the TAP and the VXLAN device of network weave."""
        id = self.engine.out("network", "inspect", "-f", "{{.Id}}", "weave")[:12]
        return f"wv-{id}", f"wt-{id}", f"wx-{id}"

    @property
    def service(self) -> Service:
        return Service(Folders(self.engine.root / "weave", self.engine.rundir / "weave"))

    @property
    def pid(self) -> int:
        with self.service.channel() as channel:
            return channel.pid

    def held(self) -> Any:
        """Addresses that are allocated here, and for what."""
        return self.service.call(verbs.Held())

    def established(self) -> bool:
        status = self.status["Status"]
        return any(c["state"] == "established" for c in status["connections"]) if status else False

    def ways(self) -> list[str]:
        status = self.status["Status"]
        found = status["connections"] if status else []
        return [c["way"] for c in found if c["state"] == "established"]

    def run(self, *flags: str, name: str) -> str:
        """Start a container on network weave; its address there."""
        self.engine.sleeper("--network", "weave", *flags, name=name)
        return self.engine.address(name, "weave")

    def pings(self, container: str, address: str) -> bool:
        ping = ("exec", container, "ping", "-c1", "-W4", address)
        return self.engine.docker(*ping, check=False).returncode == 0


Hosts = tuple[Host, Host]


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Hosts at `wire.HOST` and `wire.NEIGHBOUR` with the image; the overlay is not launched."""
    there = Wire.lay()
    with ExitStack() as stack:
        stack.callback(there.remove)
        engines = []
        for end in (there, Wire(host=there.neighbour, neighbour=there.host)):
            engine = Engine(end)
            stack.callback(engine.destroy)
            engine.start()
            engine.load_image()
            engines.append(engine)
        yield Host(engines[0]), Host(engines[1])


def launch(hosts: Hosts) -> None:
    """Start the overlay where it does not run, h2 with h1 as a peer; wait for their session."""
    for host, settings in zip(hosts, ({"Nickname": "h1"}, {"Nickname": "h2", "Peers": [HOST]}),
                              strict=True):  # fmt: skip
        if not host.status["Launched"]:
            assert host.post("/launch", **settings)["Running"]
    eventually(lambda: all(host.established() for host in hosts))


def emptied(hosts: Hosts) -> None:
    """Remove the overlay, and whatever tests have left on the engines but the image."""
    for host in hosts:
        if not host.engine.running():
            host.engine.restart()
        host.engine.clear(keep_networks=("weave",))
        host.post("/reset", Force=True)
        host.engine.clear()
