"""Measure published ports: to publish and remove them, and to connect to one of them.

Host ports are a range on both sides, or scattered at random on both, the same ones every time.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.measures import SLEEP, Measure, Sample, Scale, api
from bench.peers import IMAGE, Peer
from tests.engine.wire import HOST, inside

SERVE = ["httpd", "-f", "-p", "80", "-h", "/"]
FIRST_PORT, LAST_PORT = 10_000, 60_000  # in the engine's own namespace: all are free
CONNECTS = 300
# With a pause, since the server has a short backlog; the median leaves out other load.
CONNECT = """
import socket, statistics, sys, time
took = []
for _ in range(int(sys.argv[3])):
    time.sleep(0.002)
    with socket.socket() as s:
        s.settimeout(5)
        begin = time.perf_counter()
        s.connect((sys.argv[1], int(sys.argv[2])))
        took.append(time.perf_counter() - begin)
print(statistics.median(took) * 1e6)
"""
Bindings = dict[int, int]  # host port by container port


def consecutive(count: int) -> Bindings:
    return {FIRST_PORT + n: FIRST_PORT + n for n in range(count)}


def scattered(count: int) -> Bindings:
    chance = random.Random(count)
    inside_ports = chance.sample(range(1000, LAST_PORT), count)
    hosts = chance.sample(range(FIRST_PORT, LAST_PORT), count)
    return dict(zip(inside_ports, hosts, strict=True))


@dataclass
class Publishing:
    """Publish and remove the ports of one container; both measures share the samples."""

    bindings: Bindings
    cap: int  # at most so many ports for engines with a proxy process per port
    removals: dict[str, list[float]] = field(default_factory=dict)

    def publish(self, peer: Peer, scale: Scale) -> list[float]:
        if peer.name != "netkit" and len(self.bindings) > self.cap:
            return []
        up: list[float] = []
        down = self.removals[peer.name] = []
        for _ in range(self._repeats(peer, scale)):
            with api(peer) as client:
                begin = time.perf_counter()
                ident = _run(client, SLEEP, self.bindings)
                up.append(time.perf_counter() - begin)
                begin = time.perf_counter()
                client.remove_container(ident, force=True)
                down.append(time.perf_counter() - begin)
        return up

    def _repeats(self, peer: Peer, scale: Scale) -> int:
        """One repeat for engines with a process per port: a thousand ports take minutes."""
        slow = peer.name != "netkit" and len(self.bindings) >= 1000
        return 1 if slow else min(scale.repeats, 3)

    def remove(self, peer: Peer, _: Scale) -> list[float]:
        return self.removals.get(peer.name, [])


def _run(client: object, command: list[str], bindings: Bindings) -> str:
    """`docker run -d -p ...`; the container's id."""
    config = client.create_host_config(port_bindings=bindings)  # type: ignore[attr-defined]
    made = client.create_container(  # type: ignore[attr-defined]
        IMAGE, command, ports=[*bindings], host_config=config
    )
    try:
        client.start(made["Id"])  # type: ignore[attr-defined]
    except BaseException:
        client.remove_container(made["Id"], force=True)  # type: ignore[attr-defined]
        raise
    return str(made["Id"])


@dataclass
class Connecting:
    """Connect from a neighbour to one of many published ports.  Microseconds."""

    count: int
    cap: int

    def __call__(self, peer: Peer, scale: Scale) -> list[float]:
        if peer.engine is None or (peer.name != "netkit" and self.count > self.cap):
            return []
        bindings = scattered(self.count)
        probes = [*bindings.values()][:: max(1, self.count // 5)]
        bindings = {p: h for p, h in bindings.items() if h not in probes}
        with api(peer) as client:
            config = client.create_host_config(port_bindings={80: probes, **bindings})
            ident = client.create_container(
                IMAGE, SERVE, ports=[80, *bindings], host_config=config
            )["Id"]
            try:
                client.start(ident)
                return [_connect(peer, port) for port in probes]
            finally:
                client.remove_container(ident, force=True)


def _connect(peer: Peer, port: int) -> float:
    assert peer.engine is not None
    argv = [sys.executable, "-c", CONNECT, HOST, str(port), str(CONNECTS)]
    done = subprocess.run(
        inside(peer.engine.wire.neighbour, *argv),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"port {port} cannot be reached: {done.stderr[-300:]}")
    return float(done.stdout)


def parallel_with_ports(count: int) -> Sample:
    """`count` times `run -d -p`, all at once, five ports each, until the last has answered."""

    def sample(peer: Peer, scale: Scale) -> list[float]:
        out = []
        for _ in range(1 if scale.repeats < 5 else 2):
            begin = time.perf_counter()
            runs = [
                subprocess.Popen(
                    [*peer.cli, "run", "-d", *_five(n), IMAGE, *SLEEP],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                    env=peer.environment(),
                )
                for n in range(count)
            ]  # fmt: skip
            said = [run.communicate(timeout=300) for run in runs]
            out.append(time.perf_counter() - begin)
            with api(peer) as client:
                for container in client.containers(all=True):
                    client.remove_container(container["Id"], force=True)
            failed = [err for run, (_, err) in zip(runs, said, strict=True) if run.returncode]
            if failed:
                raise RuntimeError(f"{len(failed)} of {count} starts failed: {failed[0][:300]}")
        return out

    return sample


def _five(n: int) -> list[str]:
    ports = range(FIRST_PORT + 10 * n, FIRST_PORT + 10 * n + 10, 2)
    return [word for port in ports for word in ("-p", f"{port}:{port}")]


def measures(scale: Scale) -> list[Measure]:
    out: list[Measure] = []
    for count in scale.published:
        kinds: tuple[tuple[str, Callable[[int], Bindings]], ...] = (
            ("in a row", consecutive),
            ("scattered", scattered),
        )
        most = 1 if count <= 1000 else 3
        for kind, bindings in kinds if count > 1 else kinds[:1]:
            what = f"{count} ports {kind}" if count > 1 else "1 port"
            run = Publishing(bindings(count), scale.published_elsewhere)
            out.append(Measure(f"run -d with {what}", "s", run.publish, f"{most} s", most=most))
            out.append(Measure(f"rm -f of {what}", "s", run.remove, f"{most} s", most=most))
    few, many = 10, scale.published[-1]
    for count in (few, many):
        sample = Connecting(count, scale.published_elsewhere)
        out.append(Measure(f"connect, {count} published", "us", sample))
    for count in scale.parallel[:1]:
        out.append(
            Measure(
                f"{count} parallel run -d, 5 ports each", "s", parallel_with_ports(count),
                "a third of Docker's", ratio=1 / 3,
            )
        )  # fmt: skip
    return out
