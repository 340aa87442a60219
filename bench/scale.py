"""Measure one engine with many containers beside one with few:  python -m bench.scale [--quick].

Two netkitd run in namespaces of their own: one with --containers on --networks, --running of them
running, and one with a few.  Each operation is done on both in turn; figures are medians, in ms of
wall time and of the daemon's own processor time.  "flat" is a ratio of 1: what takes as long
whatever else is there.  Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker

from bench import memory
from bench.measures import SLEEP
from bench.peers import IMAGE, Peer, start

FEW = 10  # containers, half of them running, of the engine that is compared with
WORKERS = 8  # clients that fill an engine


@dataclass
class Subject:
    """An engine with its containers; `probe` is one that runs, on `network`, as on the other."""

    peer: Peer
    client: docker.APIClient
    probe: str = ""
    spare: str = ""  # an id of a container that was created and not started
    network: str = "scale-probe"
    wall: dict[str, list[float]] = field(default_factory=dict)  # ms, by operation
    processor: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, name: str, act: Callable[[], object]) -> None:
        before, begin = self.processor_time(), time.perf_counter()
        act()
        self.add(name, (time.perf_counter() - begin) * 1000, self.processor_time() - before)

    def add(self, name: str, wall: float, processor: float) -> None:
        self.wall.setdefault(name, []).append(wall)
        self.processor.setdefault(name, []).append(processor)

    def processor_time(self) -> float:
        assert self.peer.engine is not None
        return processor(self.peer.engine.pid)


def processor(pid: int) -> float:
    """Processor time of all threads of a process, ms: clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2) * 1000


def fill(subject: Subject, containers: int, running: int, networks: int) -> None:
    """Create networks and, spread over them, containers, of which the first ones are started."""
    client = subject.client
    names = [f"scale-{n}" for n in range(networks)]
    for name in (*names, subject.network):
        client.create_network(name, driver="bridge")

    def one(n: int) -> None:
        ident = _create(client, names[n % networks])
        if n < running:
            client.start(ident)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, range(containers)))
    subject.spare = _create(client, names[0])
    subject.probe = _create(client, subject.network, name="scale-probe")
    client.start(subject.probe)


def _create(client: docker.APIClient, network: str, **more: Any) -> str:
    host = client.create_host_config(network_mode=network)
    return str(client.create_container(IMAGE, SLEEP, host_config=host, **more)["Id"])


def operations(subject: Subject) -> None:
    """Each operation once."""
    client, do = subject.client, subject.measure
    do("list all", lambda: client.containers(all=True))
    do("list running", client.containers)
    do("list by name", lambda: client.containers(filters={"name": "scale-probe"}))
    do("list by network", lambda: client.containers(filters={"network": subject.network}))
    do("inspect", lambda: client.inspect_container(subject.probe))
    do("inspect by a prefix", lambda: client.inspect_container(subject.spare[:12]))
    do("network list", client.networks)
    do("network inspect", lambda: client.inspect_network(subject.network))
    do("info", client.info)
    made: list[str] = []
    do("create", lambda: made.append(_create(client, subject.network)))
    do("start", lambda: client.start(made[0]))
    do("stop", lambda: client.kill(made[0]) or client.wait(made[0]))
    do("remove", lambda: client.remove_container(made[0], v=True))
    do("connect", lambda: client.connect_container_to_network(subject.probe, "scale-0"))
    do("disconnect", lambda: client.disconnect_container_from_network(subject.probe, "scale-0"))
    do("network create", lambda: client.create_network("scale-one"))
    do("network remove", lambda: client.remove_network("scale-one"))
    do("events of the past", lambda: _events(client))


def _events(client: docker.APIClient) -> None:
    now = time.time()
    list(client.events(since=now - 3600, until=now, filters={"container": "scale-probe"}))


def idle(subject: Subject, seconds: float) -> None:
    """Processor time of the daemon per second without any request, ms."""
    before = subject.processor_time()
    time.sleep(seconds)
    subject.add("idle, a second", 1000.0, (subject.processor_time() - before) / seconds)


def restart(subject: Subject) -> None:
    """SIGTERM until the end; the start until `/_ping`, and until a container was started."""
    engine = subject.peer.engine
    assert engine is not None
    begin = time.perf_counter()
    engine.stop()
    subject.add("daemon: stop", (time.perf_counter() - begin) * 1000, 0.0)
    begin = time.perf_counter()
    engine.start()
    subject.add("daemon: until /_ping", _since(begin), processor(engine.pid))
    ident = _create(subject.client, subject.network)
    subject.client.start(ident)
    subject.add("daemon: until a start", _since(begin), processor(engine.pid))
    subject.client.remove_container(ident, force=True)


def _since(begin: float) -> float:
    return (time.perf_counter() - begin) * 1000


def sizes(subject: Subject, when: str) -> None:
    """Proportional memory of the daemon and of all processes of the engine, MiB."""
    assert subject.peer.engine is not None
    own = memory.engine_processes(subject.peer)
    subject.add(f"PSS of the daemon, {when}, MiB", memory.proportional(subject.peer.engine.pid), 0)
    subject.add(f"PSS of the engine, {when}, MiB", memory.total(own), 0)


def render(few: Subject, many: Subject) -> str:
    lines = [f"{'':36}{'few':>9}{'many':>9}{'ratio':>8}   {'processor':>9}{'many':>9}{'ratio':>8}"]
    for name in many.wall:
        columns = [f"{name:36}"]
        for kind in ("wall", "processor"):
            a = statistics.median(getattr(few, kind).get(name, [0.0]))
            b = statistics.median(getattr(many, kind)[name])
            ratio = f"{b / a:8.2f}" if a else f"{'-':>8}"
            columns.append(f"{a:9.1f}{b:9.1f}{ratio}   ")
        lines.append("".join(columns).rstrip())
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="60 containers, 12 running")
    parser.add_argument("--containers", type=int, default=2000)
    parser.add_argument("--running", type=int, default=500, help="of --containers")
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    given = parser.parse_args()
    if given.quick:
        given.containers, given.running, given.networks, given.repeats = 60, 12, 4, 2
    if os.geteuid() != 0:
        print("bench.scale: needs root for namespaces and containers", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        few, many = (_subject(stack) for _ in range(2))
        begin = time.perf_counter()
        fill(few, FEW, FEW // 2, given.networks)
        fill(many, given.containers, given.running, given.networks)
        print(f"bench.scale: filled in {time.perf_counter() - begin:.0f} s", flush=True)
        run(few, many, given.repeats, given.restarts)
        print(f"\n{given.containers} containers, {given.running} of them running")
        print(render(few, many))
        if given.json:
            found = {n: {"wall": s.wall, "processor": s.processor}
                     for n, s in (("few", few), ("many", many))}  # fmt: skip
            given.json.write_text(json.dumps(found, indent=1))
    return 0


def _subject(stack: ExitStack) -> Subject:
    peer = stack.enter_context(start("netkit"))
    client = docker.APIClient(base_url=peer.host, version="1.41", timeout=300)
    stack.callback(client.close)
    return Subject(peer, client)


def run(few: Subject, many: Subject, repeats: int, restarts: int) -> None:
    """All measurements, on both in turn."""
    both = (few, many)
    for each in both:
        sizes(each, "filled")
    for _ in range(repeats):
        for each in both:
            operations(each)
    for each in both:
        idle(each, 10.0)
        sizes(each, "after these")
    for _ in range(restarts):
        for each in both:
            with suppress(docker.errors.APIError):
                restart(each)
    for each in both:
        sizes(each, "started again")


if __name__ == "__main__":
    sys.exit(main())
