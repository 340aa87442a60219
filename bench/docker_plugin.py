"""Attach containers through dockerd: netkit as its plugin, and dockerd's own bridge, in turn.

    python -m bench.docker_plugin [--rounds 20]      # as root; needs a dockerd

attach    `docker network connect` of a running container, by dockerd's API
start     `docker start` of a container on the network
ports     the same with 100 published ports; dockerd starts a proxy process for each of its own
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial

import docker

from bench.measures import timed
from tests.engine.dockerd import docker_host

DRIVERS = ("bridge", "netkit-bridge")
PORTS = 100
FIRST = 21_600


def sleeper(api: docker.APIClient, name: str, network: str, ports: int = 0) -> None:
    bindings = {1000 + n: FIRST + n for n in range(ports)}
    config = api.create_host_config(network_mode=network, port_bindings=bindings)
    api.create_container(
        "busybox", ["sleep", "100000"], name=name, host_config=config, ports=[*bindings],
        stop_signal="SIGKILL",
    )  # fmt: skip


def measure(api: docker.APIClient, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Seconds by what was done and the driver."""
    found: dict[tuple[str, str], list[float]] = {}

    def note(what: str, driver: str, act: Callable[..., object], *args: object) -> None:
        found.setdefault((what, driver), []).append(timed(partial(act, *args)))

    sleeper(api, "runs", "bridge")
    api.start("runs")
    for driver in DRIVERS:
        sleeper(api, f"started-{driver}", f"net-{driver}")
        sleeper(api, f"ports-{driver}", f"net-{driver}", PORTS)
    for _ in range(rounds):
        for driver in DRIVERS:
            joining = ("runs", f"net-{driver}")
            note("attach", driver, api.connect_container_to_network, *joining)
            note("detach", driver, api.disconnect_container_from_network, *joining)
            note("start", driver, api.start, f"started-{driver}")
            note("stop", driver, api.stop, f"started-{driver}", 1)
    for _ in range(max(2, rounds // 10)):
        for driver in DRIVERS:
            note("100 ports", driver, api.start, f"ports-{driver}")
            note("100 ports, stop", driver, api.stop, f"ports-{driver}", 1)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m bench.docker_plugin", description=__doc__)
    p.add_argument("--rounds", type=int, default=20)
    given = p.parse_args(argv)
    with docker_host() as host:
        api = host.docker.client.api
        api.create_network("net-bridge", driver="bridge")
        ipam = docker.types.IPAMConfig(driver="netkit")
        api.create_network("net-netkit-bridge", driver="netkit-bridge", ipam=ipam)
        found = measure(api, given.rounds)
    print(f"{'':18}{'dockerd':>10}{'netkit':>10}   ms, medians; netkit / dockerd")
    for what in dict.fromkeys(what for what, _ in found):
        own, ours = (1000 * statistics.median(found[what, d]) for d in DRIVERS)
        print(f"{what:18}{own:10.1f}{ours:10.1f}   {ours / own:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
