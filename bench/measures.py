"""The measures: each is a function from a peer to samples, in its unit."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import docker

from bench import floors, memory
from bench.peers import IMAGE, Peer
from tests.engine.wire import ip

SEGMENT = "bench-lan0"
SLEEP = ["sleep", "1000000"]
Sample = Callable[[Peer, "Scale"], list[float]]


@dataclass(frozen=True)
class Scale:
    """Numbers of repeats, containers and ports."""

    repeats: int = 9
    parallel: tuple[int, ...] = (50, 100)
    listed: int = 500
    crowd: int = 50  # containers while memory is read
    published: tuple[int, ...] = (1, 100, 1000, 10_000)  # ports of one container
    published_elsewhere: int = 1000  # at most, of engines with a process for each


QUICK = Scale(repeats=3, parallel=(8,), listed=40, crowd=8,
              published=(1, 100, 1000), published_elsewhere=100)  # fmt: skip


@dataclass(frozen=True)
class Measure:
    name: str
    unit: str
    sample: Sample
    aim: str = ""  # what the project set out for, in words
    ratio: float | None = None  # of the peer's figure, at most
    most: float | None = None  # in the unit, at most
    floor: Callable[[Peer, int], list[float]] | None = None  # see `floors`; of (peer, repeats)
    floor_ratio: float | None = None  # of the floor's figure, at most


@contextmanager
def api(peer: Peer) -> Iterator[docker.APIClient]:
    client = docker.APIClient(base_url=peer.host, version="1.41", timeout=300)
    try:
        yield client
    finally:
        client.close()


def timed(act: Callable[[], object], unit: float = 1.0) -> float:
    begin = time.perf_counter()
    act()
    return (time.perf_counter() - begin) * unit


def _cli(peer: Peer, argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=120, env=peer.environment())


def wipe(peer: Peer) -> None:
    """Remove all containers, several at a time."""
    with api(peer) as client:
        idents = [c["Id"] for c in client.containers(all=True)]
    for n in range(0, len(idents), 50):
        subprocess.run(
            [*peer.cli, "rm", "-f", *peer.at_once, *idents[n : n + 50]],
            capture_output=True,
            timeout=300,
            check=False,
            env=peer.environment(),
        )


def run_by_cli(peer: Peer, scale: Scale) -> list[float]:
    argv = [*peer.cli, "run", "--rm", IMAGE, "echo", "hi"]
    return [timed(lambda: _cli(peer, argv)) for _ in range(scale.repeats)]


def run_by_own_cli(peer: Peer, scale: Scale) -> list[float]:
    argv = [*(peer.own_cli or peer.cli), "run", "--rm", IMAGE, "echo", "hi"]
    return [timed(lambda: _cli(peer, argv)) for _ in range(scale.repeats)]


def run_less_client(peer: Peer, scale: Scale) -> list[float]:
    """`docker run --rm IMAGE true`, less a `docker version` just before: the client's own start."""
    run, version = [*peer.cli, "run", "--rm", IMAGE, "true"], [*peer.cli, "version"]
    return [
        timed(lambda: _cli(peer, run), 1000) - timed(lambda: _cli(peer, version), 1000)
        for _ in range(scale.repeats)
    ]


def network_create(peer: Peer, scale: Scale) -> list[float]:
    names = [f"bench-{n}" for n in range(scale.repeats)]
    with api(peer) as client:
        try:
            return [timed(lambda n=n: client.create_network(n), 1000) for n in names]  # type: ignore[misc]
        finally:
            for name in names:
                client.remove_network(name)


def network_connect(peer: Peer, scale: Scale) -> list[float]:
    """A running container joins one more network."""
    return _connect(peer, scale, "bridge")


def switch_connect(peer: Peer, scale: Scale) -> list[float]:
    """As `network_connect`, on Open vSwitch; none where the engine has no such networks."""
    return _connect(peer, scale, "ovs") if peer.switched else []


def segment_connect(peer: Peer, scale: Scale) -> list[float]:
    """As `network_connect`, on the host's own segment, of netkit; the address is not probed for."""
    if peer.name != "netkit" or peer.engine is None:
        return []
    bridge = ("-n", peer.engine.wire.host, "link")
    ip(*bridge, "add", SEGMENT, "up", "type", "bridge")
    try:
        pool = docker.types.IPAMPool(subnet="10.66.0.0/24", gateway="10.66.0.1")
        ipam = docker.types.IPAMConfig(pool_configs=[pool])
        return _connect(peer, scale, "lan", {"bridge": SEGMENT, "probe": "0"}, ipam)
    finally:
        ip(*bridge, "del", SEGMENT)


def _connect(
    peer: Peer,
    scale: Scale,
    driver: str,
    options: dict[str, str] | None = None,
    ipam: docker.types.IPAMConfig | None = None,
) -> list[float]:
    out: list[float] = []
    with api(peer) as client:
        client.create_network("bench-join", driver=driver, options=options, ipam=ipam)
        container = client.create_container(IMAGE, SLEEP)["Id"]
        try:
            client.start(container)
            for _ in range(scale.repeats):
                out.append(
                    timed(
                        lambda: client.connect_container_to_network(container, "bench-join"), 1000
                    )
                )
                client.disconnect_container_from_network(container, "bench-join")
        finally:
            client.remove_container(container, force=True)
            client.remove_network("bench-join")
    return out


def exec_true(peer: Peer, scale: Scale) -> list[float]:
    with api(peer) as client:
        container = client.create_container(IMAGE, SLEEP)["Id"]
        try:
            client.start(container)

            def once() -> None:
                client.exec_start(client.exec_create(container, ["true"])["Id"])

            return [timed(once, 1000) for _ in range(scale.repeats)]
        finally:
            client.remove_container(container, force=True)


@contextmanager
def _many(peer: Peer, count: int) -> Iterator[docker.APIClient]:
    with api(peer) as client:
        try:
            for n in range(count):
                client.create_container(IMAGE, SLEEP, name=f"many-{n}")
            yield client
        finally:
            wipe(peer)


def listing(peer: Peer, scale: Scale) -> list[float]:
    """`GET /containers/json?all=1` with hundreds of containers, created and not started."""
    with _many(peer, scale.listed) as client:
        return [timed(lambda: client.containers(all=True), 1000) for _ in range(scale.repeats)]


def engine_memory(peer: Peer, scale: Scale) -> list[float]:
    """Proportional memory of all the engine's own processes beside running containers, MiB."""
    with api(peer) as client:
        try:
            for n in range(scale.crowd):
                client.start(client.create_container(IMAGE, SLEEP, name=f"crowd-{n}"))
            time.sleep(1)
            own = memory.engine_processes(peer)
            shares = [f"{n} {name} {size:.1f}" for name, (n, size) in memory.by_name(own).items()]
            print(f"bench: {peer.name}: {', '.join(shares)}", flush=True)
            return [memory.total(own)]
        finally:
            wipe(peer)


def daemon_memory(peer: Peer, scale: Scale) -> list[float]:
    """Proportional memory of the daemon alone (dockerd's without containerd), MiB."""
    if peer.engine is None:
        return []
    with _many(peer, scale.listed) as client:
        client.containers(all=True)
        return [memory.proportional(peer.engine.pid)]


def measures(scale: Scale) -> list[Measure]:
    third = 1 / 3
    return [
        Measure(
            "run --rm echo hi, docker CLI", "s", run_by_cli, "a third of Docker's", ratio=third
        ),
        Measure(
            "run --rm echo hi, own CLI", "s", run_by_own_cli, "a third of Docker's", ratio=third
        ),
        Measure("run --rm true less client", "ms", run_less_client, "1.6 of bare runc",
                floor=floors.runc_run, floor_ratio=1.6),
        Measure("network create", "ms", network_create, "5 ms", most=5, floor=floors.bridge),
        Measure("network connect", "ms", network_connect, "5 ms", most=5, floor=floors.pair),
        Measure("network connect, ovs", "ms", switch_connect, "12 ms", most=12),
        Measure("network connect, lan", "ms", segment_connect, "5 ms", most=5),
        Measure("exec true", "ms", exec_true),
        Measure(f"list {scale.listed} containers", "ms", listing, "100 ms", most=100),
        Measure(f"PSS beside {scale.crowd} running", "MiB", engine_memory, "100 MiB", most=100),
        Measure(
            f"PSS of daemon with {scale.listed} containers", "MiB", daemon_memory, "60 MiB", most=60
        ),
    ]
