"""`netkit net watch` of a running engine: containers, packets, repairs, the end of the stream."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.engine import wire
from tests.engine.daemon import Engine, netkit, netkit_only

pytestmark = netkit_only("its own stream")
PATIENCE = 30.0  # seconds
Object = dict[str, Any]


class Watched:
    """The lines so far, added up."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.networks: dict[str, Object] = {}
        self.endpoints: dict[str, Object] = {}
        self.repaired: dict[str, int] = {}
        self.received: dict[str, int] = {}  # bytes by endpoint

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def step(self, deadline: float) -> bool:
        """Take in one line; False at the end of the stream."""
        line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        if line is None:
            return False
        found = json.loads(line)
        if found["Type"] == "traffic":
            for id, moved in found["Endpoints"].items():
                self.received[id] = self.received.get(id, 0) + moved["ReceiveBytes"]
            return True
        assert found["Type"] in {"state", "change"}, found
        for name, mine in (("Networks", self.networks), ("Endpoints", self.endpoints)):
            for id, now in found.get(name, {}).items():
                mine[id] = now
            for id in [id for id, now in mine.items() if now is None]:
                del mine[id]
        self.repaired |= found.get("Repaired", {})
        return True

    def of(self, container: str) -> tuple[str, Object]:
        """Its endpoint, as soon as there is one."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for id, endpoint in self.endpoints.items():
                if endpoint["Container"] == container:
                    return id, endpoint
            assert self.step(deadline)

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            try:
                assert self.step(deadline), "the stream ended"
            except queue.Empty:
                pytest.fail(f"{what}: not within {PATIENCE:g} s")

    def ended(self) -> bool:
        deadline = time.monotonic() + PATIENCE
        while self.step(deadline):
            pass
        return True


@contextmanager
def watching(engine: Engine, *flags: str) -> Iterator[Watched]:
    argv = [*netkit(), "-H", engine.host, "net", "watch", "--format", "json", *flags]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=engine.cli_environment(),
    ) as process:  # fmt: skip
        watched = Watched(process)
        try:
            yield watched
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            process.wait()
            watched._reader.join()


def test_what_changes_is_on_the_stream_and_so_are_packets(engine: Engine) -> None:
    engine.out("network", "create", "back")
    with watching(engine, "--traffic", "--interval", "200ms") as seen:
        seen.until("the networks", lambda: {"bridge", "back"} <= names(seen))
        engine.up("-p", "8087:80", "--network", "back", "busybox", "sleep", "100000", name="web")
        id, web = seen.of("web")
        assert web["Addresses"] == [f"{engine.address('web', 'back')}/16"]
        assert web["Ports"] == [
            {"Protocol": "tcp", "ContainerPort": 80, "HostIP": "0.0.0.0", "HostPort": 8087}
        ]
        assert seen.networks[web["Network"]]["Name"] == "back"
        engine.up("--network", "back", "busybox", "sleep", "100000", name="other")
        engine.out("exec", "other", "ping", "-c3", "-i0.1", "-s1000", "web")
        seen.until("the pings", lambda: seen.received.get(id, 0) >= 3 * 1028)
        engine.out("rm", "-f", "web")
        seen.until("the removal", lambda: id not in seen.endpoints)
        engine.out("rm", "-f", "other")
        engine.out("network", "rm", "back")
        seen.until("the removal of the network", lambda: "back" not in names(seen))


def names(seen: Watched) -> set[str]:
    return {n["Name"] for n in seen.networks.values()}


def test_repairs_are_seen_and_a_killed_daemon_ends_the_stream(own_engine: Engine) -> None:
    with watching(own_engine, "--interval", "200ms") as seen:
        own_engine.up("busybox", "sleep", "100000", name="web")
        seen.of("web")
        before = seen.repaired["links"]
        links = wire.run(own_engine.netns, "ip", "-o", "link", "show", "type", "veth").stdout
        names = (line.split()[1].partition("@")[0] for line in links.splitlines())
        veth = next(name for name in names if name.startswith("veth"))
        wire.run(own_engine.netns, "ip", "link", "set", veth, "nomaster")
        seen.until("the repair", lambda: seen.repaired["links"] > before)
        own_engine.kill9()
        assert seen.ended()
    own_engine.restart()
    with watching(own_engine) as seen:
        _, web = seen.of("web")
        assert web["Addresses"]
    done = own_engine.netkit("net", "watch", "--interval", "0.1s", check=False)
    why = "invalid interval 0.1: must be from 0.2 to 60 s"
    assert (done.returncode, done.stderr) == (1, f"Error response from daemon: {why}\n")
